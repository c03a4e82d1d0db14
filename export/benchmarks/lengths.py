"""Engines of one length against those of any: what windows cost in WER, and what padding costs or fixed sizes gain.

    python -m export.benchmarks.lengths MODEL.onnx... --corpus DIR [--frames 24 40 64 92] [--seconds 10]

MODELs are as `signedge export` wrote them, here in FP32. WER: the development split, `rise` over the graph of any
length with its 95 % interval (paired bootstrap); `windowed`: clips that are longer. Times: whole clips of that split,
spread over its lengths, one thread; the engines of one runtime take turns on each clip, and `time` is how many times
that of the graph of any length each takes (median of the pairs, 95 %): of all clips, then of those near its length.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distill.corpus.store import Corpus
from export.backends.base import write_graph
from export.backends.race import Ratio, race, ratio
from export.engine import read_exported
from export.gate import SPLIT, judge
from export.length import of_one_length
from runtime.engine import Engine
from runtime.errors import SignedgeError
from runtime.preprocess import prepare

RUNTIMES = ("onnxruntime", "openvino")
CLIPS = 16
NEAR = 0.8  # of the engine's length, up to which clips count as near it


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--frames", type=int, nargs="+", default=[24, 40, 64, 92])
    parser.add_argument("--seconds", type=float, default=10.0, help="of each race")
    asked = parser.parse_args()
    heads = ["network", "frames", "windowed", "WER %", "rise (95 %)", *(f"time, {name}" for name in RUNTIMES)]
    print(f"| {' | '.join(heads)} |")
    print("|---" * len(heads) + "|")
    try:
        for path in asked.models:
            with tempfile.TemporaryDirectory(prefix="signedge.") as work:
                _compare(path, Corpus(asked.corpus), asked.frames, asked.seconds, Path(work))
    except SignedgeError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


def _compare(path: Path, corpus: Corpus, lengths: Sequence[int], seconds: float, work: Path) -> None:
    source, contract = read_exported(path)
    files = {0: path}
    for frames in lengths:
        graph, agreed, _ = of_one_length(source, contract, frames)
        files[frames] = work / f"{frames}.onnx"
        write_graph(graph, agreed, files[frames])
    rows = sorted(corpus.split(SPLIT), key=lambda row: row.frames)
    chosen = [rows[int(place)] for place in np.linspace(0, len(rows) - 1, CLIPS)]
    clips = [corpus.load_for(row, contract.modality) for row in chosen]
    times: dict[str, Mapping[int, np.ndarray]] = {
        runtime: _times({frames: Engine.from_onnx(file, 1, runtime) for frames, file in files.items()}, clips, seconds)
        for runtime in RUNTIMES
    }
    baseline = Engine.from_onnx(path, 1)
    for frames, file in files.items():
        engine = baseline if frames == 0 else Engine.from_onnx(file, 1)
        result = judge(engine, baseline, corpus, 0.5)
        rise = "" if frames == 0 else f"{result.rise:+.2f} ({result.low:+.2f} to {result.high:+.2f})"
        windowed = sum(row.frames > frames for row in rows) if frames else 0
        near = [i for i, row in enumerate(chosen) if NEAR * frames <= row.frames <= frames]
        told = [_told(times[runtime], frames, near) for runtime in RUNTIMES]
        cells = [contract.name, str(frames or "any"), str(windowed), f"{result.wer:.2f}", rise, *told]
        print(f"| {' | '.join(cells)} |", flush=True)


def _times(engines: Mapping[int, Engine], clips: Sequence[Any], seconds: float) -> dict[int, np.ndarray]:
    """(rounds, clips) ns of each engine: the network on a prepared clip, or on all of its windows."""
    inputs = {
        name: [prepare(engine.contract, clip.frames, clip.keypoints) for clip in clips]
        for name, engine in engines.items()
    }
    calls = {
        str(name): lambda place, name=name, engine=engine: engine.log_probs(inputs[name][int(place)])
        for name, engine in engines.items()
    }
    taken = race(calls, [np.array(place) for place in range(len(clips))], seconds)
    return {int(name): times for name, times in taken.items()}


def _told(times: Mapping[int, np.ndarray], frames: int, near: Sequence[int]) -> str:
    if frames == 0:
        return f"{np.median(times[0]) / 1e6:.2f} ms"
    found = [_ratio(ratio(times[frames], times[0]))]
    return ", ".join(found + [_ratio(ratio(times[frames][:, near], times[0][:, near]))] * bool(near))


def _ratio(found: Ratio) -> str:
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


if __name__ == "__main__":
    sys.exit(main())
