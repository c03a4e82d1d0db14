"""What `signedge run` reads: frames or keypoints with their times, from a video, a camera or arrays."""

from __future__ import annotations

import queue
import re
import signal
import threading
import zipfile
from pathlib import Path
from typing import Any, Iterable, Iterator, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from runtime.errors import BadInput
from runtime.video import Camera, Frame, frame_rate, timed_frames

FIRST_CAMERA = "/dev/video0"
_ARRAYS = (".npy", ".npz")
_JUMP = 1.0  # seconds: a clock that goes back by more started anew, one that goes back by less trembled
_NUDGE = 1000  # ns
_PATIENCE = 0.1  # seconds after which a stopped camera is noticed


class Source(NamedTuple):
    """Frames (H,W,3) uint8 RGB or keypoints (V,3) with times, some unknown; `rate` a second, None: not known."""

    name: str
    items: Iterator[Frame]
    rate: Optional[float]
    live: bool = False
    joints: Tuple[str, ...] = ()  # of the keypoints, if the file names them


def open_source(name: str, modality: str, layout: Sequence[str], fps: Optional[float]) -> Source:
    """Open what a model of this `modality` (and keypoint `layout`) reads; `fps` serves where `name` does not say it.

    Raises `BadInput` that says what is wrong with it.
    """
    device = camera_device(name)
    if modality == "keypoints":
        return _keypoints(name, layout, fps)
    if device is not None:
        camera = Camera(device)
        return Source(str(device), camera.frames(), camera.rate or fps, live=True)
    path = Path(name)
    if path.suffix == ".npz":
        raise BadInput(f"{path}: this engine reads frames: a video, a folder of images, or an .npy (T,H,W,3) uint8")
    return Source(name, timed_frames(path), frame_rate(path) or fps)


def camera_device(name: str) -> Optional[Path]:
    """The device that `camera`, `camera:N` or a path under /dev means, None for anything else."""
    numbered = re.fullmatch(r"camera:(\d+)", name)
    if numbered:
        return Path(f"/dev/video{numbered[1]}")
    return Path(FIRST_CAMERA) if name == "camera" else Path(name) if name.startswith("/dev/") else None


def _keypoints(name: str, layout: Sequence[str], fps: Optional[float]) -> Source:
    path = Path(name)
    if camera_device(name) is not None or (path.suffix not in _ARRAYS and path.exists()):
        raise BadInput(
            f"{name}: this engine reads keypoints, not pixels: estimate them first (no pose estimator is part of this "
            f"version) and give an .npy (T,{len(layout)},3) float32 or an .npz with keypoints, fps and joints; "
            f"x and y as shares of the frame's width, confidence 0 to 1; joints: {_some(layout)}"
        )
    arrays = _load(path)
    points, rate = arrays.get("keypoints"), arrays.get("fps", fps)
    joints = tuple(str(joint) for joint in arrays.get("joints", ()))
    expected = len(joints or layout)
    if points is None or points.dtype.kind not in "fiu" or points.ndim != 3 or points.shape[1:] != (expected, 3):
        what = "no array of that name" if points is None else f"{points.shape} {points.dtype}"
        raise BadInput(
            f"{path}: keypoints must be (T,{expected},3): x, y, confidence of {_some(joints or layout)}; this is {what}"
        )
    return Source(name, map(Frame, points.astype(np.float32)), _positive(path, rate), joints=joints)


def _load(path: Path) -> Any:
    try:
        file = np.load(path, allow_pickle=False)
        if isinstance(file, np.ndarray):
            return {"keypoints": file}
        with file:
            return {key: file[key] for key in file.files}
    except FileNotFoundError as error:
        raise BadInput(f"missing file {path}") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(f"cannot read {path}: {error}") from error


def _positive(path: Path, rate: Any) -> Optional[float]:
    if rate is None:
        return None
    try:
        value = float(rate)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{path}: fps must be a number of frames a second") from error
    if not 0 < value < float("inf"):
        raise BadInput(f"{path}: fps is {value}; it must be above 0")
    return value


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def clocked(items: Iterable[Frame], rate: float) -> Iterator[Tuple[int, np.ndarray]]:
    """(ns, array) with times that only go forward: what has none follows at `rate`, a clock started anew goes on."""
    period = round(1e9 / rate)
    shift, last = 0, -period
    for item in items:
        now = last + period if item.time is None else round(item.time * 1e9) + shift
        if last - now > _JUMP * 1e9:
            shift += last + period - now
            now = last + period
        now = max(now, last + _NUDGE, 0)
        yield now, item.pixels
        last = now


def until(items: Iterable[Tuple[int, np.ndarray]], seconds: Optional[float]) -> Iterator[Tuple[int, np.ndarray]]:
    """The items of the first `seconds`, None: all."""
    first: Optional[int] = None
    for time_ns, item in items:
        first = time_ns if first is None else first
        if seconds is not None and time_ns - first >= seconds * 1e9:
            return
        yield time_ns, item


class Readable:
    """Items up to the first that cannot be read; `fault` says why. Raised at once when there is none before it."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items = items
        self.fault: Optional[BadInput] = None

    def __iter__(self) -> Iterator[Any]:
        count = 0
        try:
            for item in self._items:
                count += 1
                yield item
        except BadInput as error:
            if not count:
                raise
            self.fault = error


class Latest:
    """Items of a camera, read in a thread of their own: while nobody asks the oldest are lost, and counted."""

    def __init__(self, items: Iterable[Any], room: int) -> None:
        self._items = items
        self._waiting: queue.Queue[Any] = queue.Queue(room)
        self._stopped = False
        self.lost = 0

    def stop(self) -> None:
        """No more items. May be called by a handler of signals."""
        self._stopped = True

    def __iter__(self) -> Iterator[Any]:
        thread = threading.Thread(target=self._read, daemon=True)
        thread.start()
        try:
            while not self._stopped:
                try:
                    item, end = self._waiting.get(timeout=_PATIENCE)
                except queue.Empty:
                    continue
                if isinstance(end, BaseException):
                    raise end
                if end:
                    return
                yield item
        finally:
            self.stop()
            thread.join(timeout=1)

    def _read(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})  # they would break off a read
        end: Any = True
        try:
            for item in self._items:
                self._put((item, None))
                if self._stopped:
                    return
        except Exception as error:
            end = error
        self._put((None, end))

    def _put(self, given: Any) -> None:
        while True:
            try:
                self._waiting.put_nowait(given)
                return
            except queue.Full:
                self._drop()

    def _drop(self) -> None:
        try:
            self._waiting.get_nowait()
            self.lost += 1
        except queue.Empty:  # it was taken meanwhile
            pass
