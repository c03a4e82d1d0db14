"""`signedge score` as a person or a program meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import signedge
from bench.score.total import minimum_errors

ROOT = Path(__file__).parents[2]


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    hypothesis, reference = tmp_path / "h.ctm", tmp_path / "r.stm"
    hypothesis.write_text(
        "u1 1 0.00 0.01 regen\nu1 1 0.01 0.01 loc-NORD\nu1 1 0.02 0.01 IX\nu2 1 0.00 0.01 ü\nu2 1 0.01 0.01 WIND\n",
        encoding="utf-8",
    )
    reference.write_text(
        "u1 1 s1 0.0 9.0 REGEN NORD\nu2 1 s1 0.0 9.0 Ü WIND\nu3 1 s2 0.0 9.0 MORGEN SONNE\n", encoding="utf-8"
    )
    return str(hypothesis), str(reference)


def test_json_is_all_that_is_on_stdout(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert signedge.main(["score", "--protocol", "phoenix2014", *files, "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {
        "wer": pytest.approx(100 * 4 / 6),
        "correct": 3,
        "substitutions": 2,
        "deletions": 1,
        "insertions": 1,
        "reference_words": 6,
        "utterances": [
            {"id": "u1", "correct": 2, "substitutions": 0, "deletions": 0, "insertions": 1},
            {"id": "u2", "correct": 1, "substitutions": 1, "deletions": 0, "insertions": 0},
            {"id": "u3", "correct": 0, "substitutions": 1, "deletions": 1, "insertions": 0},
        ],
    }
    assert "warning: 1 utterance(s) (u3) have no line" in printed.err
    assert "each counts as [EMPTY]" in printed.err


def test_the_summary_shows_rate_interval_counts_and_the_worst(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert signedge.main(["score", *files]) == 0
    shown = capsys.readouterr().out
    assert "WER 83.33 %" in shown  # loc-NORD stays, and u3 is deleted
    assert "protocol plain" in shown
    assert "interval" in shown
    assert "bootstrap over 3 utterances" in shown
    assert "REF: REGEN ******** NORD" in shown
    assert "HYP: regen loc-NORD IX" in shown


def test_a_long_alignment_is_broken_below_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    (tmp_path / "r.stm").write_text("u 1 s 0 9 " + " ".join(f"GLOSS{index}" for index in range(12)) + "\n")
    (tmp_path / "h.ctm").write_text("u 1 0 0.1 GLOSS11\n")
    assert signedge.main(["score", str(tmp_path / "h.ctm"), str(tmp_path / "r.stm")]) == 0
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert [line[:6] for line in shown] == ["  REF:", "  HYP:"] * 3
    assert all(len(line) <= 40 for line in shown)


@pytest.mark.parametrize(
    ("ctm", "stm", "protocol", "message"),
    [
        ("x 1 0 1 A\n", "u 1 s 0 9 A\n", "plain", "h.ctm:1: utterance x is not in the reference"),
        ("u 1 0 A\n", "u 1 s 0 9 A\n", "plain", "h.ctm:1: a ctm line is"),
        ("u 1 0 1 A\n", "u 1 s\n", "plain", "r.stm:1: an stm line is"),
        ("u 1 0 1 A\n", "", "phoenix2014", "the reference is empty"),
        ("u 1 0 1 A\n", "u 1 s 0 9 A\n", "phoenix2015", "no scoring protocol 'phoenix2015'"),
    ],
)
def test_bad_input_is_one_line_on_stderr_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ctm: str, stm: str, protocol: str, message: str
) -> None:
    (tmp_path / "h.ctm").write_text(ctm)
    (tmp_path / "r.stm").write_text(stm)
    words = ["score", "--protocol", protocol, str(tmp_path / "h.ctm"), str(tmp_path / "r.stm"), "--json"]
    assert signedge.main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1


def test_what_may_mislead_is_said_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "h.ctm").write_text("a 1 9.50 0.1 X\na 1 10.00 0.1 Y\nb 1 0.00 0.1 X\nc 1 0.00 0.1 X\n")
    (tmp_path / "r.stm").write_text("a 1 s 0 99 X Y\nb 1 s 0 99\nc 1 s 0 99 X\n")
    words = [str(tmp_path / "h.ctm"), str(tmp_path / "r.stm"), "--json"]
    assert signedge.main(["score", "--protocol", "phoenix2014", *words]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["utterances"][1]["insertions"] == 1
    wordless, misordered = printed.err.splitlines()
    assert "(b) have no words in" in wordless
    assert "(a) have words out of time order" in misordered
    assert signedge.main(["score", *words]) == 0
    assert "out of time order" not in capsys.readouterr().err


def test_an_absent_file_is_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert signedge.main(["score", str(tmp_path / "no.ctm"), str(tmp_path / "no.stm")]) == 2
    assert "cannot read stm" in capsys.readouterr().err


def test_scoring_loads_no_learning_library(files: tuple[str, str]) -> None:
    code = (
        "import sys, signedge; signedge.main(['score', *sys.argv[1:], '--json']); "
        "print(sorted({'torch', 'onnxruntime', 'numpy', 'lightning'} & set(sys.modules)), file=sys.stderr)"
    )
    found = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stderr.splitlines()[-1] == "[]"


def test_the_plain_edit_distance_never_exceeds_what_sclite_counts() -> None:
    pytest.importorskip("editdistance")
    assert minimum_errors([(list("ABCDE"), list("XYZAB"))]) == 5  # sclite counts 6
    assert minimum_errors([(["ü", "regen"], ["Ü", "REGEN"]), (["A"], [])]) == 2


def test_without_editdistance_its_line_is_left_out(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "editdistance", None)
    assert signedge.main(["score", *files]) == 0
    shown = capsys.readouterr().out
    assert "WER 83.33 %" in shown
    assert "edit distance" not in shown
