"""Frames from wherever they are: a .npy array, a video of any container PyAV reads, or a folder of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from runtime.errors import BadInput, MissingExtra

IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}


def read_frames(path: Path) -> np.ndarray:
    """(T,H,W,3) uint8 RGB. Raises `BadInput` that names the file."""
    if path.is_dir():
        return _read_folder(path)
    if not path.exists():
        raise BadInput(f"missing file {path}")
    if path.suffix == ".npy":
        return _read_array(path)
    return _read_video(path)


def _read_array(path: Path) -> np.ndarray:
    try:
        frames = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadInput(f"cannot read frames {path}: {error}") from error
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise BadInput(f"frames {path} are {frames.shape} {frames.dtype}; (T,H,W,3) uint8 is needed")
    return frames


def _read_video(path: Path) -> np.ndarray:
    try:
        import av
    except ImportError as error:
        raise MissingExtra("av", "train") from error
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise BadInput(f"{path} has no video stream")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
            promised = stream.frames
    except av.FFmpegError as error:
        raise BadInput(f"cannot decode {path}: {error.strerror}") from error
    if not frames:
        raise BadInput(f"{path} has no frame that can be decoded")
    if promised and len(frames) < promised:
        raise BadInput(f"{path} is truncated: it promises {promised} frames, {len(frames)} can be decoded")
    return np.stack(frames)


def _read_folder(path: Path) -> np.ndarray:
    names = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGES)
    if not names:
        raise BadInput(f"folder {path} has no images")
    frames = [_read_video(file)[0] for file in names]
    if len({frame.shape for frame in frames}) > 1:
        raise BadInput(f"images in {path} differ in size")
    return np.stack(frames)
