"""Small videos and pictures for the tests of whoever reads them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_video(
    path: Path, count: int = 12, size: tuple[int, int] = (48, 64), codec: str = "mpeg4", turned: int = 0
) -> Path:
    """A video of (height, width) whose left half is red and right half blue, getting brighter."""
    height, width = size
    frames = np.zeros((count, height, width, 3), np.uint8)
    frames[:, :, : width // 2, 0] = 100 + 3 * np.arange(count)[:, None, None]
    frames[:, :, width // 2 :, 2] = 100 + 3 * np.arange(count)[:, None, None]
    return encode(path, frames, codec=codec, turned=turned)


def encode(
    path: Path,
    frames: np.ndarray,
    rate: int = 25,
    codec: str = "mpeg4",
    turned: int = 0,
    times: list[float] | None = None,
) -> Path:
    """Frames (T,H,W,3) RGB as a video; `times` in seconds make its frame rate vary."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        if turned:
            stream.set_display_rotation(turned)
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if times:
                frame.pts, frame.time_base = round(1000 * times[number]), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_image(path: Path, picture: np.ndarray) -> None:
    """One PNG."""
    with av.open(str(path), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
