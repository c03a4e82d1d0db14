"""A run of a bundle's `build.sh`, wherever it is: followed line by line, the error that it ended with, what it left."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from runtime.atomic import atomic_folder
from runtime.device.build import ENGINE, LOGS
from runtime.device.folder import MANIFEST, write_json
from runtime.engine import read_manifest
from runtime.errors import BadInput, CriterionFailed, Refused, SignedgeError
from runtime.trust import sign

KINDS: dict[int, type[SignedgeError]] = {1: CriterionFailed, 3: Refused}  # by exit status; others: `BadInput`


@dataclass(frozen=True)
class Outcome:
    """What was kept of a run: the engine folder (None where there was none) and the folder of logs and records.

    `manifest` is the engine's; empty without one.
    """

    engine: Path | None
    logs: Path
    manifest: dict[str, Any]


@dataclass
class Running:
    """A process, and what it writes to stderr."""

    process: subprocess.Popen[bytes]
    _errors: IO[bytes]

    def follow(self, progress: Callable[[str], None]) -> int:
        """Pass on what it prints, a line a call, until it ends; its exit status."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            progress(line.decode("utf-8", "replace").rstrip("\n"))
        return self.process.wait()

    def errors(self) -> list[str]:
        """What it wrote to stderr, lines with words."""
        self._errors.seek(0)
        return [line.strip() for line in self._errors.read().decode("utf-8", "replace").splitlines() if line.strip()]


@contextlib.contextmanager
def started(words: Sequence[str], **options: Any) -> Iterator[Running]:
    """A process that is ended, if it has not, with the block; `options` are those of `subprocess.Popen`."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(words, stderr=errors, **{"stdin": subprocess.DEVNULL, **options})
        try:
            yield Running(process, errors)
        finally:
            if process.poll() is None:
                process.terminate()  # a build ends what it has started, and a kill would leave that at work
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    if pipe is not None:
                        pipe.close()
            process.wait()


def failure_of(status: int, said: Sequence[str], place: str = "") -> SignedgeError | None:
    """The error that a run ended with, by its exit status and what it said on stderr; None where it ended well.

    place: what the message begins with.
    """
    if status == 0:
        return None
    told = said[-1].removeprefix("signedge: ") if said else f"its build ended with status {status}"
    kind = KINDS.get(status, BadInput)
    if status == 1 and any(line.startswith("Traceback") for line in said):  # it did not even begin
        kind = BadInput
    return kind(f"{place}{told}")


def keep(left: Path, out: Path, wanted: bool) -> Outcome:
    """Logs from the folder `left`, where the run wrote, to `out`.logs; if wanted, the engine to `out`, signed here.

    Each is kept whole or not at all. Raises `BadInput` where the engine's manifest does not agree with its files.
    """
    logs = out.with_name(f"{out.name}.logs")
    if (left / LOGS).is_dir():
        with atomic_folder(logs, replace=True) as folder:
            _copy(left / LOGS, folder)
    if not wanted:
        return Outcome(None, logs, {})
    with atomic_folder(out) as folder:
        _copy(left / ENGINE, folder)
        write_json(folder / MANIFEST, sign(read_manifest(folder)))  # ours: we had it built
        manifest = read_manifest(folder)
    return Outcome(out, logs, manifest)


def _copy(source: Path, target: Path) -> None:
    for path in sorted(source.iterdir()) if source.is_dir() else ():
        shutil.copyfile(path, target / path.name)
