"""`signedge report`: what it writes, and how it fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import report_records as made_up

import signedge
from bench.record import Record, write_records


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("records") / "results.jsonl"
    kept: list[Record] = [record for record in made_up.build() if record.kind in ("system", "corpus")]
    write_records(path, kept)
    return path


def report(results: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = signedge.main(["report", str(results), "--out", str(out)])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_writes_the_folder_and_says_where(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = report(results, tmp_path / "a" / "b", capsys)
    assert status == 0
    assert out.strip() == str(tmp_path / "a" / "b" / "index.html")
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == {"index.html", "report.md", "figures"}
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


def test_replaces_an_older_report_but_no_other_folder(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "old"
    old.mkdir()
    (old / "index.html").write_text("old")
    assert report(results, old, capsys)[0] == 0
    assert (old / "index.html").read_text(encoding="utf-8") != "old"

    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("dear")
    status, _, error = report(results, home, capsys)
    assert status == 2
    assert "thesis.tex" in error
    assert [path.name for path in home.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no records"),
        (b"\n\n", "holds no records"),
        (b"not json\n", ":1: not a record"),
        (b'{"kind": "novel"}\n', ":1: not a record"),
        (b'{"kind": "note", "text": 3}\n', ":1: not a record"),
        (b"\xff\xfe\x00", "cannot read records"),
    ],
)
def test_broken_records_are_one_line_and_leave_nothing(
    content: bytes, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results.jsonl").write_bytes(content)
    status, _, error = report(tmp_path / "results.jsonl", tmp_path / "out", capsys)
    assert status == 2
    assert len(error.splitlines()) == 1
    assert words in error
    assert not (tmp_path / "out").exists()


def test_a_cut_line_is_named(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = results.read_text(encoding="utf-8")
    (tmp_path / "cut.jsonl").write_text(text[: len(text) - 200], encoding="utf-8")
    status, _, error = report(tmp_path / "cut.jsonl", tmp_path / "out", capsys)
    assert status == 2
    assert f":{len(text.splitlines())}: not a record" in error


def test_a_missing_file_and_a_file_in_the_way(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(tmp_path / "absent.jsonl", tmp_path / "out", capsys)[0] == 2
    (tmp_path / "file").write_text("x")
    status, _, error = report(results, tmp_path / "file", capsys)
    assert status == 2
    assert "is a file" in error


def test_the_report_needs_no_torch(results: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['onnxruntime'] = None; import signedge; "
        f"sys.exit(signedge.main(['report', {str(results)!r}, '--out', {str(tmp_path / 'out')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
