"""Where a record comes from: command line, time, machine, versions. Nothing in it names a folder of this machine."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import posixpath
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.record import Provenance
from devices.host import detect
from devices.load import load_average

SOURCE = Path(__file__).parents[1]
PACKAGES = ("signedge", "numpy", "torch", "onnxruntime", "onnx", "fvcore")


def provenance(command: str, corpus: str = "") -> Provenance:
    """A Provenance of this moment on this machine; hashes of a single system are filled in where they are known."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    commit, dirty = checkout()
    return Provenance(
        command=command,
        time=now,
        host=detect().described(),
        versions=versions(),
        corpus=corpus,
        commit=commit,
        dirty=dirty,
        load=load_average(),
    )


def command_line(words: Sequence[str] | None = None, folder: Path | None = None) -> str:
    """The command as a person would type it: program name, then the words, absolute paths made relative to `folder`.

    A path outside `folder` (default: the working directory) keeps its last part only, so that a record can be
    published.
    """
    words = list(sys.argv if words is None else words)
    folder = Path.cwd() if folder is None else folder
    return " ".join([Path(words[0]).name if words else "signedge", *(_plain(word, folder) for word in words[1:])])


def _plain(word: str, folder: Path) -> str:
    option, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
    if not Path(value).is_absolute():
        return word
    path = Path(posixpath.normpath(value))
    shown = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else f".../{path.name}"
    return f"{option}{equals}{shown}"


def versions() -> dict[str, str]:
    """Version of Python and of each package of the toolchain that is installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def checkout(folder: Path = SOURCE) -> tuple[str | None, bool | None]:
    """Commit of the git checkout whose root `folder` is, and whether tracked files differ from it; else None, None.

    A folder inside somebody's checkout, as an installed package in its environment, is none.
    """
    top = _git(folder, "rev-parse", "--show-toplevel")
    if not top or Path(top).resolve() != folder.resolve():  # a status of somebody else's files may take long
        return None, None
    commit = _git(folder, "rev-parse", "HEAD")
    changed = _git(folder, "--no-optional-locks", "status", "--porcelain", "--untracked-files=no")
    if not commit or changed is None:
        return None, None
    return commit, bool(changed)


def _git(folder: Path, *words: str) -> str | None:
    """What git prints; None where there is no git, no checkout, or no answer."""
    own = {name: value for name, value in os.environ.items() if name not in ("GIT_DIR", "GIT_WORK_TREE")}
    try:
        asked = subprocess.run(["git", *words], cwd=folder, env=own, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return asked.stdout.strip() if asked.returncode == 0 else None
