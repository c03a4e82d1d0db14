"""Frames from wherever they are: a .npy array, a video of any container PyAV reads, or a folder of images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from runtime.errors import BadInput, MissingExtra

_LAST_FRAME = 0.5  # seconds that the last frame of a whole video may last
IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}


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
    if path.is_dir():
        for image in images_in(path):
            yield next(_decode(image))
    elif not path.exists():
        raise BadInput(f"missing file {path}")
    elif path.suffix == ".npy":
        yield from _map_array(path)
    else:
        yield from _decode(path)


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


def frame_rate(path: Path) -> float | None:
    """Frames a second by the container of a video; None if it does not say, and for folders and arrays."""
    if path.is_dir() or path.suffix == ".npy":
        return None
    if not path.exists():
        raise BadInput(f"missing file {path}")
    with _open(path) as container:
        rate = container.streams.video[0].average_rate
    return float(rate) if rate else None


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
        raise MissingExtra("av", "train") from error
    av.logging.set_level(av.logging.PANIC)  # a broken file is reported once, by us
    return av


def _open(path: Path) -> Any:
    """The opened container; it has a video stream."""
    av = _av()
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise BadInput(f"cannot decode {path}: {getattr(error, 'strerror', None) or error}") from error
    if not container.streams.video:
        container.close()
        raise BadInput(f"{path} has no video stream")
    return container


def _decode(path: Path) -> Iterator[np.ndarray]:
    count, seconds = 0, 0.0
    with _open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        promised, duration = stream.frames, _seconds(stream.metadata.get("DURATION", ""))
        try:
            for frame in container.decode(stream):
                count, seconds = count + 1, frame.time or 0.0
                # Telephones film sideways and say so in the stream; players turn the picture, so do we.
                yield np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))
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
