"""A graph rewritten in an older version of ONNX's operators, one version after the other, by a table.

Every operator that changed in a version is in one of three tables: `SAME` (only types were added, or attributes that
a node may simply not use), `CONVERTED` (the older form is written in another way), `NEW` (did not exist before). What
is in none is refused. Attributes that the older version has not are dropped where they say what it does anyway. Where
all is rewritten, the types of tensors are held against the older operators, and bodies of Loop, Scan and If, which are
not looked into, are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from export.graph import STANDARD, GraphView, attributes, subgraphs
from export.lowering import group_norm
from export.lowering.emit import Emit
from runtime.errors import Refused

if TYPE_CHECKING:
    from onnx import NodeProto

OPS: frozenset[str] = frozenset()
SAYS = "the graph rewritten in an older opset"
OLDEST = 13

# Operators whose versions 21, 23, 24 and 25 took in new element types.
_TYPES = (
    "Cast CastLike Constant ConstantOfShape DequantizeLinear Flatten Identity Pad QuantizeLinear Reshape Shape Size "
    "Squeeze Transpose Unsqueeze"
)
_REDUCTIONS = "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSumSquare"

SAME: dict[int, frozenset[str]] = {
    version: frozenset(text.split())
    for version, text in {
        28: "BitShift Cast Celu Compress DepthToSpace DequantizeLinear Einsum Mod OneHot QuantizeLinear ReduceLogSum "
        "ReduceLogSumExp ReverseSequence SpaceToDepth",
        27: "Range",
        25: _TYPES,
        24: f"{_TYPES} TopK",
        23: _TYPES,
        22: "Acos Acosh Asin Asinh Atan Atanh Conv ConvTranspose Cos Cosh DeformConv Det Dropout Elu "
        "EyeLike GRU GlobalAveragePool GlobalLpPool GlobalMaxPool GridSample HardSigmoid HardSwish "
        "InstanceNormalization LSTM LpNormalization LpPool Mish RNN RandomNormal RandomNormalLike "
        "RandomUniform RandomUniformLike RoiAlign Round Selu Sin Sinh Softplus Softsign Tan ThresholdedRelu",
        21: _TYPES,
        20: "ConstantOfShape IsInf IsNaN ReduceMax ReduceMin",
        19: "AveragePool Cast CastLike Constant DequantizeLinear Equal Identity QuantizeLinear Reshape "
        "Shape Size",
        18: "LpPool ScatterElements ScatterND",
        16: "GreaterOrEqual Identity LeakyRelu LessOrEqual PRelu ScatterElements ScatterND Where",
        15: "BatchNormalization Pow",
        14: "Add BatchNormalization CumSum Div GRU Identity LSTM Mul RNN Relu Reshape Sub",
    }.items()
}
NEW: dict[int, frozenset[str]] = {
    version: frozenset(text.split())
    for version, text in {
        24: "Swish TensorScatter",
        23: "Attention RMSNormalization RotaryEmbedding",
        20: "AffineGrid Gelu ImageDecoder RegexFullMatch StringConcat StringSplit",
        19: "DeformConv",
        18: "BitwiseAnd BitwiseNot BitwiseOr BitwiseXor CenterCropPad Col2Im GroupNormalization Mish",
        17: "BlackmanWindow DFT HammingWindow HannWindow LayerNormalization MelWeightMatrix STFT SequenceMap",
        16: "GridSample",
        15: "CastLike",
        14: "HardSwish Trilu",
    }.items()
}
# Texts that an attribute could not have before a version.
NEW_TEXTS = {
    (19, "Pad"): {"mode": {"wrap"}},
    (19, "Resize"): {"coordinate_transformation_mode": {"half_pixel_symmetric"}},
    (18, "ScatterElements"): {"reduction": {"max", "min"}},
    (18, "ScatterND"): {"reduction": {"max", "min"}},
}


def downgrade(view: GraphView, target: int) -> list[tuple[str, str]]:
    """Rewrite the graph in opset `target` in place; return (node, what was done) of each node rewritten.

    Raises `Refused` naming the node that has no older form, or a target below 13.
    """
    from onnx import helper

    if target < OLDEST:
        raise Refused(f"graphs are rewritten in opset {OLDEST} at the oldest; opset {target} was asked for")
    for node in view.graph.node:
        if subgraphs(node):
            raise Refused(f"node {node.name} ({node.op_type}): what is inside it is not rewritten in an older opset")
    done: list[tuple[str, str]] = []
    while view.opset > target:
        version = view.opset
        changed = _changed(version)
        view.set_opset(version - 1)
        change: dict[int, Sequence[NodeProto]] = {}
        for index, node in enumerate(view.graph.node):
            if node.domain in STANDARD and node.op_type in changed:
                nodes, what = _older(view, node, version)
                if what:
                    change[index] = nodes
                    done.append((node.name, f"{node.op_type}: {what}"))
        view.rewrite(change)
    _require_types(view)
    view.drop_unused()
    view.model.ir_version = min(view.model.ir_version, helper.find_min_ir_version_for(view.model.opset_import))
    return done


def _require_types(view: GraphView) -> None:
    """Raise `Refused` naming a node with a tensor of a type that its operator took in or gave out only later."""
    import onnx

    for node in view.graph.node:
        if node.domain not in STANDARD:
            continue
        schema = onnx.defs.get_schema(node.op_type, view.opset, "")
        allowed = {item.type_param_str: set(item.allowed_type_strs) for item in schema.type_constraints}
        for names, formals in ((node.input, list(schema.inputs)), (node.output, list(schema.outputs))):
            for index, name in enumerate(names):
                formal = formals[min(index, len(formals) - 1)]  # the last of a variadic operator stands for the rest
                kind = view.dtype(name) if name else 0
                told = onnx.TensorProto.DataType.Name(kind)
                if kind and f"tensor({told.lower()})" not in allowed.get(formal.type_str, {formal.type_str}):
                    raise Refused(f"node {node.name} ({node.op_type}): opset {view.opset} has it not for {told}")


def _changed(version: int) -> set[str]:
    """Operators whose form changed in, or that came with, a version."""
    import onnx

    schemas = onnx.defs.get_all_schemas_with_history()
    return {item.name for item in schemas if item.domain == "" and item.since_version == version}


def _older(view: GraphView, node: NodeProto, version: int) -> tuple[Sequence[NodeProto], str]:
    """The node as the version before `version` has it, and what was done, nothing where nothing had to be."""
    if node.op_type in NEW.get(version, ()):
        raise Refused(f"node {node.name}: {node.op_type} came with opset {version} and has no older form here")
    _refuse_new_texts(node, version)
    convert = CONVERTED.get((version, node.op_type))
    if convert is not None:
        return convert(view, node)
    if node.op_type not in SAME.get(version, ()):
        raise Refused(f"node {node.name}: {node.op_type} changed in opset {version}; its older form is not known here")
    return _without_new_attributes(view, node, version)


def _refuse_new_texts(node: NodeProto, version: int) -> None:
    found = attributes(node)
    for name, texts in NEW_TEXTS.get((version, node.op_type), {}).items():
        if found.get(name) in texts:
            raise Refused(f"node {node.name} ({node.op_type}): {name} '{found[name]}' came with opset {version}")


def _without_new_attributes(view: GraphView, node: NodeProto, version: int) -> tuple[Sequence[NodeProto], str]:
    """Drop the attributes that came with `version`. Raises `Refused` where one asks for something new."""
    import onnx

    new, old = (onnx.defs.get_schema(node.op_type, item, "") for item in (version, version - 1))
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    dropped = []
    for item in node.attribute:
        if item.name in old.attributes:
            continue
        value = onnx.helper.get_attribute_value(item)
        default = onnx.helper.get_attribute_value(new.attributes[item.name].default_value)
        harmless = value == default or (not default and not value)
        if item.name == "allowzero" and value:
            harmless = _no_zeros(view, node)
        if item.name == "dilations":
            harmless = all(number == 1 for number in value)
        if not harmless:
            raise Refused(f"node {node.name} ({node.op_type}): its {item.name} came with opset {version}")
        dropped.append(item.name)
    if len([name for name in node.input if name]) > old.max_input:
        raise Refused(f"node {node.name} ({node.op_type}): it has an input that came with opset {version}")
    if not dropped:
        return [node], ""
    kept = [item for item in copy.attribute if item.name not in dropped]
    del copy.attribute[:]
    copy.attribute.extend(kept)
    return [copy], f"without {', '.join(dropped)}, which say what opset {version - 1} does anyway"


def _no_zeros(view: GraphView, node: NodeProto) -> bool:
    """Whether a Reshape has no size 0: none is given literally. Sizes read from other tensors are at least 1."""
    numbers = view.ints(node.input[1])
    return node.input[1] not in view.inputs if numbers is None else 0 not in numbers


# Older forms: (view, node) -> (the nodes, what was done; empty: nothing had to be).


def _split(view: GraphView, node: NodeProto) -> tuple[Sequence[NodeProto], str]:
    found = attributes(node)
    parts = found.get("num_outputs")
    if parts is None:
        return [node], ""
    shape, axis = view.shape(node.input[0]), int(found.get("axis", 0))
    size = shape[axis] if shape is not None else None
    if not isinstance(size, int):
        raise Refused(f"node {node.name} (Split): the size to be split is unknown, so its parts cannot be written down")
    part = -(-size // parts)
    last = size - part * (parts - 1)
    if last < 0:
        raise Refused(f"node {node.name} (Split): {size} cannot be split into {parts} parts of {part}")
    emit = Emit(view, node)
    sizes = emit.ints(*[part] * (parts - 1), last)
    copy = _copied(node, inputs=[node.input[0], sizes], without=("num_outputs",))
    return [copy], "sizes of the parts as an input"


def _reduction(view: GraphView, node: NodeProto) -> tuple[Sequence[NodeProto], str]:
    found = attributes(node)
    name = node.input[1] if len(node.input) > 1 else ""
    axes = view.ints(name) if name else None
    if name and axes is None:
        raise Refused(f"node {node.name} ({node.op_type}): its axes are computed; opset 17 takes constants only")
    if not axes and found.get("noop_with_empty_axes", 0):
        emit = Emit(view, node)
        emit.op("Identity", node.input[0], output=node.output[0])
        return emit.nodes, "reduces nothing"
    copy = _copied(node, inputs=[node.input[0]], without=("noop_with_empty_axes",))
    if not axes:
        return [copy], "over all axes"
    from onnx import helper

    copy.attribute.append(helper.make_attribute("axes", axes))
    return [copy], "axes as an attribute"


def _pad(view: GraphView, node: NodeProto) -> tuple[Sequence[NodeProto], str]:
    if len(node.input) < 4 or not node.input[3]:
        return [node], ""
    rank, axes, pads = view.rank(node.input[0]), view.ints(node.input[3]), view.ints(node.input[1])
    if rank is None or axes is None or pads is None:
        raise Refused(f"node {node.name} (Pad): axes, widths and number of axes must be known for opset 17")
    full = [0] * (2 * rank)
    for place, axis in enumerate(axes):
        full[axis % rank], full[rank + axis % rank] = pads[place], pads[len(axes) + place]
    inputs = [node.input[0], Emit(view, node).ints(*full), *node.input[2:3]]
    return [_copied(node, inputs=inputs)], "a width for every axis"


def _resize(view: GraphView, node: NodeProto) -> tuple[Sequence[NodeProto], str]:
    found = attributes(node)
    if found.get("antialias", 0) or found.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Refused(f"node {node.name} (Resize): antialiasing and kept aspect ratios came with opset 18")
    extra = [name for name in ("antialias", "keep_aspect_ratio_policy", "axes") if name in found]
    if not extra:
        return [node], ""
    inputs = list(node.input)
    if "axes" in found:
        rank = view.rank(node.input[0])
        scales = view.value(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if rank is None or scales is None or node.input[1]:
            raise Refused(f"node {node.name} (Resize): with axes, its scales must be constants (no roi) for opset 17")
        full = np.ones(rank, scales.dtype)
        for axis, scale in zip(found["axes"], scales, strict=True):
            full[axis % rank] = scale
        inputs[2] = Emit(view, node).constant(full)
    return [_copied(node, inputs=inputs, without=tuple(extra))], f"without {', '.join(extra)}"


def _grid_sample(view: GraphView, node: NodeProto) -> tuple[Sequence[NodeProto], str]:
    if view.rank(node.input[0]) != 4:
        raise Refused(f"node {node.name} (GridSample): before opset 20 it samples 4-D input only")
    mode = attributes(node).get("mode", "linear")
    copy = _copied(node, without=("mode",))
    from onnx import helper

    older = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    copy.attribute.append(helper.make_attribute("mode", older))
    return [copy], f"mode {older}"


def _pool(view: GraphView, node: NodeProto) -> tuple[Sequence[NodeProto], str]:
    """A last window that ceil_mode asks for may lie in the padding or behind the end. Opset 22 says that it is none."""
    found = attributes(node)
    gaps = any(step > size for step, size in zip(found.get("strides", []), found["kernel_shape"], strict=False))
    padded = any(found.get("pads", [])) or found.get("auto_pad", "NOTSET") != "NOTSET"
    if found.get("ceil_mode", 0) and (padded or gaps):
        says = "with ceil_mode, padding or gaps, opset 22 says which windows count; older ones do not"
        raise Refused(f"node {node.name} ({node.op_type}): {says}")
    return [node], ""


def _shape(view: GraphView, node: NodeProto) -> tuple[Sequence[NodeProto], str]:
    found = attributes(node)
    if not {"start", "end"} & set(found):
        return [node], ""
    emit = Emit(view, node)
    whole = emit.op("Shape", node.input[0])
    start, end = found.get("start", 0), found.get("end", np.iinfo(np.int64).max)
    part = emit.op("Slice", whole, emit.ints(start), emit.ints(end), emit.ints(0))
    return emit.finish(part, node.output[0]), "the whole shape, then a part of it"


def _group_norm(view: GraphView, node: NodeProto) -> tuple[Sequence[NodeProto], str]:
    view.set_opset(21)  # its scales are one a channel
    nodes = group_norm.run(view, node)
    view.set_opset(20)
    return nodes, group_norm.SAYS


def _roi_align(view: GraphView, node: NodeProto) -> tuple[Sequence[NodeProto], str]:
    if attributes(node).get("coordinate_transformation_mode", "half_pixel") != "output_half_pixel":
        raise Refused(f"node {node.name} (RoiAlign): half pixels came with opset 16")
    return [_copied(node, without=("coordinate_transformation_mode",))], "the only way to map coordinates"


def _newer_pad_or_resize(view: GraphView, node: NodeProto) -> tuple[Sequence[NodeProto], str]:
    return [node], ""  # new texts of attributes were refused already


CONVERTED: dict[tuple[int, str], Callable[[GraphView, NodeProto], tuple[Sequence[NodeProto], str]]] = {
    (22, "AveragePool"): _pool,
    (22, "MaxPool"): _pool,
    (21, "GroupNormalization"): _group_norm,
    (20, "GridSample"): _grid_sample,
    (19, "Pad"): _newer_pad_or_resize,
    (19, "Resize"): _newer_pad_or_resize,
    (18, "Pad"): _pad,
    (18, "Resize"): _resize,
    (18, "Split"): _split,
    **{(18, op): _reduction for op in _REDUCTIONS.split()},
    (16, "RoiAlign"): _roi_align,
    (15, "Shape"): _shape,
}


def _copied(node: NodeProto, inputs: Sequence[str] | None = None, without: tuple[str, ...] = ()) -> NodeProto:
    """The node with other inputs and without some attributes."""
    import onnx

    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    if inputs is not None:
        del copy.input[:]
        copy.input.extend(inputs)
    kept = [item for item in copy.attribute if item.name not in without]
    del copy.attribute[:]
    copy.attribute.extend(kept)
    return copy
