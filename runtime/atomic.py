"""Write a file or a folder whole or not at all: work under a temporary name beside the target, then rename."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import threading
from pathlib import Path
from typing import Any, Iterator, Union

from runtime.errors import BadInput

PathLike = Union[str, Path]


def _make_parent(target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"cannot create folder {target.parent}: {error.strerror or error}") from error


def _explain(target: Path, error: OSError) -> BadInput:
    why = error.strerror or f"{error} (the disk is full?)"  # numpy reports a short write without a number
    return BadInput(f"cannot write {target}: {why}; nothing was left behind")


def check_writable(path: Path) -> None:
    """Raise `BadInput` where a file could not be written, before the work that fills it; leaves no file."""
    if path.is_dir():
        raise BadInput(f"cannot write {path}: it is a folder; name a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror or error}") from error


def check_free(folder: Path, replace: bool = False) -> None:
    """Raise `BadInput` where `atomic_folder` would not write: at a file, or at a folder that holds something."""
    if not folder.name:
        raise BadInput(f"{folder} is this folder, or the root; name one that is to be made")
    if folder.is_file():
        raise BadInput(f"{folder} is a file; a folder was to be written there")
    try:
        taken = folder.exists() and any(folder.iterdir()) and not replace
    except OSError as error:
        raise _explain(folder, error) from error
    if taken:
        raise BadInput(f"{folder} already exists; choose another place or remove it first")


@contextlib.contextmanager
def unwinding_on_sigterm() -> Iterator[None]:
    """SIGTERM ends the process with status 143 by way of `SystemExit`, so that temporary files are removed."""

    def end(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():  # Python lets the main thread alone set handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def atomic_file(target: PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `target`; on success it replaces `target`, on any error it is removed.

    Raises `BadInput` when the place cannot be written or the disk is full.
    """
    target = Path(target)
    _make_parent(target)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(target)
    except OSError as error:
        raise _explain(target, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def atomic_folder(target: PathLike, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside `target`; on success it becomes `target`, on any error it is removed.

    An existing non-empty `target` is an error unless `replace`; it is then moved away only once the new one is whole.
    """
    target = Path(target)
    check_free(target, replace)
    _make_parent(target)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    except OSError as error:
        raise _explain(target, error) from error
    try:
        temporary.chmod(0o755)
        yield temporary
        previous = temporary.with_suffix(".old")
        if target.exists():
            target.replace(previous)
        try:
            temporary.replace(target)
        except BaseException:
            if previous.exists():
                previous.replace(target)
            raise
        shutil.rmtree(previous, ignore_errors=True)
    except OSError as error:
        raise _explain(target, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
