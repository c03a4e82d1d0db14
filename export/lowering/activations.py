"""Activations and other element-wise operators that came late, written in those that every runtime has."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from export.graph import GraphView, attributes
from export.lowering.emit import Emit
from runtime.errors import Refused

if TYPE_CHECKING:
    from onnx import NodeProto

SAYS = "the operator written in simpler ones"


def _gelu(emit: Emit, x: str, found: dict[str, Any]) -> str:
    half = emit.constant(0.5, like=x)
    one = emit.constant(1.0, like=x)
    if found.get("approximate", "none") == "tanh":
        cube = emit.op("Mul", emit.op("Mul", x, x), x)
        inner = emit.op("Add", x, emit.op("Mul", cube, emit.constant(0.044715, like=x)))
        curve = emit.op("Tanh", emit.op("Mul", inner, emit.constant(math.sqrt(2 / math.pi), like=x)))
    else:
        curve = emit.op("Erf", emit.op("Mul", x, emit.constant(math.sqrt(0.5), like=x)))
    return emit.op("Mul", emit.op("Mul", x, half), emit.op("Add", curve, one))


def _hard_swish(emit: Emit, x: str, found: dict[str, Any]) -> str:
    return emit.op("Mul", x, emit.op("HardSigmoid", x, alpha=1 / 6, beta=0.5))


def _mish(emit: Emit, x: str, found: dict[str, Any]) -> str:
    return emit.op("Mul", x, emit.op("Tanh", emit.op("Softplus", x)))


def _swish(emit: Emit, x: str, found: dict[str, Any]) -> str:
    alpha = found.get("alpha", 1.0)
    inner = x if alpha == 1.0 else emit.op("Mul", x, emit.constant(alpha, like=x))
    return emit.op("Mul", x, emit.op("Sigmoid", inner))


def _reciprocal(emit: Emit, x: str, found: dict[str, Any]) -> str:
    return emit.op("Div", emit.constant(1.0, like=x), x)


def _cast_like(emit: Emit, x: str, found: dict[str, Any]) -> str:
    kind = emit.view.dtype(emit.node.input[1])
    if not kind:
        raise Refused(f"node {emit.node.name} (CastLike): the type to cast to is unknown")
    return emit.op("Cast", x, to=kind)


def _shrink(emit: Emit, x: str, found: dict[str, Any]) -> str:
    bound, bias = found.get("lambd", 0.5), found.get("bias", 0.0)
    zero = emit.constant(np.float32(0), like=x)
    low = emit.op("Add", x, emit.constant(bias, like=x))
    high = emit.op("Sub", x, emit.constant(bias, like=x))
    middle = emit.op("Where", emit.op("Less", x, emit.constant(-bound, like=x)), low, zero)
    return emit.op("Where", emit.op("Greater", x, emit.constant(bound, like=x)), high, middle)


WRITTEN: dict[str, Callable[[Emit, str, dict[str, Any]], str]] = {
    "CastLike": _cast_like,
    "Gelu": _gelu,
    "HardSwish": _hard_swish,
    "Mish": _mish,
    "Reciprocal": _reciprocal,
    "Shrink": _shrink,
    "Swish": _swish,
}
OPS = frozenset(WRITTEN)


def run(view: GraphView, node: NodeProto) -> list[NodeProto]:
    """The nodes that replace `node`."""
    emit = Emit(view, node)
    return emit.finish(WRITTEN[node.op_type](emit, node.input[0], attributes(node)), node.output[0])
