"""Attention (opset 23) as matrix products and a softmax, for runtimes that have no such operator.

A mask becomes -10000 rather than minus infinity: far enough below any score, and a number that float16 holds.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from export.graph import GraphView, attributes
from export.lowering.emit import Emit
from runtime.errors import Refused

if TYPE_CHECKING:
    from onnx import NodeProto

OPS = frozenset({"Attention"})
SAYS = "attention written as matrix products and a softmax"
MASKED = -1e4
# What is written here. An attribute of later versions, such as a window, may be there if it says -1 or 0: none.
WRITTEN = frozenset(
    {"is_causal", "kv_num_heads", "q_num_heads", "qk_matmul_output_mode", "scale", "softcap", "softmax_precision"}
)


def run(view: GraphView, node: NodeProto) -> list[NodeProto]:
    """The nodes that replace `node`: queries, keys, values (B,H,T,D) or (B,T,H*D).

    Raises `Refused` for caches, windows, further outputs, and fewer heads of keys than of queries.
    """
    emit, found = Emit(view, node), attributes(node)
    _refuse_what_is_not_written(view, node, found)
    flat = view.rank(node.input[0]) == 3
    heads = int(found.get("q_num_heads", 0))
    q, k, v = (_by_heads(emit, name, heads) if flat else name for name in node.input[:3])
    scale = found.get("scale") or 1 / math.sqrt(_depth(view, node, heads))
    q = emit.op("Mul", q, emit.constant(scale, like=node.input[0]))
    scores = emit.op("MatMul", q, emit.op("Transpose", k, perm=[0, 1, 3, 2]))
    cap = found.get("softcap", 0.0)
    if cap:  # before the mask, which a cap would lift
        scores = _capped(emit, scores, cap, node.input[0])
    y = emit.op("MatMul", _weights(emit, scores, q, k, found), v)
    if flat:
        y = emit.op("Reshape", emit.op("Transpose", y, perm=[0, 2, 1, 3]), emit.ints(0, 0, -1))
    return emit.finish(y, node.output[0])


def _refuse_what_is_not_written(view: GraphView, node: NodeProto, found: dict[str, Any]) -> None:
    def refuse(what: str) -> None:
        raise Refused(f"node {node.name} (Attention): {what} cannot be written in simpler operators here")

    if any(node.input[4:]):
        refuse("a cache of past keys and values")
    later = sorted(name for name in found if name not in WRITTEN and found[name] not in (-1, 0))
    if later:
        refuse(f"its {later[0]}")
    if any(name in view.users or name in view.outputs for name in node.output[1:] if name):
        refuse("more than the first output")
    if found.get("q_num_heads", 0) != found.get("kv_num_heads", 0):
        refuse("another number of heads for keys than for queries")
    shapes = [view.shape(name) for name in node.input[:2]]
    if any(shape is None for shape in shapes):
        refuse("an unknown number of axes")
    if len(shapes[0] or ()) == 4 and (shapes[0] or ())[1] != (shapes[1] or ())[1]:
        refuse("another number of heads for keys than for queries")


def _by_heads(emit: Emit, x: str, heads: int) -> str:
    """(B,T,H*D) -> (B,H,T,D)."""
    return emit.op("Transpose", emit.op("Reshape", x, emit.ints(0, 0, heads, -1)), perm=[0, 2, 1, 3])


def _depth(view: GraphView, node: NodeProto, heads: int) -> int:
    """Numbers a head."""
    last = (view.shape(node.input[0]) or (None,))[-1]
    if not isinstance(last, int):
        raise Refused(f"node {node.name} (Attention): the width of its queries is unknown, and no scale is given")
    return last // heads if view.rank(node.input[0]) == 3 else last


def _softmax(emit: Emit, scores: str, precision: int) -> str:
    """Over the keys, in the type asked for."""
    own = emit.view.dtype(emit.node.input[0])
    if precision in (0, own):
        return emit.op("Softmax", scores, axis=-1)
    return emit.op("Cast", emit.op("Softmax", emit.op("Cast", scores, to=precision), axis=-1), to=own)


def _capped(emit: Emit, scores: str, cap: float, like: str) -> str:
    number = emit.constant(cap, like=like)
    return emit.op("Mul", emit.op("Tanh", emit.op("Div", scores, number)), number)


def _weights(emit: Emit, scores: str, q: str, k: str, found: dict[str, Any]) -> str:
    """What each key counts for each query: a softmax over the keys that it sees. One that sees none gets zeros."""
    from onnx import TensorProto

    mask = emit.node.input[3] if len(emit.node.input) > 3 else ""
    chosen = mask and emit.view.dtype(mask) == TensorProto.BOOL
    if mask and not chosen:
        scores = emit.op("Add", scores, mask)
    seen = [mask] if chosen else []
    if found.get("is_causal", 0):  # each query sees the first key, at least
        seen.append(_earlier(emit, q, k))
    if not seen:
        return _softmax(emit, scores, found.get("softmax_precision", 0))
    zero, one, never = (emit.constant(value, like=emit.node.input[0]) for value in (0.0, 1.0, MASKED))
    both = emit.op("And", *seen) if len(seen) > 1 else seen[0]
    scores = emit.op("Add", scores, emit.op("Where", both, zero, never))
    weights = _softmax(emit, scores, found.get("softmax_precision", 0))
    return emit.op("Mul", weights, emit.op("Where", both, one, zero)) if chosen else weights


def _earlier(emit: Emit, q: str, k: str) -> str:
    """Which keys (columns) come no later than each query (rows)."""
    start, step = emit.constant(np.int64(0)), emit.constant(np.int64(1))
    ends = [emit.op("Gather", emit.op("Shape", x), emit.constant(np.int64(2)), axis=0) for x in (q, k)]
    rows, columns = (emit.op("Range", start, end, step) for end in ends)
    return emit.op("GreaterOrEqual", emit.unsqueeze(rows, [1]), emit.unsqueeze(columns, [0]))
