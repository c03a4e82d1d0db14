"""Where a record comes from: command line, time, machine, versions. Nothing in it names a folder of this machine."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.record import Provenance

PACKAGES = ("signedge", "numpy", "torch", "onnxruntime", "onnx", "fvcore")


def provenance(command: str, corpus: str = "", **hashes: str) -> Provenance:
    """A Provenance of this moment on this machine; `hashes` are checkpoint, onnx and engine (hex SHA-256)."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return Provenance(command=command, time=now, host=host(), versions=versions(), corpus=corpus, **hashes)  # type: ignore[arg-type]


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
    path = Path(os.path.normpath(value))
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


def host() -> dict[str, str]:
    """Processor, usable cores, memory, operating system."""
    return {
        "cpu": processor_name(),
        "cores": str(usable_cores()),
        "memory": _memory(),
        "os": f"{platform.system()} {platform.machine()}",
    }


def usable_cores() -> int:
    """Cores that this process may run on (a container or `taskset` may allow fewer than the machine has)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Model name of the processor; Linux tells it in `cpuinfo` (boards of ARM under `Model` or `Hardware`)."""
    fields: dict[str, str] = {}
    try:
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip().lower(), value.strip())
    except OSError:
        pass
    found = (fields.get(key) for key in ("model name", "model", "hardware"))
    return next((name for name in found if name and not name.isdigit()), platform.processor() or platform.machine())


def _memory() -> str:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return "unknown"
    return f"{size / 2**30:.1f} GiB"
