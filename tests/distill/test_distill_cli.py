"""`signedge distill` as a person calls it."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny

import signedge
from distill.cli import Report
from distill.corpus import Corpus
from distill.run import load_run


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return tiny.write_corpus(tmp_path_factory.mktemp("cli") / "corpus")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(tiny.skeleton().text())
    return path


def _distill(*words: object) -> int:
    return signedge.main(["distill", *map(str, words)])


def test_it_trains_and_prints_a_line_an_epoch(
    corpus: Corpus, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert _distill(recipe, "--corpus", corpus.folder, "--out", out, "--set", "training.epochs=3") == 0
    printed = capsys.readouterr().out
    assert [line.split()[1] for line in printed.splitlines() if line.startswith("epoch")] == ["1/3", "2/3", "3/3"]
    assert "dev WER" in printed and "complete" in printed and load_run(out).summary["epochs"] == 3
    assert _distill(recipe, "--corpus", corpus.folder, "--out", out, "--set", "training.epochs=3") == 0
    assert "epoch" not in capsys.readouterr().out
    assert _distill(recipe, "--corpus", corpus.folder, "--out", out) == 2


def test_a_corpus_of_another_track_is_warned_of(
    corpus: Corpus, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [recipe, "--corpus", corpus.folder, "--out", tmp_path / "run", "--set", "corpus.track=full"]
    assert _distill(*words) == 0
    warning = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: "))
    assert "full track" in warning and "'tiny' names no track" in warning


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["demo/nothing"], "no recipe 'demo/nothing'"),
        (["RECIPE", "--set", "training.epochs=none"], "training.epochs"),
        (["RECIPE", "--set", "model.widths=3"], "widths"),
        (["RECIPE", "--set", "model.name=gpt"], "model 'gpt' is not known"),
        (["RECIPE", "--corpus", "/nowhere"], "not a corpus folder"),
        (["RECIPE", "--set", "model.name=lrinet"], "lrinet"),
        (["RECIPE", "--set", "input.joints=[tail]"], "tail"),
    ],
)
def test_wrong_use_is_one_line_and_leaves_nothing(
    words: list[str], told: str, corpus: Corpus, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(recipe) if word == "RECIPE" else word for word in words]
    if "--corpus" not in words:
        words += ["--corpus", str(corpus.folder)]
    assert _distill(*words, "--out", tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert told in error and len(error.splitlines()) == 1 and "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_progress_shows_bars_in_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Report() as report:
        for event in (
            {"stage": "clips", "done": 1, "total": 2},
            {"stage": "clips", "done": 2, "total": 2},
            {"stage": "resume", "epoch": 1},
            {"stage": "skip", "fault": "clips.jsonl:3: clip 'x': no [glosses]"},
            {"stage": "step", "done": 1, "total": 2, "epoch": 2},
            {"stage": "epoch", "epoch": 2, "epochs": 2, "seconds": 1.0, "losses": {"ctc": 1.5}, "dev_wer": 12.0},
        ):
            report(event)
    printed = capsys.readouterr().out
    assert "going on after epoch 1" in printed and "no [glosses]" in printed and "dev WER 12.0 %" in printed
    assert "epoch 2" in printed
