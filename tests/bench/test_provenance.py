"""Provenance: what it says of the machine, and that it names no folder of it."""

from __future__ import annotations

import datetime
import shutil
import subprocess
from pathlib import Path

import pytest

from bench.provenance import checkout, command_line, provenance, versions


def test_a_provenance_holds_versions_host_and_utc_time():
    found = provenance("signedge bench", corpus="c")
    assert (found.command, found.corpus, found.checkpoint, found.engine) == ("signedge bench", "c", "", "")
    assert datetime.datetime.fromisoformat(found.time).utcoffset() == datetime.timedelta(0)
    assert {"python", "numpy", "signedge"} <= set(found.versions)
    assert {"cpu", "cores", "memory", "os"} <= found.host.keys() and found.host["cpu"]
    assert (found.commit is None) == (checkout()[0] is None) and (found.load is None or found.load >= 0)


def test_the_command_line_hides_folders_of_the_machine():
    words = [
        "/opt/env/bin/signedge",
        "bench",
        "/home/me/project/out/a.engine",
        "--corpus=/data/secret/corpus",
        "--seconds",
        "5",
    ]
    shown = command_line(words, Path("/home/me/project"))
    assert shown == "signedge bench out/a.engine --corpus=.../corpus --seconds 5"


def test_relative_words_and_options_stay_as_typed():
    words = ["signedge", "bench", "out/engine", "--set", "a=b", "--limit-clips=3"]
    assert command_line(words, Path("/home/me")) == "signedge bench out/engine --set a=b --limit-clips=3"


def test_a_program_without_arguments_has_a_name():
    assert command_line([], Path("/")) == "signedge"


def git(folder: Path, *words: str) -> str:
    """What git prints, in a repository that belongs to nobody in particular."""
    who = ("-c", "user.name=n", "-c", "user.email=e@example.org")
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_of_a_checkout_and_whether_it_was_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert checkout(tmp_path) == (None, None)
    git(tmp_path, "init", "-q")
    assert checkout(tmp_path) == (None, None)  # no commit yet
    (tmp_path / "code").mkdir()
    (tmp_path / "code/a.py").write_text("a = 1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "results.jsonl").write_text("{}")  # not tracked: no part of the code
    assert checkout(tmp_path) == (commit, False)
    (tmp_path / "code/a.py").write_text("a = 2")
    assert checkout(tmp_path) == (commit, True)
    assert checkout(tmp_path / "code") == (None, None)  # a package inside somebody's checkout
    monkeypatch.setenv("PATH", "")
    assert checkout(tmp_path) == (None, None)


def test_packages_that_are_not_installed_are_left_out():
    assert "tensorrt" not in versions()
