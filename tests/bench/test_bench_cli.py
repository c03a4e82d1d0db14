"""`signedge bench` as a person calls it."""

from __future__ import annotations

import json

import pytest
from bench_stage import write_corpus, write_engine, write_run

from bench.record import SystemRecord, read_records
from devices.host import detect
from runtime.trust import sign
from signedge import main


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    root = tmp_path_factory.mktemp("cli")
    corpus = write_corpus(root / "corpus", clips=3)
    checkpoint = write_run(root / "light", corpus.fingerprint())
    write_engine(root / "engine", checkpoint)
    return root


def test_engines_and_eager_runs_become_a_results_file(stage, capsys):
    words = ["bench", f"{stage}/engine", "--corpus", f"{stage}/corpus", "--out", f"{stage}/results.jsonl"]
    status = main([*words, "--eager", f"{stage}/light", "--threads", "1", "--seconds", "0", "--limit-clips", "2"])
    assert status == 0 and "2 systems" in capsys.readouterr().out
    rows = [record for record in read_records(stage / "results.jsonl") if isinstance(record, SystemRecord)]
    assert [row.system for row in rows] == ["light-eager", "light-fp32"]
    assert all(row.latency.threads == 1 and row.latency.samples >= 64 and row.latency.p90_ms for row in rows)
    assert all(row.peak_memory_mb > 10 and len(row.wer.utterances) == 2 for row in rows)
    assert str(stage) not in (stage / "results.jsonl").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--corpus", "{}/corpus"], "nothing to measure"),
        (["{}/engine", "--corpus", "{}/nothing"], "not a corpus folder"),
        (["{}/nothing", "--corpus", "{}/corpus"], "nothing is not an engine folder"),
        (["{}/engine", "--corpus", "{}/corpus", "--split", "dev"], "no clips in split 'dev'"),
        (["{}/engine", "--corpus", "{}/corpus", "--against", "nobody"], "no system 'nobody'"),
        (["{}/engine", "--corpus", "{}/corpus", "--eager", "{}/engine"], "not a run folder"),
        (["{}/engine", "{}/engine", "--corpus", "{}/corpus"], "two systems are called"),
        (["{}/engine", "--corpus", "{}/corpus", "--target", "toaster"], "no target 'toaster'"),
    ],
)
def test_wrong_use_is_one_line_and_leaves_nothing(stage, capsys, words, message):
    out = stage / "absent.jsonl"
    assert main(["bench", *(word.format(stage) for word in words), "--out", str(out)]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error
    assert not out.exists()


@pytest.mark.parametrize("place", ["corpus", "corpus/corpus.yaml/results.jsonl"])
def test_a_place_that_cannot_be_written_is_told_before_measuring(stage, capsys, monkeypatch, place):
    monkeypatch.setattr("bench.measure.measure", lambda *words, **more: pytest.fail("measured for nothing"))
    assert main(["bench", f"{stage}/engine", "--corpus", f"{stage}/corpus", "--out", f"{stage}/{place}"]) == 2
    error = capsys.readouterr().err.strip()
    assert "cannot write" in error and "\n" not in error


def test_engines_of_unknown_runs_become_a_report_that_claims_nothing(stage, capsys, tmp_path):
    engines = [
        write_engine(tmp_path / "vac", "c" * 64, "auto", seed=number).rename(tmp_path / f"vac-auto-{number}")
        for number in (1, 2)
    ]
    manifest = json.loads((engines[1] / "manifest.json").read_text())
    changed = {**sign(manifest), "decisions": [{"node": "a", "precision": "int8"}]}
    (engines[1] / "manifest.json").write_text(json.dumps(changed))
    out = tmp_path / "results.jsonl"
    words = ["bench", *map(str, engines), "--corpus", f"{stage}/corpus", "--out", str(out), "--against", "vac-auto-1"]
    assert main([*words, "--threads", "1", "--seconds", "0", "--limit-clips", "1"]) == 0
    warning = f"warning: {engines[1]}: its manifest was changed after it was signed\n"
    assert capsys.readouterr().err == warning
    first, second = (record for record in read_records(out) if isinstance(record, SystemRecord))
    assert (first.system, second.system, second.wer.against) == ("vac-auto-1", "vac-auto-2", "vac-auto-1")
    assert "its manifest was changed after it was signed" in second.reasons and second.valid
    assert (first.nodes, second.nodes) == ({}, {"int8": 1})
    assert main(["report", str(out), "--out", str(tmp_path / "page")]) == 0
    text = (tmp_path / "page/report.md").read_text()
    assert text.startswith("# The systems against the baseline") and "vac-auto-2 has 1 node in INT8" in text
    assert not any(claim in text for claim in ("eacher", "tudent", "unknown", "CTC", "istill"))


def test_a_terminal_is_no_need(stage, capsys):
    words = ["bench", f"{stage}/engine", "--corpus", f"{stage}/corpus", "--out", f"{stage}/quiet.jsonl"]
    assert main([*words, "--threads", "1", "--seconds", "0", "--limit-clips", "1"]) == 0
    assert capsys.readouterr().err == ""


def test_a_target_that_this_machine_is_not_is_refused(stage, capsys):
    words = ["bench", f"{stage}/engine", "--corpus", f"{stage}/corpus", "--out", f"{stage}/absent.jsonl"]
    foreign = "jetson" if detect().machine == "x86_64" else "x86-cpu"
    assert main([*words, "--target", foreign]) == 3
    assert "measure there" in capsys.readouterr().err and not (stage / "absent.jsonl").exists()
