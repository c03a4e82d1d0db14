"""A network in inference form -> one ONNX file that carries its contract, checked before it exists."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import logging
import math
import warnings
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export import parity
from runtime.atomic import atomic_file
from runtime.contract import METADATA_KEY, Contract
from runtime.engine import INPUT, OUTPUT
from runtime.errors import BadInput, CriterionFailed, MissingExtra

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import nn

OPSET = 18  # new enough for LayerNormalization, old enough for every runtime aimed at
MAX_OPSET = 20
PARITY_KEY = "signedge.parity"
EXPORT_KEY = "signedge.export"
TOOLS = ("signedge", "torch", "onnx", "onnxscript", "onnxsim", "onnxruntime")  # that have a say in the file
TRACED_FRAMES = 24
# Ops that follow the data (their shapes or their control flow cannot be known before running).
DATA_DEPENDENT = frozenset({"Loop", "If", "Scan", "NonZero", "ScatterND", "Unique", "NonMaxSuppression"})
# What such an op was in the network, and what to write in its place; for the others, "write it another way".
WRITE_INSTEAD = {
    "ScatterND": "an assignment to a part of a tensor, as in y[:, 1:] = x; write torch.cat of its parts",
    "NonZero": "choosing by a mask of values, as in x[x > 0]; write torch.where, or multiply by the mask",
    "Loop": "a recurrent layer or loop that the exporter unrolled; write nn.LSTM or nn.GRU",
    "Scan": "a recurrent layer or loop that the exporter unrolled; write nn.LSTM or nn.GRU",
    "If": "a branch by the values of the data; write torch.where",
}


@dataclass(frozen=True)
class ParameterCount:
    """Numbers of elements. What is stored must lie between what cannot go missing and what there is.

    A simplifier may fold a BatchNorm into the layer before it, store equal tensors once, and drop those of one
    repeated value (zero biases); every other parameter must be there. Running statistics and other buffers may be
    stored too; nothing else may be added. Single numbers and integers (shapes, indices) are no parameters.
    """

    module: int  # parameters of the inference form
    required: int  # of these, the ones that no simplification removes
    buffers: int  # floating-point buffers of the inference form
    stored: int  # floating-point elements in the ONNX file

    @property
    def consistent(self) -> bool:
        """Whether the file holds the inference form and no more."""
        return self.required <= self.stored <= self.module + self.buffers


@dataclass(frozen=True)
class ExportReport:
    """What was written, and what showed that it is right."""

    path: str
    opset: int
    nodes: int
    dynamic_batch: bool  # whether several clips of one length can be run at once
    parameters: ParameterCount
    parity: list[parity.Difference]
    left_out: dict[str, int]  # parameters of the training form that are not in the file -> elements


def export_onnx(
    module: nn.Module,
    contract: Contract,
    path: str | Path,
    left_out: dict[str, int] | None = None,
    foldable: Collection[str] = (),
) -> ExportReport:
    """Write `module` (x (B,T',...) float32 -> log-probabilities (B,N,K)) as ONNX with `contract` in its metadata.

    The number of frames is dynamic; the number of clips too where the exporter can. `left_out` names parameters of the
    training form that must not be in the file, `foldable` those that may be folded into others. Raises
    `CriterionFailed` if the network cannot be exported, if parity with it fails at any length, or if parameters are
    missing or too many; then nothing is written.
    """
    _need("onnx", "onnxscript", "onnxsim", "onnxruntime", "torch")
    left_out = left_out or {}
    module = module.eval()
    parity.check_shape(module, contract)
    with atomic_file(path) as temporary:
        model, differences, dynamic_batch = _first_that_holds(module, contract, temporary)
        parameters = count_parameters(module, model, {*left_out, *foldable})
        check_graph(model, parameters, left_out)
        report = ExportReport(
            str(path), _opset(model), len(model.graph.node), dynamic_batch, parameters, differences, left_out
        )
        _write_metadata(model, contract, report)
        temporary.write_bytes(model.SerializeToString(deterministic=True))
    return report


def _first_that_holds(
    module: nn.Module, contract: Contract, temporary: Path
) -> tuple[ModelProto, list[parity.Difference], bool]:
    """Export with dynamic batch and time; where that fails, with one clip at a time."""
    failure: CriterionFailed | None = None
    for dynamic_batch in (True, False):
        try:
            model = trace(module, contract, dynamic_batch)
            temporary.write_bytes(model.SerializeToString(deterministic=True))
            differences = parity.measure(module, temporary, contract, batch=3 if dynamic_batch else 1)
            parity.require(differences)
            return model, differences, dynamic_batch
        except CriterionFailed as error:
            failure = error
    assert failure is not None
    raise failure


def trace(module: nn.Module, contract: Contract, dynamic_batch: bool) -> ModelProto:
    """Trace, clean and simplify. Raises `CriterionFailed` with the exporter's reason."""
    import onnxsim
    import torch

    from export import traps

    padding = contract.padding
    x = torch.from_numpy(parity.plausible_clip(contract, TRACED_FRAMES, seed=0))
    if dynamic_batch:
        x = torch.cat([x, x.flip(1)])  # the exporter takes a size of 1 for a constant
    units = torch.export.Dim("units", min=2, max=4096)
    axes: dict[int, Any] = {1: padding.multiple * units + padding.left + padding.right}
    if dynamic_batch:
        axes[0] = torch.export.Dim("batch", min=1, max=1024)
    with quiet():
        try:
            program = torch.onnx.export(
                module, (x,), dynamo=True, opset_version=OPSET, input_names=[INPUT], output_names=[OUTPUT],
                dynamic_shapes=(axes,), custom_translation_table=traps.translations(), verbose=False,
            )  # fmt: skip
            assert program is not None
            model = program.model_proto
            _forget_shapes(model)
            model, _ = onnxsim.simplify(model)
        except Exception as error:  # the exporter's exceptions have no useful common base
            raise CriterionFailed(f"'{contract.name}' cannot be exported: {traps.explain(error)}") from error
    _tidy(model, contract, dynamic_batch)
    return model


def _forget_shapes(model: ModelProto) -> None:
    """Drop intermediate shapes: some are stale (a fixed T), and a runtime that believes them bakes T in."""
    del model.graph.value_info[:]


def _tidy(model: ModelProto, contract: Contract, dynamic_batch: bool) -> None:
    """Name the axes, drop stale shapes and what the exporter noted of the machine (paths in stack traces)."""
    _forget_shapes(model)
    batch: str | int = "batch" if dynamic_batch else 1
    for value, second in ((model.graph.input[0], "frames"), (model.graph.output[0], "steps")):
        dims = value.type.tensor_type.shape.dim
        _set_dim(dims[0], batch)
        _set_dim(dims[1], second)
        del value.metadata_props[:]
        value.doc_string = ""
    _set_dim(model.graph.output[0].type.tensor_type.shape.dim[2], len(contract.glosses))
    for item in (*model.graph.node, *model.graph.initializer):
        del item.metadata_props[:]
        item.doc_string = ""
    del model.graph.metadata_props[:], model.metadata_props[:], model.functions[:]
    model.doc_string = model.graph.doc_string = ""
    model.graph.name = contract.name
    model.producer_name = "signedge"
    model.producer_version = ""


def _set_dim(dim: Any, value: str | int) -> None:
    if isinstance(value, int):
        dim.dim_value = value
    else:
        dim.dim_param = value


def count_parameters(module: nn.Module, model: ModelProto, optional: Collection[str] = ()) -> ParameterCount:
    """Count what the network has and what the file holds; see `ParameterCount`. `optional` need not be there."""
    import torch
    from onnx import TensorProto

    floats = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16}
    norms = [item for item in module.modules() if isinstance(item, torch.nn.modules.batchnorm._BatchNorm)]
    foldable = {id(item) for norm in norms for item in norm.parameters(recurse=False)}
    foldable |= {id(item) for name, item in module.named_parameters() if name in optional}
    firm = [item.detach() for item in module.parameters() if id(item) not in foldable and item.numel() > 1]
    distinct = {item.numpy().tobytes(): item.numel() for item in firm if item.min() != item.max()}
    constants = [node for node in model.graph.node if node.op_type == "Constant"]
    tensors = list(model.graph.initializer)
    tensors += [item.t for node in constants for item in node.attribute if item.name == "value"]
    sizes = [math.prod(tensor.dims) for tensor in tensors if tensor.data_type in floats]
    return ParameterCount(
        module=sum(item.numel() for item in module.parameters()),
        required=sum(distinct.values()),
        buffers=sum(item.numel() for item in module.buffers() if item.is_floating_point()),
        stored=sum(size for size in sizes if size > 1),
    )


def training_only(training: nn.Module, inference: nn.Module) -> dict[str, int]:
    """Parameters of the training form that the inference form has not, by name, with their numbers of elements."""
    kept = [name for name, _ in inference.named_parameters()]

    def survives(name: str) -> bool:
        return any(other == name or other.endswith(f".{name}") for other in kept)

    return {name: item.numel() for name, item in training.named_parameters() if not survives(name)}


def check_graph(model: ModelProto, parameters: ParameterCount, left_out: Iterable[str] = ()) -> None:
    """Valid ONNX, opset within bounds, no data-dependent op, the parameters of the inference form and no others.

    Raises `CriterionFailed` naming the node or number.
    """
    import onnx

    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise CriterionFailed(f"the exported graph is not valid ONNX: {str(error).splitlines()[0]}") from error
    if _opset(model) > MAX_OPSET:
        raise CriterionFailed(f"the exported graph has opset {_opset(model)}; targets read {MAX_OPSET} at most")
    for node in model.graph.node:
        if node.op_type in DATA_DEPENDENT:
            instead = WRITE_INSTEAD.get(node.op_type, "write it another way")
            raise CriterionFailed(f"node {node.name} ({node.op_type}) depends on the data: {instead}")
    stored = {tensor.name for tensor in model.graph.initializer}
    for name in left_out:
        found = [item for item in stored if item == name or item.endswith(f".{name}")]
        if found:
            raise CriterionFailed(f"the exported graph holds {found[0]}, which only training needs")
    if not parameters.consistent:
        raise CriterionFailed(
            f"the exported graph stores {parameters.stored} parameters; {parameters.required} to "
            f"{parameters.module + parameters.buffers} were to be stored: some are missing or too many"
        )


def _write_metadata(model: ModelProto, contract: Contract, report: ExportReport) -> None:
    facts = {
        "dynamic_batch": report.dynamic_batch,
        "parameters": dataclasses.asdict(report.parameters),
        "left_out": report.left_out,
        "versions": versions(TOOLS),
    }
    proof = {
        "tolerance": parity.TOLERANCE,
        "traced_frames": TRACED_FRAMES,
        "lengths": [dataclasses.asdict(item) for item in report.parity],
    }
    texts = {
        METADATA_KEY: contract.to_json(),
        EXPORT_KEY: json.dumps(facts, sort_keys=True),
        PARITY_KEY: json.dumps(proof, sort_keys=True),
    }
    for key, text in texts.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, text


def with_contract(model: ModelProto, contract: Contract) -> ModelProto:
    """`model` with `contract` in its metadata, in place of any other: itself where it has it, else a copy."""
    from onnx import ModelProto

    text = contract.to_json()
    if [item.value for item in model.metadata_props if item.key == METADATA_KEY] == [text]:
        return model
    copy = ModelProto.FromString(model.SerializeToString())
    others = [item for item in copy.metadata_props if item.key != METADATA_KEY]
    del copy.metadata_props[:]
    copy.metadata_props.extend(others)
    copy.metadata_props.add(key=METADATA_KEY, value=text)
    return copy


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Installed versions, `unknown` where a package is not installed as one."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def read_model(path: str | Path) -> ModelProto:
    """Load an ONNX file. Raises `BadInput` naming a file that is missing or broken."""
    _need("onnx")
    import onnx

    try:
        model = onnx.load(str(path))
    except FileNotFoundError as error:
        raise BadInput(f"missing file {path}") from error
    except IsADirectoryError as error:
        raise BadInput(f"{path} is a folder, not an ONNX file; make one of a run with: signedge export") from error
    except Exception as error:  # protobuf raises its own
        raise BadInput(f"{path} is not an ONNX file: {str(error).splitlines()[0]}") from error
    if not model.graph.node:
        raise BadInput(f"{path} is not an ONNX file: it holds no graph")
    return model


def metadata(model: ModelProto) -> dict[str, str]:
    """The metadata of a model as a dictionary."""
    return {entry.key: entry.value for entry in model.metadata_props}


def _opset(model: ModelProto) -> int:
    return next(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporter and the quantiser: what matters of their chatter is checked afterwards."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        nowhere = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _need(*modules: str) -> None:
    import importlib.util

    for name in modules:
        if importlib.util.find_spec(name) is None:
            raise MissingExtra(name, "export")
