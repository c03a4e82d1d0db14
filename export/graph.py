"""A graph as passes see it: constants, makers and users of tensors, their shapes and types; and safe replacement.

Shapes come from ONNX's own shape inference on the graph without its stored intermediate shapes (those may be stale);
an axis is a number, a symbolic name, or None where nothing is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

Axis = int | str | None
Shape = tuple[Axis, ...]

STANDARD = ("", "ai.onnx")  # the names of ONNX's own domain


class GraphView:
    """Questions that passes ask of a graph, and the ways they change it.

    The view holds the model it was given and changes it in place; take a copy first where the original is needed.
    Constants are the initializers and the `Constant` nodes. After changing `model.graph` by other means than this
    view's methods, call `refresh`.
    """

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self._used: set[str] = set()
        self.refresh()

    def refresh(self) -> None:
        """Read the graph again."""
        self.constants: dict[str, TensorProto] = {item.name: item for item in self.graph.initializer}
        self.maker: dict[str, NodeProto] = {}
        self.users: dict[str, list[NodeProto]] = {}
        self.outputs = [item.name for item in self.graph.output]
        self.inputs = [item.name for item in self.graph.input if item.name not in self.constants]
        self._info: dict[str, tuple[int, Shape | None]] | None = None
        self._values: dict[str, np.ndarray] = {}
        for node in self.graph.node:
            for name in node.output:
                if name:
                    self.maker[name] = node
            tensor = _constant_tensor(node)
            if tensor is not None:
                self.constants[node.output[0]] = tensor
            for name in dict.fromkeys(read_names(node)):
                self.users.setdefault(name, []).append(node)
        self._used |= set(self.constants) | set(self.maker) | set(self.users) | set(self.inputs)
        self._used |= {name for node in self.graph.node for name in (node.name, *_inner_names(node))}

    @property
    def graph(self) -> GraphProto:
        """The model's graph."""
        return self.model.graph

    @property
    def opset(self) -> int:
        """Version of ONNX's own operators; 0 where the model imports none of them."""
        return next((item.version for item in self.model.opset_import if item.domain in STANDARD), 0)

    # Constants.

    def is_constant(self, name: str) -> bool:
        """Whether `name` is an initializer or the output of a `Constant` node."""
        return name in self.constants

    def value(self, name: str) -> np.ndarray | None:
        """The value of a constant, None where `name` is computed."""
        from onnx import numpy_helper

        if name not in self.constants:
            return None
        if name not in self._values:
            self._values[name] = numpy_helper.to_array(self.constants[name])
        return self._values[name]

    def ints(self, name: str) -> list[int] | None:
        """The value of a constant of integers as a flat list, None where `name` is computed."""
        value = self.value(name) if name else None
        return None if value is None else [int(item) for item in value.reshape(-1)]

    def weighted(self, node: NodeProto) -> bool:
        """Whether the second operand is a constant."""
        return len(node.input) > 1 and node.input[1] in self.constants

    # Shapes and types.

    def shape(self, name: str) -> Shape | None:
        """Axes of a tensor (number, symbolic name, or None), None where not even the rank is known."""
        if name in self.constants:
            return tuple(self.constants[name].dims)
        return self._known().get(name, (0, None))[1]

    def rank(self, name: str) -> int | None:
        """Number of axes, None where unknown."""
        shape = self.shape(name)
        return None if shape is None else len(shape)

    def dtype(self, name: str) -> int:
        """Element type as a number of `onnx.TensorProto`, 0 where unknown."""
        if name in self.constants:
            return int(self.constants[name].data_type)
        return self._known().get(name, (0, None))[0]

    def _known(self) -> dict[str, tuple[int, Shape | None]]:
        if self._info is None:
            self._info = _inferred(self.model)
        return self._info

    # Neighbours.

    def producer(self, name: str, *ops: str) -> NodeProto | None:
        """The node that makes `name`, if it is one of `ops` (any, where none are given)."""
        node = self.maker.get(name)
        return node if node is not None and (not ops or node.op_type in ops) else None

    def only_user(self, name: str) -> NodeProto | None:
        """The one node that reads `name`, None where several do or the graph gives it out."""
        users = self.users.get(name, [])
        return users[0] if len(users) == 1 and name not in self.outputs else None

    # Changes.

    def fresh(self, stem: str) -> str:
        """A name for a node or tensor that nothing in the graph has yet."""
        name, number = stem, 0
        while name in self._used:
            number += 1
            name = f"{stem}_{number}"
        self._used.add(name)
        return name

    def constant(self, stem: str, value: Any) -> str:
        """Store an array as an initializer and return its name."""
        from onnx import numpy_helper

        name = self.fresh(stem)
        tensor = numpy_helper.from_array(np.ascontiguousarray(value).reshape(np.shape(value)), name)
        self.graph.initializer.append(tensor)
        self.constants[name] = self.graph.initializer[-1]
        return name

    def replace(self, node: NodeProto, replacement: Sequence[NodeProto]) -> None:
        """Put `replacement` (in order) where `node` is. It must make the outputs of `node` that something reads."""
        place = next(index for index, item in enumerate(self.graph.node) if item is node)
        before, after = list(self.graph.node)[:place], list(self.graph.node)[place + 1 :]
        nodes = [_copied(item) for item in (*before, *replacement, *after)]
        del self.graph.node[:]
        self.graph.node.extend(nodes)
        self.refresh()

    def rewrite(self, change: dict[int, Sequence[NodeProto]]) -> None:
        """`replace` of many nodes at once: index of a node in the graph -> what takes its place."""
        nodes = [_copied(new) for index, node in enumerate(self.graph.node) for new in change.get(index, (node,))]
        del self.graph.node[:]
        self.graph.node.extend(nodes)
        self.refresh()

    def set_opset(self, version: int) -> None:
        """State the version of ONNX's own operators that the nodes are written in."""
        for item in self.model.opset_import:
            if item.domain in STANDARD:
                item.version = version

    def drop_unused(self) -> None:
        """Remove nodes whose results nothing reads, initializers that nothing reads, and stored shapes."""
        while True:
            read = {name for node in self.graph.node for name in read_names(node)} | set(self.outputs)
            alive = [node for node in self.graph.node if any(name in read for name in node.output)]
            if len(alive) == len(self.graph.node):
                break
            nodes = [_copied(node) for node in alive]
            del self.graph.node[:]
            self.graph.node.extend(nodes)
        kept = [_copied(item) for item in self.graph.initializer if item.name in read]
        if len(kept) != len(self.graph.initializer):
            del self.graph.initializer[:]
            self.graph.initializer.extend(kept)
        del self.graph.value_info[:]
        self.refresh()


def read_names(node: NodeProto) -> Iterator[str]:
    """Names of the tensors that a node reads, those included that its subgraphs take from outside."""
    yield from (name for name in node.input if name)
    for inner in subgraphs(node):
        made = {item.name for item in (*inner.input, *inner.initializer)}
        for item in inner.node:
            yield from (name for name in read_names(item) if name not in made)
            made.update(item.output)
        yield from (item.name for item in inner.output if item.name not in made)


def subgraphs(node: NodeProto) -> list[GraphProto]:
    """The graphs inside a node (bodies of Loop, Scan, If)."""
    return [graph for item in node.attribute for graph in ([item.g] if item.HasField("g") else item.graphs)]


def _inner_names(node: NodeProto) -> Iterator[str]:
    """Names that the subgraphs of a node give to what they make: ONNX lets none of them be taken outside."""
    for inner in subgraphs(node):
        yield from (item.name for item in (*inner.input, *inner.initializer))
        for item in inner.node:
            yield from (item.name, *item.output, *_inner_names(item))


def attributes(node: NodeProto) -> dict[str, Any]:
    """Attributes of a node as Python values (tensors as TensorProto, texts as str)."""
    from onnx import helper

    values = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}


def name_nodes(model: ModelProto) -> None:
    """Give every node a unique name, since people are told of nodes by name. The first of a name keeps it."""
    taken = {node.name for node in model.graph.node}
    seen: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            stem = name = f"{node.op_type}_{index}"
            number = 0
            while name in taken:
                number += 1
                name = f"{stem}_{number}"
            node.name = name
            taken.add(name)
        seen.add(node.name)


def known_sizes(shape: Iterable[Axis]) -> bool:
    """Whether every axis is a number."""
    return all(isinstance(axis, int) for axis in shape)


def _constant_tensor(node: NodeProto) -> TensorProto | None:
    """The tensor that a `Constant` node holds, however it is written."""
    if node.op_type != "Constant" or node.domain not in STANDARD:
        return None
    from onnx import helper, numpy_helper

    for item in node.attribute:
        if item.name == "value":
            return item.t
        if item.name in ("value_float", "value_floats"):
            return numpy_helper.from_array(np.asarray(helper.get_attribute_value(item), np.float32))
        if item.name in ("value_int", "value_ints"):
            return numpy_helper.from_array(np.asarray(helper.get_attribute_value(item), np.int64))
    return None


def _copied(message: Any) -> Any:
    """A copy that stays alive when the list it came from is emptied."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _inferred(model: ModelProto) -> dict[str, tuple[int, Shape | None]]:
    """Type and shape of every tensor that inference can tell."""
    import onnx

    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    try:
        bare = onnx.shape_inference.infer_shapes(bare, data_prop=True)
    except Exception:  # a graph that inference cannot follow has no known shapes beyond its inputs and outputs
        bare = model
    found: dict[str, tuple[int, Shape | None]] = {}
    for info in (*bare.graph.value_info, *bare.graph.input, *bare.graph.output):
        tensor = info.type.tensor_type
        shape = tuple(_axis(dim) for dim in tensor.shape.dim) if tensor.HasField("shape") else None
        found[info.name] = (int(tensor.elem_type), shape)
    return found


def _axis(dim: Any) -> Axis:
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    return str(dim.dim_param) or None
