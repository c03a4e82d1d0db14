"""Does every tensor that a graph stores in eight bits still carry its signal: each scale is held against real values.

A wrong scale need not show in the words that are read: a layer behind a residual sum can be silenced and the rest still
reads most clips. So beside the WER gate stands this one, which asks of every weight, bias and activation how much of it
is left after rounding and clipping, and names the one that is not.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from export.graph import GraphView
from export.precision.placement import PRODUCTS
from runtime.engine import INPUT, open_session
from runtime.errors import CriterionFailed

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

# Signal to noise of what eight bits keep, in decibels. The worst tensors of sound networks have 29 and more (teacher,
# LRINet and STGT of the demo, both flavours); after a scale 100 times too large or too small, 7 at most are left.
LEAST = 12.0
# Integers between the smallest and the largest that an activation takes. A peaked one keeps its few large values, and
# so its signal to noise, on a scale that is far too coarse; but of 255 levels a scale 100 times too large leaves 3.
FEWEST_LEVELS = 16
CLIPS = 8  # that activations are looked at on


@dataclass(frozen=True)
class Kept:
    """How much of one eight-bit tensor is left: its signal to noise, in dB, and the levels that it takes up."""

    tensor: str
    what: str  # activation, weight, bias
    decibel: float
    levels: int = 255

    @property
    def sound(self) -> bool:
        """Whether it carries its signal."""
        return self.decibel >= LEAST and self.levels >= FEWEST_LEVELS


def audit(original: ModelProto, written: ModelProto, clips: Iterable[np.ndarray]) -> list[Kept]:
    """What every eight-bit tensor of `written` keeps: weights and biases of `original`'s, activations of the float
    values that `written` itself rounds on `clips` (1,T',...). A tensor that is 0 throughout has nothing to lose.
    """
    return [*_constants(GraphView(original), GraphView(written)), *_activations(written, clips)]


def require(kept: Iterable[Kept], name: str) -> None:
    """Raise `CriterionFailed` naming the worst tensor, unless all keep their signal."""
    lost = sorted((item for item in kept if not item.sound), key=lambda item: item.decibel)
    if lost:
        worst, more = lost[0], f" ({len(lost) - 1} more)" if len(lost) > 1 else ""
        raise CriterionFailed(
            f"{name}: the {worst.what} '{worst.tensor}' does not survive eight bits: signal to noise is "
            f"{worst.decibel:.1f} dB ({LEAST:.0f} are asked for) on {worst.levels} levels of 255 (at least "
            f"{FEWEST_LEVELS}){more}; its range or scale is wrong"
        )


def _constants(original: GraphView, written: GraphView) -> Iterator[Kept]:
    """Of the products, matched by name."""
    before = {node.name: node for node in original.graph.node if node.op_type in PRODUCTS}
    for node in written.graph.node:
        if node.op_type not in PRODUCTS or node.name not in before:
            continue
        for index, what in ((1, "weight"), (2, "bias")):
            if index >= len(node.input) or index >= len(before[node.name].input):
                continue
            wanted, dequantise = original.value(before[node.name].input[index]), written.maker.get(node.input[index])
            if wanted is None or dequantise is None or dequantise.op_type != "DequantizeLinear":
                continue
            found = _dequantised(written, dequantise)
            alike = found is not None and found.shape == wanted.shape  # what cannot be compared is not sound
            decibel = _decibel(wanted, found) if found is not None and alike else float("nan")
            yield Kept(before[node.name].input[index], what, decibel)


def _dequantised(view: GraphView, node: NodeProto) -> np.ndarray | None:
    """What a DequantizeLinear of constants (or of a constant that is quantised in the graph) gives."""
    scale = view.value(node.input[1])
    zero = view.value(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    values = view.value(node.input[0])
    axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
    if scale is None:
        return None
    maker = view.maker.get(node.input[0])
    if values is None and maker is not None and maker.op_type == "QuantizeLinear":
        floats, own = view.value(maker.input[0]), view.value(maker.input[1])
        if floats is None or own is None:
            return None
        own = _along(own, floats.ndim, axis)
        values = np.clip(np.round(floats.astype(np.float64) / own), -128, 127)
    if values is None:
        return None
    offset = 0 if zero is None else _along(zero.astype(np.float64), values.ndim, axis)
    return np.asarray((values.astype(np.float64) - offset) * _along(scale.astype(np.float64), values.ndim, axis))


def _along(values: np.ndarray, rank: int, axis: int) -> np.ndarray:
    """One value an index of `axis`, shaped to multiply an array of that rank."""
    if values.size == 1:
        return values.reshape(())
    shape = [1] * rank
    shape[axis % rank] = values.size
    return values.reshape(shape)


def _activations(written: ModelProto, clips: Iterable[np.ndarray]) -> Iterator[Kept]:
    import onnx
    from onnx import TensorProto, helper

    view = GraphView(written)
    asked: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for node in written.graph.node:
        if node.op_type == "QuantizeLinear" and not view.is_constant(node.input[0]):
            scale, zero = view.value(node.input[1]), view.value(node.input[2]) if len(node.input) > 2 else np.int8(0)
            assert scale is not None and zero is not None
            asked[node.input[0]] = (scale, np.asarray(zero))
    copy = onnx.ModelProto()
    copy.CopyFrom(written)
    given = {item.name for item in copy.graph.output} | {item.name for item in copy.graph.input}
    for name in asked:
        if name not in given:
            kind = view.dtype(name) or TensorProto.FLOAT
            copy.graph.output.append(helper.make_tensor_value_info(name, kind, None))
    with tempfile.TemporaryDirectory(prefix="signedge.") as work:
        path = Path(work) / "audited.onnx"
        path.write_bytes(copy.SerializeToString())
        session = open_session(path, threads=1, optimise=False)
    names = [name for name in asked if name not in {item.name for item in written.graph.input}]
    signal, noise = dict.fromkeys(asked, 0.0), dict.fromkeys(asked, 0.0)
    low, high = dict.fromkeys(asked, np.inf), dict.fromkeys(asked, -np.inf)
    for x in clips:
        values = dict(zip(names, session.run(names, {INPUT: x}), strict=True))
        values.update({name: x for name in asked if name not in values})
        for name, found in values.items():
            scale, zero = asked[name]
            exact = found.astype(np.float64)
            limits = np.iinfo(zero.dtype)
            stored = np.clip(np.round(exact / float(scale)) + float(zero), limits.min, limits.max)
            rounded = (stored - float(zero)) * float(scale)
            signal[name] += float(np.square(exact).sum())
            noise[name] += float(np.square(exact - rounded).sum())
            low[name], high[name] = min(low[name], float(stored.min())), max(high[name], float(stored.max()))
    for name in asked:
        levels = int(high[name] - low[name]) if signal[name] > 0 else 255
        yield Kept(name, "activation", _ratio(signal[name], noise[name]), levels)


def _decibel(wanted: np.ndarray, found: np.ndarray) -> float:
    """Of a whole tensor: a channel of zeros, or of one tiny value, would otherwise speak for all."""
    exact = wanted.astype(np.float64)
    return _ratio(float(np.square(exact).sum()), float(np.square(exact - found).sum()))


def _ratio(signal: float, noise: float) -> float:
    if signal == 0:
        return np.inf
    return np.inf if noise == 0 else 10 * float(np.log10(signal / noise))
