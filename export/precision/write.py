"""A graph and its precision plan -> the graph that computes so: casts and Q/DQ written where the plan needs them.

Every tensor has forms: `fp32` under its own name, `fp16`, and `eight` (integers). A node asks for the form it reads;
a form that is not there yet is made from one that is, just before its first reader, and shared by all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from export.graph import GraphView, name_nodes, read_names, subgraphs
from export.precision import flavour as flavours
from export.precision import scales
from export.precision.floats import FLOAT, FLOAT16, float_inputs
from export.precision.placement import PRODUCTS, Placement, channel_axis, moved, pieces
from export.precision.plan import PrecisionPlan
from runtime.errors import BadInput

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

LAST = 2**63 - 1  # the end of an axis, to a Slice
FLOAT16_SCALES = 19  # opset from which scales may be float16


def write(model: ModelProto, plan: PrecisionPlan, flavour: str) -> ModelProto:
    """A copy of `model` that computes as `plan` says, with Q/DQ as `flavour` (of flavours.toml) has it.

    The input and the output stay float32; metadata is kept; equal arguments give equal bytes. Where fp16 and int8 meet
    in one plan, scales are float16, the opset rises to 19, and no tensor of floats has two types, as strongly typed
    runtimes want it. Raises `BadInput` if the plan names nodes that the graph lacks, lacks a range that it needs, moves
    in eight bits what has no one scale, or puts fp16 beside int8 in a graph of an opset before 18.
    """
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    name_nodes(copy)
    known = {node.name for node in copy.graph.node}
    strange = sorted(name for name in plan.assignment if name not in known)
    if strange:
        raise BadInput(f"the precision plan is of another graph: there is no node '{strange[0]}'")
    _Writer(copy, plan, flavours.load(flavour)).run()
    return copy


class _Writer:
    def __init__(self, model: ModelProto, plan: PrecisionPlan, flavour: flavours.Flavour) -> None:
        self.view = GraphView(model)
        self.plan, self.flavour = plan, flavour
        self.placement = Placement(self.view, plan.assignment, flavour)
        self.half = "fp16" in plan.assignment.values()  # what surrounds eight bits
        self.around = "fp16" if self.half else "fp32"
        self.forms: dict[tuple[str, str], str] = {}  # (tensor, form) -> name
        self.stored: dict[tuple[str, bytes], str] = {}  # (wanted name, value) -> name of a constant
        self.nodes: list[NodeProto] = []

    def run(self) -> None:
        graph, view = self.view.graph, self.view
        for name in view.inputs:
            if view.dtype(name) == FLOAT:
                self.forms[name, "fp32"] = name
        for node in graph.node:
            if node.op_type == "Constant" and node.output[0] in view.constants:
                self.nodes.append(_copy(node))
            else:
                self._node(node)
        for name in view.outputs:
            if view.dtype(name) == FLOAT:
                self._float(name, "fp32")
        nodes = self.nodes
        del graph.node[:]
        graph.node.extend(nodes)
        if self.half and "int8" in self.plan.assignment.values():
            self._raise_opset()
        view.drop_unused()

    def _raise_opset(self) -> None:
        """To the first version with scales in float16. What version 19 changed reads the forms of 18 as they were."""
        if self.view.opset < FLOAT16_SCALES - 1:
            raise BadInput(
                f"fp16 beside int8 needs a graph of opset {FLOAT16_SCALES - 1} at least; this one has {self.view.opset}"
            )
        self.view.set_opset(max(self.view.opset, FLOAT16_SCALES))

    # Nodes.

    def _node(self, node: NodeProto) -> None:
        if self.placement.moves_eight_bits(node):
            self._move(node)
            return
        precision = self.plan.of(node.name)
        form = self.around if precision == "int8" else precision
        new = _copy(node)
        through = self.placement.reads(node)
        layer = precision == "int8" and node.op_type in PRODUCTS and self.view.weighted(node)
        for index, follows in float_inputs(node, self.view):
            name = node.input[index]
            if layer and index and self.view.is_constant(name):
                continue  # of these, see _weights
            wanted = form if follows else "fp32"
            new.input[index] = self._through_pair(name, wanted) if name in through else self._float(name, wanted)
        if layer:
            self._weights(node, new, form)
        if subgraphs(node):
            for name in read_names(node):
                if name not in node.input and self.view.dtype(name) == FLOAT:
                    self._float(name, "fp32")
        self.nodes.append(new)
        for index, name in enumerate(node.output):
            if name and self.view.dtype(name) == FLOAT:
                new.output[index] = self._given(node, name, form)

    def _given(self, node: NodeProto, tensor: str, form: str) -> str:
        """Name for the float result of a node. One that is to be stored in eight bits is read only from these."""
        if self.placement.result(node) == tensor:
            raw = self.view.fresh(f"{tensor}.raw")
            self.forms[tensor, "raw"] = raw
            return raw
        name = tensor if form == "fp32" else self.view.fresh(f"{tensor}.fp16")
        self.forms[tensor, form] = name
        return name

    def _move(self, node: NodeProto) -> None:
        """Let a node move integers."""
        sources = dict.fromkeys(self.placement.root(name) for name in moved(node))
        fixed = any(self.view.is_constant(name) or self.view.dtype(name) != FLOAT for name in moved(node))
        if fixed or len(sources) > 1:
            what = "constants or integers" if fixed else f"tensors of different scales ({', '.join(sources)})"
            raise BadInput(f"the precision plan moves {what} in eight bits at node {node.name} ({node.op_type})")
        if pieces(node):
            self._pool(node)
            return
        new = _copy(node)
        for index, name in enumerate(node.input):
            if name in moved(node):
                new.input[index] = self._eight(name)
        for index, name in enumerate(node.output):
            new.output[index] = self.forms[name, "eight"] = self.view.fresh(f"{name}.q")
        self.nodes.append(new)

    def _pool(self, node: NodeProto) -> None:
        """A pool over pieces of one axis as the largest of as many slices: comparing bytes is faster than pooling.

        Measured on ONNX Runtime 1.31, x86, 60 x 6144 bytes in pairs: MaxPool 1.4 ms, slices and Max 0.02 ms.
        """
        found = pieces(node)
        assert found is not None
        axis, size = found
        source = self._eight(node.input[0])
        stem = node.output[0]

        def number(value: int) -> str:
            return self._constant(f"number.{value}", np.array([value], np.int64))

        slices = []
        for start in range(size):
            end = start + 1 - size or LAST  # ends before the part of a piece that is left over, as the pool does
            read = [source, number(start), number(end), number(axis), number(size)]
            slices.append(self._add("Slice", read, f"{stem}.piece"))
        self.forms[stem, "eight"] = self._add("Max", slices, f"{stem}.q")

    def _weights(self, node: NodeProto, new: NodeProto, form: str) -> None:
        """Give a product its weight, and its bias, from integers."""
        floats = _type(form)
        source = self.placement.root(node.input[0])
        input_scale, _ = self._activation_scale(source, floats)
        values = self.view.value(node.input[1])
        assert values is not None
        axis = channel_axis(node) % values.ndim
        bias_name = node.input[2] if len(node.input) > 2 else ""
        bias = self.view.value(bias_name) if bias_name else None
        whole = bias is not None and self._whole_bias(node, bias, form)
        least = scales.least_for_bias(bias, input_scale) if whole and bias is not None else 0.0
        integers, weight_scales = scales.weight(values, axis, self.plan.weight_bits, floats, least)
        stem = node.input[1]
        scale = self._constant(f"{stem}.scale", weight_scales)
        zero = self._constant(f"{stem}.zero", np.zeros(weight_scales.shape, np.int8))
        if self.flavour.weights == "int8":
            stored = self._constant(f"{stem}.q", integers)
        else:
            stored = self._add("QuantizeLinear", [self._float(stem, form), scale, zero], f"{stem}.q", axis=axis)
        new.input[1] = self._add("DequantizeLinear", [stored, scale, zero], f"{stem}.dq", axis=axis)
        if whole and bias is not None:
            integers, bias_scales = scales.bias(bias, input_scale, weight_scales)
            read = [self._constant(f"{bias_name}.q", integers), self._constant(f"{bias_name}.scale", bias_scales)]
            new.input[2] = self._add("DequantizeLinear", read, f"{bias_name}.dq", axis=0)
        elif bias_name:
            new.input[2] = self._float(bias_name, form)

    def _whole_bias(self, node: NodeProto, bias: np.ndarray, form: str) -> bool:
        """Whether a bias becomes integers: one number a channel of the weight, in float32 (halves lose its unit)."""
        channels = self.view.constants[node.input[1]].dims[channel_axis(node)]
        return self.flavour.bias == "int32" and form == "fp32" and bias.shape == (channels,)

    # Forms of a tensor.

    def _float(self, tensor: str, form: str) -> str:
        """The tensor in floats, rounded to eight bits only if it has no other form. In fp32 it bears its own name."""
        if (tensor, form) in self.forms:
            return self.forms[tensor, form]
        if self.view.is_constant(tensor):
            if form == "fp32":
                return tensor
            value = self.view.value(tensor)
            assert value is not None
            made = self._constant(f"{tensor}.fp16", value.astype(np.float16))
        else:
            other = self.forms.get((tensor, "fp16" if form == "fp32" else "fp32"))
            if other is None:
                return self._from_eight(tensor, form)
            made = tensor if form == "fp32" else self.view.fresh(f"{tensor}.fp16")
            self._add("Cast", [other], made, named=True, to=FLOAT if form == "fp32" else FLOAT16)
        self.forms[tensor, form] = made
        return made

    def _through_pair(self, tensor: str, form: str) -> str:
        """The tensor in floats that have been eight bits."""
        if self.view.is_constant(tensor):
            return self._float(tensor, form)
        if (tensor, f"pair {form}") not in self.forms:
            self.forms[tensor, f"pair {form}"] = self._from_eight(tensor, form)
        return self.forms[tensor, f"pair {form}"]

    def _from_eight(self, tensor: str, form: str) -> str:
        if (tensor, f"dq {form}") not in self.forms:
            scale, zero = self._scale_names(tensor, form)
            only = not {(tensor, "fp32"), (tensor, "fp16")} & self.forms.keys()  # then these are the tensor's floats
            own = only and form == "fp32"
            name = tensor if own else f"{tensor}.dq" if form == "fp32" else f"{tensor}.dq16"
            read = [self._eight(tensor), scale, zero]
            self.forms[tensor, f"dq {form}"] = self._add("DequantizeLinear", read, name, named=own)
        return self.forms[tensor, f"dq {form}"]

    def _eight(self, tensor: str) -> str:
        """The tensor in integers."""
        if (tensor, "eight") not in self.forms:
            form = next(item for item in ("raw", self.around, "fp16", "fp32") if (tensor, item) in self.forms)
            floats = self.around if form == "raw" else form
            scale, zero = self._scale_names(tensor, floats)
            read = [self.forms[tensor, form], scale, zero]
            self.forms[tensor, "eight"] = self._add("QuantizeLinear", read, f"{tensor}.q")
        return self.forms[tensor, "eight"]

    def _activation_scale(self, source: str, floats: type[np.floating]) -> tuple[np.ndarray, np.ndarray]:
        if source not in self.plan.ranges:
            raise BadInput(f"the precision plan has no range for tensor '{source}', which it stores in eight bits")
        common = np.float16 if self.half else np.float32  # one value, in whichever type it is stored
        scale, zero = scales.activation(self.plan.ranges[source], self.flavour.activations, common)
        return scale.astype(floats), zero

    def _scale_names(self, tensor: str, form: str) -> tuple[str, str]:
        source = self.placement.root(tensor)
        scale, zero = self._activation_scale(source, _type(form))
        suffix = "" if form == "fp32" else "16"
        return self._constant(f"{source}.scale{suffix}", scale), self._constant(f"{source}.zero", zero)

    def _constant(self, name: str, value: np.ndarray) -> str:
        """Store an array once; a second one that wants the same name gets another."""
        key = (name, value.tobytes())
        if key not in self.stored:
            self.stored[key] = self.view.constant(name, value)
        return self.stored[key]

    def _add(self, op: str, inputs: list[str], output: str, named: bool = False, **attributes: Any) -> str:
        from onnx import helper

        output = output if named else self.view.fresh(output)
        name = self.view.fresh(f"{output}/{op}")
        self.nodes.append(helper.make_node(op, inputs, [output], name=name, **attributes))
        return output


def _type(form: str) -> type[np.floating]:
    return np.float16 if form == "fp16" else np.float32


def _copy(node: NodeProto) -> NodeProto:
    copy = type(node)()
    copy.CopyFrom(node)
    return copy
