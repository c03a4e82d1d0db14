"""What the C API costs over the engine itself, and what stepping streams together gains. One process, alternating.

    python -m runtime.benchmarks.streams ENGINE [--streams 64] [--frames 96] [--rounds 40] [--threads 1] [--workers 1]

Prints one JSON line: median milliseconds of a clip through ONNX Runtime directly and through a stream (its frames
pushed beforehand), their ratio; clips a second one by one and together, their ratio, and whether the glosses agree.
Clips are noise: the time of a network does not depend on what it sees.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import Callable, Dict, List

import numpy as np

from runtime.binding import WHOLE_CLIP, Model, Stream, step_together
from runtime.contract import Contract
from runtime.engine import ENGINE_FILE, INPUT, OUTPUT, open_session
from runtime.preprocess import prepare


def clip(contract: Contract, frames: int, seed: int) -> np.ndarray:
    """Noise in the model's own size."""
    rng = np.random.default_rng(seed)
    if contract.modality == "rgb":
        return rng.integers(0, 256, (frames, contract.input.height, contract.input.width, 3)).astype(np.uint8)
    return rng.uniform(0.1, 1, (frames, len(contract.input.layout), 3)).astype(np.float32)


def fill(stream: Stream, video: np.ndarray) -> None:
    """Push a whole clip and its end."""
    stream.reset()
    for number, frame in enumerate(video):
        stream.push(frame, number * 40_000_000)
    stream.finish()


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def overhead(model: Model, session: object, contract: Contract, frames: int, rounds: int) -> Dict[str, float]:
    """A clip through the engine directly and through the C API, in turns."""
    video = clip(contract, frames, 0)
    x = prepare(contract, video, video)
    stream = model.stream(chunk=WHOLE_CLIP)
    direct: List[float] = []
    through: List[float] = []
    for _ in range(rounds):
        direct.append(seconds(lambda: session.run([OUTPUT], {INPUT: x})))  # type: ignore[attr-defined]
        fill(stream, video)
        through.append(seconds(stream.step))
    ratios = [b / a for a, b in zip(direct[3:], through[3:], strict=True)]
    return {"direct_ms": 1e3 * median(direct), "stream_ms": 1e3 * median(through), "ratio": median(ratios)}


def together(model: Model, contract: Contract, frames: int, count: int, rounds: int) -> Dict[str, object]:
    """`count` clips, one stream after the other and all in one step, in turns."""
    videos = [clip(contract, frames, seed) for seed in range(count)]
    streams = [model.stream(chunk=WHOLE_CLIP) for _ in videos]
    times: Dict[str, List[float]] = {"one": [], "all": []}

    def one_by_one() -> None:
        for stream in streams:
            stream.step()

    read: Dict[str, List[List[str]]] = {}
    for _ in range(rounds + 1):  # the first round tries batch sizes
        for way, work in (
            ("one", one_by_one),
            ("all", lambda: step_together(streams)),
        ):
            for stream, video in zip(streams, videos, strict=True):
                fill(stream, video)
            times[way].append(seconds(work))
            read[way] = [[gloss.text for gloss in stream.poll()] for stream in streams]
    return {
        "one_by_one_clips_s": count / median(times["one"][1:]),
        "together_clips_s": count / median(times["all"][1:]),
        "gain": median(a / b for a, b in zip(times["one"][1:], times["all"][1:], strict=True)),
        "same_glosses": read["one"] == read["all"],
    }


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("engine", type=Path)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--frames", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    model = Model(given.engine, threads=given.threads, workers=given.workers)
    contract = Contract.from_json(model.contract)
    if contract.padding.frames:
        parser.error(f"{given.engine} takes clips of one length; this compares whole clips")
    file = given.engine / ENGINE_FILE if given.engine.is_dir() else given.engine
    session = open_session(file, given.threads)
    result: Dict[str, object] = {
        "engine": given.engine.name,
        "backend": model.backend,
        "threads": given.threads,
        "workers": given.workers,
    }
    result.update(overhead(model, session, contract, given.frames, given.rounds))
    result.update(together(model, contract, given.frames, given.streams, max(2, given.rounds // 8)))
    json.dump(
        {key: round(value, 4) if isinstance(value, float) else value for key, value in result.items()}, sys.stdout
    )
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
