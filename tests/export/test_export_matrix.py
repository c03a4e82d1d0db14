"""The matrix: what fits, what is lowered, what is refused and why; builds for real where a builder is here."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

import signedge
from export import matrix as matrices
from export.matrix import FAILED, FITS, LOWERED, REFUSED, Matrix, Row, as_markdown, exported_network, targets
from export.onnx_graph import ExportReport

HAS_RTX = importlib.util.find_spec("tensorrt_rtx") is not None


@pytest.fixture(scope="module")
def rows(exported: ExportReport) -> list[Row]:
    wanted = targets(["x86-vnni", "jetson-nano", "jetson-orin-nano-8gb", "rtx-4090@tensorrt-rtx"])
    return Matrix([exported_network(Path(exported.path))]).rows(wanted)


def cell(rows: list[Row], target: str, precision: str) -> Row:
    return next(row for row in rows if (row.target, row.precision) == (target, precision))


def test_nothing_is_left_unexplained(rows: list[Row]) -> None:
    assert len(rows) == 12 and not [row for row in rows if row.verdict == FAILED]
    for row in rows:
        assert row.why if row.verdict == REFUSED else row.built or row.not_built


def test_refusals_say_what_would_fit(rows: list[Row]) -> None:
    nano = cell(rows, "jetson-nano", "int8")
    assert nano.verdict == REFUSED and "would fit" in nano.why and "hardware-int8" in nano.why
    assert cell(rows, "x86-vnni", "fp16").verdict == REFUSED


def test_an_old_dialect_is_lowered_for(rows: list[Row]) -> None:
    nano = cell(rows, "jetson-nano", "fp32")
    assert nano.verdict == LOWERED and nano.lowerings["opset"] >= 1 and nano.dialect == "tensorrt-8.2"
    assert cell(rows, "x86-vnni", "fp32").verdict == FITS


def test_what_can_be_built_here_is(rows: list[Row]) -> None:
    assert "ran at" in cell(rows, "x86-vnni", "int8").built
    assert cell(rows, "jetson-orin-nano-8gb", "fp16").built == ""
    if not HAS_RTX:
        pytest.skip("needs tensorrt-rtx: pip install 'signedge[rtx]'")
    for precision in ("fp32", "fp16", "int8"):
        row = cell(rows, "rtx-4090", precision)
        assert row.built and row.layers["products"].get(precision, 0) > 0, row


def test_the_page_has_every_target_and_every_reason(rows: list[Row]) -> None:
    page = as_markdown(rows)
    for row in rows:
        assert row.target in page and row.why in page and row.not_built in page


def test_a_failure_is_told_and_fails_the_command(
    exported: ExportReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["matrix", str(exported.path), "--target", "x86-vnni", "--out", str(tmp_path)]
    assert signedge.main(base) == 0
    assert {row["verdict"] for row in json.loads((tmp_path / "matrix.json").read_text())} == {FITS, REFUSED}

    def broken(*arguments: object) -> tuple[str, str, dict[str, object]]:
        raise ArithmeticError("values that are not finite")

    monkeypatch.setattr(matrices, "_built", broken)
    assert signedge.main(base) == 1
    assert "without a rule that says why" in capsys.readouterr().err
    assert "FAILED" in (tmp_path / "matrix.md").read_text()
