"""Glosses of a live picture on a device: Python 3.8, numpy and libsignedge, nothing else.

    ffmpeg -loglevel error -f v4l2 -framerate 25 -video_size 640x480 -i /dev/video0 -f rawvideo -pix_fmt rgb24 - |
        PYTHONPATH=/path/to/signedge python3 live.py ENGINE 640 480 25

Any program that writes raw RGB frames serves. A line a final gloss; on a terminal the last line may still change.
"""

from __future__ import annotations

import sys
from typing import BinaryIO, Iterator

import numpy as np

from runtime import Gloss, Model
from runtime.abi import RGB
from runtime.errors import SignedgeError


def frames(pipe: BinaryIO, width: int, height: int) -> Iterator[np.ndarray]:
    """(height, width, 3) uint8 until the pipe ends."""
    size = height * width * 3
    while len(data := pipe.read(size)) == size:
        yield np.frombuffer(data, np.uint8).reshape(height, width, 3)


def show(glosses: list[Gloss]) -> None:
    terminal = sys.stdout.isatty()
    sys.stdout.write("\r\033[K" * terminal)
    for gloss in glosses:
        if gloss.final:
            print(f"{gloss.start:.2f} {gloss.text}")
    if terminal:
        sys.stdout.write(" ".join(gloss.text for gloss in glosses if not gloss.final))
    sys.stdout.flush()


def main(engine: str, width: int, height: int, fps: float) -> None:
    model = Model(engine)
    stream = model.stream(resample=abs(fps - model.info.fps) > 0.01 * model.info.fps)
    side = min(width, height)  # the centre square, as in training
    square = ((width - side) // 2, (height - side) // 2, side, side)
    for number, frame in enumerate(frames(sys.stdin.buffer, width, height)):
        stream.push_planes([frame], width, height, round(number * 1e9 / fps), RGB, crop=square)
        stream.step()
        show(stream.poll())
    stream.finish()
    stream.step()
    show(stream.poll())


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    try:
        main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
    except SignedgeError as error:
        sys.exit(str(error))
