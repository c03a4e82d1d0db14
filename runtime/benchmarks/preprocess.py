"""libsignedge's way from a BGR frame to the network's input against OpenCV's, in one process: a line of JSON.

    python -m runtime.benchmarks.preprocess [--source 640x480] [--target 56x56] [--rounds 2000]

OpenCV resizes with INTER_AREA to 8 bits, then scales, swaps channels and transposes in blobFromImage, on one thread.
Both ways take turns over the same eight frames. Times are medians of microseconds on one core.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np

from runtime import abi
from runtime.benchmarks.native import build_driver
from runtime.errors import BadInput

FRAMES = 8


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", type=_size, default=(640, 480), metavar="WxH")
    parser.add_argument("--target", type=_size, default=(56, 56), metavar="WxH")
    parser.add_argument("--rounds", type=int, default=2000)
    options = parser.parse_args()
    try:
        import cv2
    except ImportError:
        print("OpenCV is missing in this environment: pip install opencv-python-headless", file=sys.stderr)
        return 2
    cv2.setNumThreads(1)
    width, height = options.source
    frames = np.random.default_rng(0).integers(0, 256, (FRAMES, height, width, 3), dtype=np.uint8)
    try:
        with tempfile.TemporaryDirectory() as folder:
            driver = build_driver(Path(folder))
            ways = {
                "signedge": _signedge(driver, frames, options.target),
                "opencv": _opencv(cv2, frames, options.target),
            }
    except BadInput as error:
        print(error, file=sys.stderr)
        return 2
    medians = _measure(ways, options.rounds)
    print(
        json.dumps(
            {
                "source": "{}x{}".format(*options.source),
                "target": "{}x{}".format(*options.target),
                "instruction_set": driver.driver_instruction_set().decode(),
                "opencv_version": cv2.__version__,
                **{f"{name}_us": round(median, 1) for name, median in medians.items()},
                "opencv_over_signedge": round(medians["opencv"] / medians["signedge"], 2),
                "largest_difference": float(np.abs(ways["signedge"](0) - ways["opencv"](0)).max()),
            }
        )
    )
    return 0


def _size(text: str) -> Tuple[int, int]:
    width, height = text.split("x")
    return int(width), int(height)


def _signedge(driver: ctypes.CDLL, frames: np.ndarray, target: Tuple[int, int]) -> Callable[[int], np.ndarray]:
    preparer = ctypes.c_void_p(driver.image_create(*target, None))
    out = np.empty((3, target[1], target[0]), np.float32)
    message = ctypes.create_string_buffer(256)
    calls: List[Tuple[Any, ...]] = []
    for frame in frames:
        native = abi.Frame(format=abi.BGR, width=frame.shape[1], height=frame.shape[0])
        native.planes[0] = frame.ctypes.data
        calls.append((preparer, ctypes.byref(native), ctypes.c_void_p(out.ctypes.data), message, len(message)))

    def prepare(number: int) -> np.ndarray:
        if driver.image_prepare(*calls[number]) != abi.OK:
            raise BadInput(message.value.decode())
        return out

    return prepare


def _opencv(cv2: Any, frames: np.ndarray, target: Tuple[int, int]) -> Callable[[int], np.ndarray]:
    mean = (127.5, 127.5, 127.5)

    def prepare(number: int) -> np.ndarray:
        small = cv2.resize(frames[number], target, interpolation=cv2.INTER_AREA)
        return cv2.dnn.blobFromImage(small, 1 / 127.5, mean=mean, swapRB=True)[0]

    return prepare


def _measure(ways: Dict[str, Callable[[int], np.ndarray]], rounds: int) -> Dict[str, float]:
    times: Dict[str, List[int]] = {name: [] for name in ways}
    for number in range(rounds):
        for turn, (name, prepare) in enumerate(ways.items()):
            # Never the frame that the other way has just brought into the cache.
            frame = (number + turn * FRAMES // 2) % FRAMES
            start = time.perf_counter_ns()
            prepare(frame)
            times[name].append(time.perf_counter_ns() - start)
    return {name: float(np.median(values)) / 1000 for name, values in times.items()}


if __name__ == "__main__":
    sys.exit(main())
