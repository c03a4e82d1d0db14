"""Frames from wherever they are: a video of any container PyAV reads, a camera, a .npy array, a folder of images.

Corpora are read by it and so is what `signedge run` recognises: a network is fed as it was taught.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, Iterator, NamedTuple, Optional

import numpy as np

from runtime.errors import BadInput, MissingExtra

_LAST_FRAME = 0.5  # seconds that the last frame of a whole video may last
_TICK = 1e-6  # seconds of the unit in which containers say when they start
IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}


class Frame(NamedTuple):
    """Pixels (H,W,3) uint8 RGB, upright; seconds since the start of their container, None if it does not say."""

    pixels: np.ndarray
    time: Optional[float] = None


def read_frames(path: Path) -> np.ndarray:
    """(T,H,W,3) uint8 RGB. Raises `BadInput` that names the file."""
    if path.suffix == ".npy" and path.is_file():
        return np.array(_map_array(path))
    frames = list(iterate_frames(path))
    if len({frame.shape for frame in frames}) > 1:
        raise BadInput(f"the frames of {path} differ in size")
    return np.stack(frames)


def iterate_frames(path: Path) -> Iterator[np.ndarray]:
    """Frames (H,W,3) uint8 RGB one by one, upright. Raises `BadInput`; at the end, if the video is truncated."""
    for frame in timed_frames(path):
        yield frame.pixels


def timed_frames(path: Path) -> Iterator[Frame]:
    """As `iterate_frames`, with times where it is a video."""
    if path.is_dir():
        for image in images_in(path):
            yield Frame(next(_decode(_open(image), image)).pixels)
    elif not path.exists():
        raise BadInput(f"missing file {path}")
    elif path.suffix == ".npy":
        yield from map(Frame, _map_array(path))
    else:
        yield from _decode(_open(path), path)


class Camera:
    """A camera of Video4Linux, opened. `rate` frames a second is what it says of itself, None if nothing."""

    def __init__(self, device: Path) -> None:
        here = ", ".join(sorted(map(str, Path("/dev").glob("video*")))) or "none"
        if not device.exists():
            raise BadInput(f"there is no camera {device}; cameras of this machine: {here}")
        if not os.access(device, os.R_OK | os.W_OK):
            raise BadInput(f"this user may not open {device}; the group that may is usually called video")
        self.device = device
        self._container = _open(device, "v4l2")
        self.rate = _rate(self._container)

    def frames(self) -> Iterator[Frame]:
        """Frames as they are taken, until it is unplugged (`BadInput`) or nobody asks for more."""
        yield from _decode(self._container, self.device, "SLICE")  # one thread a frame would hold frames back


def count_frames(path: Path) -> int:
    """Number of frames, as cheaply as a broken file is noticed: array header, packets of a video, images decoded."""
    if path.is_file() and path.suffix == ".npy":
        return len(_map_array(path))
    if path.is_dir() or not path.exists():
        return sum(1 for _ in iterate_frames(path))
    with _open(path) as container:
        stream = container.streams.video[0]
        promised = stream.frames
        try:
            packets = [packet for packet in container.demux(stream) if packet.size]
        except _av().FFmpegError as error:
            raise BadInput(f"cannot read {path}: {error.strerror}") from error
    if packets and len(packets) == promised and not any(packet.is_corrupt for packet in packets):
        return promised
    return sum(1 for _ in iterate_frames(path))  # no count in the header, or something is wrong: look closely


def frame_rate(path: Path) -> Optional[float]:
    """Frames a second by the container of a video; None if it does not say, and for folders and arrays."""
    if path.is_dir() or path.suffix == ".npy":
        return None
    if not path.exists():
        raise BadInput(f"missing file {path}")
    with _open(path) as container:
        return _rate(container)


def images_in(folder: Path) -> list[Path]:
    """Image files of a folder in the order of their names. Raises `BadInput` if there are none."""
    names = sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGES)
    if not names:
        raise BadInput(f"folder {folder} has no images")
    return names


def _map_array(path: Path) -> np.ndarray:
    """The array memory-mapped, so that looking at its shape reads its header only."""
    try:
        frames = np.load(path, allow_pickle=False, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise BadInput(f"cannot read frames {path}: {error}") from error
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise BadInput(f"frames {path} are {frames.shape} {frames.dtype}; (T,H,W,3) uint8 is needed")
    return frames


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise MissingExtra("av", "run") from error
    av.logging.set_level(av.logging.PANIC)  # a broken file is reported once, by us
    return av


def _open(path: Path, form: Optional[str] = None) -> Any:
    """The opened container; it has a video stream."""
    av = _av()
    try:
        container = av.open(str(path), format=form)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise BadInput(f"cannot decode {path}: {getattr(error, 'strerror', None) or error}") from error
    if not container.streams.video:
        container.close()
        raise BadInput(f"{path} has no video stream")
    return container


def _rate(container: Any) -> Optional[float]:
    rate = container.streams.video[0].average_rate
    return float(rate) if rate else None


def _decode(container: Any, path: Path, threading: str = "AUTO") -> Iterator[Frame]:
    count, seconds = 0, 0.0
    with container:
        stream = container.streams.video[0]
        stream.thread_type = threading
        promised, duration = stream.frames, _seconds(stream.metadata.get("DURATION", ""))
        start = (container.start_time or 0) * _TICK
        try:
            with contextlib.closing(container.decode(stream)) as decoded:
                for frame in decoded:
                    count, seconds = count + 1, frame.time or 0.0
                    # Telephones film sideways and say so in the stream; players turn the picture, so do we.
                    upright = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
                    time = None if frame.time is None else frame.time - start
                    del frame  # it may lie in memory of the camera, which goes when the container is closed
                    yield Frame(np.ascontiguousarray(upright), time)
        except _av().FFmpegError as error:
            raise BadInput(f"cannot decode {path} after frame {count}: {error.strerror}") from error
    if not count:
        raise BadInput(f"{path} has no frame that can be decoded")
    if promised and count < promised:
        raise BadInput(f"{path} is truncated: it promises {promised} frames, {count} can be decoded")
    if seconds + _LAST_FRAME < duration:
        raise BadInput(f"{path} is truncated: it promises {duration:.1f} s, {seconds:.1f} s can be decoded")


def _seconds(clock: str) -> float:
    """`00:01:02.5` as seconds, 0 if it is nothing of the kind: Matroska and WebM count no frames, but say this."""
    try:
        hours, minutes, seconds = clock.split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except ValueError:
        return 0.0
