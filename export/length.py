"""A graph of one length, for what takes no other (a Jetson's DLA), or runs faster so: its sizes are written into it.

A clip that is shorter is padded with its last frame, a longer one is read through windows (runtime/windows.py).
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from export.lowering import prove
from export.onnx_graph import quiet, with_contract
from runtime.contract import Contract
from runtime.errors import BadInput, MissingExtra, Refused

if TYPE_CHECKING:
    from onnx import ModelProto

MOST = 4096  # frames: DLA takes no more maps at once, and what is folded for the length grows with its square


def of_one_length(model: ModelProto, contract: Contract, frames: int) -> tuple[ModelProto, Contract, float]:
    """`model` for clips of `frames` frames, its contract, and by how much it differs there (ONNX Runtime, log-probs).

    Raises `BadInput` for a length that the contract does not allow, `CriterionFailed` where what was written computes
    something else.
    """
    if contract.padding.frames:
        raise BadInput(f"the file is of one length already, {contract.padding.frames} frames: give the one it is from")
    stride, ahead = contract.frame_stride, contract.steps(max(contract.lookahead, 0)) * contract.frame_stride
    units = math.lcm(stride, contract.padding.multiple)
    least = -(-(ahead + stride) // units) * units
    if frames % units or not least <= frames <= MOST:
        says = f"from {least} to {MOST // units * units} in steps of {units}"
        raise BadInput(f"'{contract.name}' cannot be made for {frames} frames: it takes {says}")
    padding = dataclasses.replace(contract.padding, frames=frames)
    shift = min(contract.shift, frames - ahead)
    fixed = dataclasses.replace(contract, chunk=frames, shift=shift, padding=padding)
    graph = with_length(model, padding.total(frames))
    difference = max(item.difference for item in prove(model, graph, fixed))
    return with_contract(graph, fixed), fixed, difference


def window(contract: Contract) -> int:
    """The length to take where none is asked for: the contract's window, or, as for streams, 256 frames."""
    units = math.lcm(contract.frame_stride, contract.padding.multiple)
    return -(-(contract.chunk or 256) // units) * units


def with_length(model: ModelProto, frames: int) -> ModelProto:
    """A copy for one clip of `frames` padded frames T': what depends on sizes alone is computed once, here.

    Raises `BadInput` for a graph whose input is not (clips, frames, ...).
    """
    import onnx

    try:
        import onnxsim
    except ImportError as error:
        raise MissingExtra("onnxsim", "export") from error
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    dims = copy.graph.input[0].type.tensor_type.shape.dim if copy.graph.input else ()
    if len(dims) < 2:
        raise BadInput(f"the graph has no input (clips, frames, ...) that an engine of {frames} frames could have")
    for dim, size in zip(dims, (1, frames), strict=False):
        if dim.HasField("dim_value") and dim.dim_value != size:
            raise BadInput(f"the graph is made for {dim.dim_value} where {size} is asked for")
        dim.dim_value = size
    with quiet():
        try:
            folded, _ = onnxsim.simplify(copy)
        except Exception as error:  # onnxsim has no exceptions of its own
            raise Refused(f"the graph cannot be made for {frames} frames: {' '.join(str(error).split())}") from error
    del folded.graph.value_info[:], folded.metadata_props[:]  # the second has what was simplified
    folded.metadata_props.extend(model.metadata_props)
    inferred = onnx.shape_inference.infer_shapes(folded)
    for value, known in zip(folded.graph.output, inferred.graph.output, strict=True):
        value.CopyFrom(known)
    return folded
