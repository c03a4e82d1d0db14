"""The corpus commands as a person meets them: output, exit status, one-line errors, and no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from corpus_samples import edit_rows, small_corpus, write_recordings
from video_samples import write_video

from distill.corpus import Corpus
from signedge import main


def test_check_tells_good_from_bad(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = small_corpus(tmp_path / "corpus")
    assert main(["corpus", "check", str(folder)]) == 0
    assert "train 4 clips, 12 glosses, 0.04 min" in capsys.readouterr().out
    edit_rows(folder, clip1={"glosses": []}, clip4={"frames": 1})
    assert main(["corpus", "check", str(folder)]) == 1
    shown = capsys.readouterr()
    assert "clips.jsonl:2: clip 'clip1': no glosses" in shown.out
    assert "in 2 rows" in shown.err
    assert len(shown.err.strip().splitlines()) == 1


def test_check_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = small_corpus(tmp_path / "corpus")
    edit_rows(folder, clip2={"glosses": ["a", "nope"]}, clip4={"signer": "signer0"})
    assert main(["corpus", "check", str(folder), "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert result["corpus"] == "small"
    assert [(fault["line"], fault["clip"]) for fault in result["faults"]] == [(3, "clip2")]
    assert result["splits"]["train"]["clips"] == 4
    assert "signer0" in result["warnings"][0]


def test_check_warns_of_splits_that_are_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = small_corpus(tmp_path / "corpus")
    edit_rows(folder, clip4={"split": "train"}, clip5={"split": "train"})
    assert main(["corpus", "check", str(folder)]) == 0
    warned = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert [line.split()[1] for line in warned] == ["dev:", "test:"]


def test_check_of_what_is_no_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["corpus", "check", str(tmp_path)]) == 2
    assert "not a corpus folder" in capsys.readouterr().err


def test_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_video(tmp_path / "a.mp4", 16)
    manifest = tmp_path / "m.csv"
    manifest.write_text("path,glosses,split\na.mp4,HELLO YOU,train\n")
    assert main(["corpus", "import", str(manifest), "--out", str(tmp_path / "corpus"), "--size", "24"]) == 0
    assert Corpus(tmp_path / "corpus").metadata.glosses == ["HELLO", "YOU"]
    told = capsys.readouterr().out
    assert "m, vocabulary of 2: Videos listed in m.csv." in told
    assert "train 1 clip, 2 glosses" in told and "dev   0 clips" in told
    stored = sum(path.stat().st_size for path in (tmp_path / "corpus").rglob("*") if path.is_file())
    assert f"{stored / 1e6:.1f} MB in {tmp_path / 'corpus'}" in told
    manifest.write_text("path,glosses,split\na.mp4,HELLO,train\nb.mp4,HELLO,train\nc.mp4,HELLO,exam\n")
    assert main(["corpus", "import", str(manifest), "--out", str(tmp_path / "second")]) == 2
    error = capsys.readouterr().err
    assert "m.csv:3: missing file" in error
    assert "m.csv:4: split" in error
    assert not (tmp_path / "second").exists()


def test_compose(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_recordings(tmp_path / "signs.npz", each=5)
    words = [
        "corpus",
        "compose",
        str(source),
        "--sentences",
        "3,1,1",
        "--no-frames",
        "--track",
        "hard",
        "--noise",
        "0.3",
    ]
    assert main([*words, "--out", str(tmp_path / "corpus")]) == 0
    told = capsys.readouterr().out
    assert told.startswith("signs, vocabulary of 5: Real isolated signs")
    assert "train 3 clips" in told and "test  1 clip," in told and " MB in " in told and "hard track" in told
    config = Corpus(tmp_path / "corpus").metadata.generator["config"]
    assert (config["track"], config["handicap"]["noise"], config["frames"]) == ("hard", 0.3, False)
    assert main([*words, "--out", str(tmp_path / "corpus")]) == 2
    assert "already exists" in capsys.readouterr().err
    assert main([*words[:3], "--sentences", "3", "--out", str(tmp_path / "other")]) == 2
    assert "three counts are needed" in capsys.readouterr().err


def test_synth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["corpus", "synth", "--sentences", "3,1,1", "--size", "32", "--out"]
    assert main([*words, str(tmp_path / "corpus"), "--set", "longest=3"]) == 0
    told = capsys.readouterr().out
    assert "Generated signing" in told and "train 3 clips" in told and " MB in " in told and "track" not in told
    corpus = Corpus(tmp_path / "corpus")
    assert corpus.metadata.kind == "synthetic"
    assert max(len(row.glosses) for row in corpus.rows) <= 3
    capsys.readouterr()
    assert main([*words, str(tmp_path / "other"), "--set", "colour=red"]) == 2
    assert "colour" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "other"), "--set", "gloses=30"]) == 2
    assert "gloses: there is no such field, did you mean glosses?" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "other"), "--set", "colour"]) == 2
    assert main([*words, str(tmp_path / "other"), "--set", "glosses=["]) == 2
    assert "the value is not YAML" in capsys.readouterr().err


def test_corpus_rooms_never_import_torch() -> None:
    code = (
        "import sys, distill.corpus.cli, distill.corpus.check, distill.corpus.compose, distill.corpus.manifest, "
        "distill.corpus.synth.generate; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2]).returncode == 0
