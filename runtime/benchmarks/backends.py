"""Backends of libsignedge on the same engines, in one process: a table of medians.

    python -m runtime.benchmarks.backends ENGINE... [--backends onnxruntime,openvino] [--threads 1] [--frames 64]
                                          [--rounds 100]

The backends take turns, round by round, so that whatever else the machine does falls on all of them. Times are
milliseconds of one run of the network, batch 1; `ratio` is the first backend's time over this one's: above 1 is faster.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import List

import numpy as np

from runtime.binding import Model
from runtime.contract import Contract
from runtime.errors import SignedgeError


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("engines", nargs="+", metavar="ENGINE", help="engine folders or ONNX files with a contract")
    parser.add_argument("--backends", default="onnxruntime,openvino")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--frames", type=int, default=64, help="frames of the clip, before padding")
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    names = options.backends.split(",")
    print(f"{'engine':<28}{'backend':<22}{'ms':>9}{'p10':>9}{'p90':>9}{'ratio':>8}{'apart':>10}")
    try:
        for engine in options.engines:
            models = [Model(engine, options.threads, backend=name) for name in names]
            print("\n".join(_rows(Path(engine).name, models, options.frames, options.rounds)), flush=True)
    except SignedgeError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _rows(engine: str, models: List[Model], frames: int, rounds: int) -> List[str]:
    x, steps = _input(models[0], frames)
    outputs = [model.run(x, steps) for model in models]
    times = np.array([[_seconds(model, x, steps) for model in models] for _ in range(rounds)]) * 1e3
    medians, low, high = np.median(times, axis=0), *np.percentile(times, (10, 90), axis=0)
    return [
        f"{engine:<28}{model.backend:<22}{medians[i]:9.3f}{low[i]:9.3f}{high[i]:9.3f}{medians[0] / medians[i]:8.2f}"
        f"{np.abs(outputs[i] - outputs[0]).max():10.1e}"
        for i, model in enumerate(models)
    ]


def _input(model: Model, frames: int) -> "tuple[np.ndarray, int]":
    contract = Contract.from_json(model.contract)
    padding, padded = contract.padding, contract.padding.total(frames)
    rgb = contract.modality == "rgb"
    shape = (3, contract.input.height, contract.input.width) if rgb else (len(contract.input.joints), 5)
    x = np.random.default_rng(0).normal(size=(1, padded, *shape)).astype(np.float32)
    return x, contract.steps(padded - padding.left - padding.right)


def _seconds(model: Model, x: np.ndarray, steps: int) -> float:
    start = time.perf_counter()
    model.run(x, steps)
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
