"""How big a recogniser is: parameters, multiply-accumulates (MACs) by two independent counters, bytes on disk."""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bench.record import Complexity, FlopCount
from runtime.errors import MissingExtra

if TYPE_CHECKING:
    from torch import Tensor, nn

# Two counters agree when their MACs differ by no more than this share. They never agree exactly: fvcore adds
# normalisation and pooling, torch's counter takes matrix products and convolutions alone.
TOLERANCE = 0.05

# Counted as zero by convention, in fvcore as in every published table of this field: one or a few operations an
# element, no products of matrices. Anything that is neither here, nor in fvcore, nor below with a handle is named as
# unsupported.
_POINTWISE = """
    abs add add_ sub sub_ rsub mul mul_ div div_ neg pow square sqrt rsqrt exp log sin cos minimum maximum clamp_min
    ceil round sigmoid tanh gelu silu silu_ hardswish hardsigmoid hardtanh leaky_relu softmax log_softmax
    sum mean amax amin min argmax cumsum norm linalg_vector_norm
    max_pool1d max_pool2d avg_pool1d avg_pool2d adaptive_max_pool1d adaptive_max_pool2d dropout feature_dropout
    lt le ne logical_and logical_or logical_not bitwise_and bitwise_or where masked_fill_ fill_ zero_ tril triu
    clone alias lift_fresh repeat repeat_interleave expand_as view_as reshape_as unflatten movedim swapaxes flip tile
    index_select scatter tensor_split concat hstack unfold broadcast_tensors meshgrid
    pad reflection_pad1d replication_pad1d replication_pad2d replication_pad3d
    scalar_tensor numel linspace new_ones ones_like
"""
POINTWISE = tuple(_POINTWISE.split())

# Operators of torch that hide products its counter cannot see (they appear on the CPU, not on the meta device).
OPAQUE = ("lstm", "gru", "mkldnn_rnn_layer", "_native_multi_head_attention", "_transformer_encoder_layer_fwd")


def count(
    module: nn.Module, example: Tensor, frames: int, bytes_on_disk: int | None = None, runs: int = 1
) -> Complexity:
    """Complexity of `module` in inference form on one clip.

    example: (1,T',...) float32, the padded input of a clip of `frames` frames, or of one of the `runs` windows over it.
    MACs include the padding; they are divided by `frames`, since that is what a user has. Of the two counters, one that
    could count every operator goes before one that could not. Where that does not tell, the figure per frame is
    fvcore's if the second counter agrees within `TOLERANCE`, else the second counter's (right on the meta device for
    recurrent and attention layers, where fvcore needs the handles below).
    """
    counts = [count_fvcore(module, example), count_torch(module, example)]
    first, second = counts
    agreement = first.macs / second.macs if second.macs else None
    if bool(first.unsupported) != bool(second.unsupported):
        trusted = second if first.unsupported else first
    else:
        trusted = first if agreement is None or abs(agreement - 1) <= TOLERANCE else second
    return Complexity(
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        frames=frames,
        counts=counts,
        macs_per_frame=runs * trusted.macs / frames,
        agreement=agreement,
        bytes_on_disk=bytes_on_disk,
    )


def count_fvcore(module: nn.Module, example: Tensor) -> FlopCount:
    """MACs by tracing with fvcore, with handles for what it misses (`HANDLES`)."""
    with _quiet():
        try:
            from fvcore.nn import FlopCountAnalysis
        except ModuleNotFoundError as error:
            raise MissingExtra("fvcore", "bench") from error
        analysis = FlopCountAnalysis(module.eval(), (example,))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        analysis.set_op_handle(**{f"aten::{name}": None for name in POINTWISE})
        analysis.set_op_handle(**HANDLES)
        macs = float(analysis.total())
        unsupported = {name: int(calls) for name, calls in sorted(analysis.unsupported_ops().items())}
    return FlopCount(counter="fvcore", macs=macs, unsupported=unsupported)


def count_torch(module: nn.Module, example: Tensor) -> FlopCount:
    """MACs by torch's FlopCounterMode (FLOPs / 2) on the meta device, where fused layers fall apart.

    A module that makes tensors of its own on the CPU cannot run there; it is then counted on the CPU, and fused
    operators that the counter cannot see into are named as unsupported.
    """
    try:
        twin = copy.deepcopy(module).eval().to("meta")
        return _count_torch(twin, example.to("meta"), "torch FlopCounterMode, meta device")
    except (RuntimeError, NotImplementedError):
        return _count_torch(module.eval(), example, "torch FlopCounterMode, CPU")


def _count_torch(module: nn.Module, example: Tensor, name: str) -> FlopCount:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import FlopCounterMode

    opaque: Counter[str] = Counter()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            namespace, _, operator = function.name().partition("::")
            if operator.split(".")[0] in OPAQUE or namespace not in ("aten", "prim", "prims"):
                opaque[function.name()] += 1
            return function(*args, **(kwargs or {}))

    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it hides whole encoder layers
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, Watch():
            module(example)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return FlopCount(counter=name, macs=counter.get_total_flops() / 2, unsupported=dict(sorted(opaque.items())))


def _shape(value: Any) -> list[int]:
    """Sizes of a traced tensor, [] where the trace does not know them."""
    sizes = getattr(value.type(), "sizes", lambda: None)()
    return list(sizes or [])


def _attention(inputs: list[Any], outputs: list[Any]) -> float:
    """Scaled dot products of (...,L,E) with (...,S,E), then with (...,S,V): L*S*(E+V) a head."""
    query, key, value = (_shape(item) for item in inputs[:3])
    return float(math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1]))


def _product(inputs: list[Any], outputs: list[Any]) -> float:
    """Any product of matrices: the inner dimension for every element of the result (fvcore forgets broadcast axes)."""
    return float(math.prod(_shape(outputs[0])) * _shape(inputs[0])[-1])


def _recurrent(inputs: list[Any], outputs: list[Any]) -> float:
    """Input and recurrent products of each layer and direction of an LSTM or GRU: every weight matrix once a step.

    inputs: x, the initial state(s), then the flat list of weights; biases have one dimension and are left out.
    """
    steps = math.prod(_shape(inputs[0])[:-1])
    matrices = (_shape(weight) for weight in _flat_weights(inputs))
    return float(steps * sum(math.prod(shape) for shape in matrices if len(shape) == 2))


def _flat_weights(inputs: list[Any]) -> Iterator[Any]:
    """Tensors of the list argument that holds the weights: the longest list construct among the inputs."""
    lists = [list(value.node().inputs()) for value in inputs if value.node().kind() == "prim::ListConstruct"]
    yield from max(lists, key=len, default=[])


def _adaptive_pool(inputs: list[Any], outputs: list[Any]) -> float:
    """One addition an input element, as fvcore counts the 2D form."""
    return float(math.prod(_shape(inputs[0])))


HANDLES = {
    "aten::matmul": _product,
    "aten::scaled_dot_product_attention": _attention,
    "aten::lstm": _recurrent,
    "aten::gru": _recurrent,
    "aten::adaptive_avg_pool1d": _adaptive_pool,
}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Tracing warns of Python branches on sizes; they are constant for the one length that is counted."""
    logger = logging.getLogger("fvcore.nn.jit_analysis")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
