"""Calibration: which training clips are looked at, and which range each tensor takes on them."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from runtime.engine import INPUT, open_session
from runtime.errors import BadInput
from runtime.hashing import sha256_bytes

if TYPE_CHECKING:
    from onnx import ModelProto

    from distill.corpus.schema import ClipRow

Range = tuple[float, float]
SAMPLE_STEP = 61  # one value in so many is kept; prime, so that it does not walk along one channel or column
LEVELS = 255  # steps of an unsigned 8-bit tensor


def choose_clips(rows: Sequence[ClipRow], count: int, seed: int) -> list[ClipRow]:
    """`count` clips (or all, if there are fewer) with the lengths and signers of `rows`, in file order.

    The rows, sorted by length, are cut into `count` equal slices and one is drawn from each, so that the lengths
    follow those of the corpus; of each slice a clip of the signer that is furthest behind their share is taken.
    """
    if count < 1:
        raise BadInput(f"calibration needs one clip at least; {count} were asked for")
    if not rows:
        raise BadInput("the corpus has no training clips to calibrate on")
    count = min(count, len(rows))
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(rows))  # ties in length and share are broken by the seed, not by file order
    by_length = sorted(order, key=lambda index: rows[index].frames)
    share = {signer: number / len(rows) for signer, number in Counter(row.signer for row in rows).items()}
    taken: Counter[str] = Counter()
    chosen = []
    for step in range(count):
        piece = by_length[step * len(rows) // count : (step + 1) * len(rows) // count]
        index = max(piece, key=lambda i: share[rows[i].signer] * (step + 1) - taken[rows[i].signer])
        taken[rows[index].signer] += 1
        chosen.append(index)
    return [rows[index] for index in sorted(chosen)]


def fingerprint(clips: Iterable[ClipRow]) -> str:
    """Hash of the ids of the clips."""
    return sha256_bytes("\n".join(clip.id for clip in clips).encode())


def minmax(sample: np.ndarray, low: float, high: float) -> Range:
    """Everything that was seen."""
    return low, high


def percentile(sample: np.ndarray, low: float, high: float) -> Range:
    """All but the outermost 0.01 % of the values at either end."""
    inner = np.quantile(sample, [0.0001, 0.9999])
    return max(low, float(inner[0])), min(high, float(inner[1]))


def least_error(sample: np.ndarray, low: float, high: float) -> Range:
    """The range, shrunk evenly towards 0, whose rounding and clipping together cost the least squared error."""
    best, least = (low, high), np.inf
    for factor in np.linspace(1.0, 0.3, 36):
        bottom, top = min(low * factor, 0.0), max(high * factor, 0.0)
        scale = (top - bottom) / LEVELS or 1.0
        read = np.clip(np.round(sample / scale), round(bottom / scale), round(top / scale)) * scale
        error = float(np.square(read - sample, dtype=np.float64).mean())
        if error < least:
            best, least = (bottom, top), error
    return best


METHODS: dict[str, Callable[[np.ndarray, float, float], Range]] = {
    "minmax": minmax,
    "percentile": percentile,
    "mse": least_error,
}


def ranges(
    model: ModelProto, tensors: Sequence[str], clips: Iterable[np.ndarray], method: str, work: Path
) -> dict[str, Range]:
    """The range of every tensor of `tensors` over the inputs `clips`, each (1,T',...), by `method` of `METHODS`.

    The smallest and largest value and every 61st value are taken inside the graph, so memory does not grow with the
    size of the feature maps. `work` is a folder for a temporary model. Raises `BadInput` for an unknown method, no
    clips, or values that are not finite.
    """
    if method not in METHODS:
        raise BadInput(f"no calibration method '{method}'; known: {', '.join(METHODS)}")
    seen, samples = observe(model, tensors, tensors, clips, work)
    return {name: clipped(name, samples[name], seen[name], method) for name in tensors}


def extremes(model: ModelProto, tensors: Sequence[str], clips: Iterable[np.ndarray]) -> dict[str, Range]:
    """The smallest and largest value of every tensor of `tensors` over `clips`, finite or not."""
    with tempfile.TemporaryDirectory(prefix="signedge.") as work:
        return observe(model, tensors, [], clips, Path(work))[0]


def observe(
    model: ModelProto, tensors: Sequence[str], sampled: Sequence[str], clips: Iterable[np.ndarray], work: Path
) -> tuple[dict[str, Range], dict[str, np.ndarray]]:
    """Run `clips` once: the extremes of every tensor of `tensors`, and values of those of `sampled`.

    Raises `BadInput` if there are no clips. `work` is a folder for a temporary model.
    """
    path = work / "observed.onnx"
    path.write_bytes(_observed(model, tensors, set(sampled)).SerializeToString())
    session = open_session(path, threads=1, optimise=False)
    path.unlink()
    names = [output.name for output in session.get_outputs() if output.name.startswith("observe:")]
    lows, highs = dict.fromkeys(tensors, np.inf), dict.fromkeys(tensors, -np.inf)
    samples: dict[str, list[np.ndarray]] = {name: [] for name in sampled}
    unknown: set[str] = set()
    seen = 0
    for x in clips:
        seen += 1
        for name, value in zip(names, session.run(names, {INPUT: x}), strict=True):
            _, what, tensor = name.split(":", 2)
            if what == "low":
                lows[tensor] = min(lows[tensor], float(value))
            elif what == "high":
                highs[tensor] = max(highs[tensor], float(value))
            elif what == "unknown":
                unknown.update([tensor] if value else [])
            else:
                samples[tensor].append(value)
    if not seen:
        raise BadInput("calibration got no clips")
    found = {name: (np.nan, np.nan) if name in unknown else (lows[name], highs[name]) for name in tensors}
    return found, {name: np.concatenate(values) for name, values in samples.items()}


def clipped(name: str, sample: np.ndarray, seen: Range, method: str) -> Range:
    """The range of tensor `name`, 0 included, by `method`. Raises `BadInput` for values that are not finite."""
    low, high = seen
    if not (np.isfinite(low) and np.isfinite(high)):
        raise BadInput(f"tensor {name} is not finite on the calibration clips, so INT8 has no range for it")
    bottom, top = METHODS[method](sample, low, high)
    return min(bottom, 0.0), max(top, 0.0)


def _observed(model: ModelProto, tensors: Sequence[str], sampled: set[str]) -> ModelProto:
    """A copy of the model with outputs `observe:low|high|unknown:TENSOR`, and `observe:some:TENSOR` for those sampled.

    `unknown` says whether a value is NaN: the smallest and largest value may pass over it.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    numbers = {"flat": -1, "begin": 0, "end": 2**62, "axis": 0, "stride": SAMPLE_STEP}
    for name, value in numbers.items():
        graph.initializer.append(numpy_helper.from_array(np.array([value], dtype=np.int64), f"observe.{name}"))
    every = [f"observe.{name}" for name in ("begin", "end", "axis", "stride")]
    for tensor in tensors:
        parts = ("low", "high", "nan", "one", "unknown", "flat", "some")
        low, high, nan, one, unknown, flat, some = (f"observe:{part}:{tensor}" for part in parts)
        graph.node.append(helper.make_node("ReduceMin", [tensor], [low], keepdims=0))
        graph.node.append(helper.make_node("ReduceMax", [tensor], [high], keepdims=0))
        graph.node.append(helper.make_node("IsNaN", [tensor], [nan]))
        graph.node.append(helper.make_node("Cast", [nan], [one], to=TensorProto.FLOAT))
        graph.node.append(helper.make_node("ReduceMax", [one], [unknown], keepdims=0))
        given = [low, high, unknown]
        if tensor in sampled:
            graph.node.append(helper.make_node("Reshape", [tensor, "observe.flat"], [flat]))
            graph.node.append(helper.make_node("Slice", [flat, *every], [some]))
            given.append(some)
        graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in given)
    return copy
