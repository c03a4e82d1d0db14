"""The comparison of INT8 placements runs and tells all that it compares."""

from __future__ import annotations

import sys

import pytest

from distill.corpus.store import Corpus
from export.benchmarks import placements
from export.onnx_graph import ExportReport


@pytest.mark.slow
def test_every_placement_is_told_in_one_row(
    exported: ExportReport, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["placements", exported.path, "--corpus", str(corpus.folder), "--clips", "4", "--rounds", "2"]
    monkeypatch.setattr(sys, "argv", command)
    assert placements.main() == 0
    told = capsys.readouterr()
    rows = {line[:24].strip(): line[24:].split() for line in told.out.splitlines()[2:]}
    assert list(rows) == ["fp32", "ours", "ours, products only", "ORT default", "ORT u8s8 per channel"] and not told.err
    assert rows["fp32"][:3] == ["0", "0", "0"]
    assert int(rows["ours"][1]) < int(rows["ORT default"][1])  # pairs of Q/DQ
