"""Operations that the exporter freezes or cannot follow: equal forms while a network is traced, and what went wrong.

The exporter runs a network once and writes down what it did. With `nn.MaxPool1d`, recurrent layers and packed
sequences it writes down the number of frames of that one clip, too, or gives up. `equal_forms` puts functions in their
places that compute the same for clips of one length, and that are written down for any.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import rnn

# ONNX's order of gates in terms of PyTorch's: i,f,g,o -> i,o,f,c for LSTM; r,z,n -> z,r,h for GRU.
GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN_TANH": (0,), "RNN_RELU": (0,)}
OPSET = 18  # whose LSTM, GRU and RNN these are


class Untraceable(Exception):
    """Something that has no equal form here. Its text says what to do."""


class Lengths:
    """What a network gets for its lengths (B,) int64 while it is traced: `clips` lengths, all `top` / `over`.

    An entry of a real tensor depends on the data, and a network that slices by it cannot be traced; `steps` is a number
    that tracing can follow. Arithmetic with numbers stays so; anything else sees a tensor. A single number, such as the
    greatest length, has `clips` None.
    """

    def __init__(self, top: Any, clips: Any, over: int = 1) -> None:
        self.top, self.clips, self.over = top, clips, over

    @property
    def steps(self) -> Any:
        """The length in whole steps."""
        return self.top if self.over == 1 else self.top // self.over

    def tensor(self) -> Tensor:
        """As a tensor: int64, float32 after a true division."""
        whole = torch.full(() if self.clips is None else (self.clips,), self.top, dtype=torch.int64)
        return whole if self.over == 1 else whole / self.over

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """torch.div(lengths, 2) and the like stay lengths; any other function of torch is given a tensor."""
        kwargs = kwargs or {}
        operation = _FUNCTIONS.get(getattr(function, "__name__", ""))
        plain = not any(isinstance(item, Tensor) for item in args) and args and isinstance(args[0], Lengths)
        if operation is not None and plain:
            return operation(*args, **kwargs)
        args, kwargs = torch.utils._pytree.tree_map(_as_tensor, (args, kwargs))
        return function(*args, **kwargs)

    def __add__(self, other: Any) -> Any:
        if isinstance(other, Tensor):
            return self.tensor() + other
        if isinstance(other, Lengths):
            return Lengths(self.top * other.over + other.top * self.over, self.clips, self.over * other.over)
        return Lengths(self.top + other * self.over, self.clips, self.over)

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, Tensor | Lengths):
            return self.tensor() * _as_tensor(other)
        return Lengths(self.top * other, self.clips, self.over)

    def __neg__(self) -> Lengths:
        return Lengths(-self.top, self.clips, self.over)

    def __sub__(self, other: Any) -> Any:
        return self + -other

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __floordiv__(self, other: Any) -> Any:
        if isinstance(other, int):
            return Lengths(self.top // (self.over * other), self.clips)
        return self.tensor() // _as_tensor(other)

    def __truediv__(self, other: Any) -> Any:
        if isinstance(other, int):
            return Lengths(self.top, self.clips, self.over * other)
        return self.tensor() / _as_tensor(other)

    __radd__, __rmul__ = __add__, __mul__

    def __len__(self) -> int:
        return int(self.clips)

    def __iter__(self) -> Iterator[Any]:
        return iter([self.steps] * len(self))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Lengths(self.top, len(range(len(self))[index]), self.over)
        return self.steps if isinstance(index, int) else self.tensor()[index]

    def __int__(self) -> int:
        raise Untraceable("int() of a length would hold for the traced clip alone; use .item(), or x.shape[1]")

    __index__ = __int__

    def __deepcopy__(self, memo: Any) -> Lengths:
        return self

    def div(self, other: Any, rounding_mode: str | None = None) -> Any:
        """As torch's; rounding towards zero and downwards are one for lengths."""
        return self / other if rounding_mode is None else self // other

    def floor(self) -> Lengths:
        """Whole steps; what a cast to a whole type gives, too."""
        return Lengths(self.steps, self.clips)

    def ceil(self) -> Lengths:
        """The next whole number of steps."""
        return Lengths(-(-self.top // self.over), self.clips)

    def max(self, *_: Any) -> Lengths:
        """The greatest length, as one number; the least is the same."""
        return Lengths(self.top, None, self.over)

    def item(self) -> Any:
        """The length, as a number that tracing follows."""
        return self.steps

    def tolist(self) -> list[Any]:
        """The lengths, as numbers that tracing follows."""
        return list(self)

    def to(self, *arguments: Any, **named: Any) -> Lengths:
        """A move changes nothing; a cast to a whole type takes whole steps."""
        kinds = {torch.int64, torch.int32, torch.int16}
        return self.floor() if kinds & {item for item in (*arguments, *named.values()) if item in kinds} else self

    def same(self, *_: Any, **__: Any) -> Lengths:
        """What neither moves nor casts."""
        return self

    min, int, long = max, floor, floor
    cpu = cuda = clone = detach = contiguous = float = same

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.tensor(), name)


def _as_tensor(item: Any) -> Any:
    return item.tensor() if isinstance(item, Lengths) else item


# Functions of torch that keep lengths what they are.
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": Lengths.__add__, "sub": Lengths.__sub__, "subtract": Lengths.__sub__, "mul": Lengths.__mul__,
    "multiply": Lengths.__mul__, "div": Lengths.div, "divide": Lengths.div, "true_divide": Lengths.div,
    "floor_divide": Lengths.__floordiv__, "floor": Lengths.floor, "ceil": Lengths.ceil,
    "max": Lengths.max, "min": Lengths.max, "amax": Lengths.max, "amin": Lengths.max,
}  # fmt: skip


class EqualPack(rnn.PackedSequence):
    """A packed sequence of clips of one length: `padded` (N,B,C). `data` is (N*B,C), as it would be packed."""

    padded: Tensor

    def __new__(cls, padded: Tensor) -> EqualPack:
        pack = tuple.__new__(cls, (padded.flatten(0, 1), None, None, None))
        pack.padded = padded
        return pack


def pack_padded_sequence(
    input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> EqualPack:
    """As torch's, for clips of one length."""
    steps = input.transpose(0, 1) if batch_first else input
    if isinstance(lengths, Lengths) and not _known(lengths.steps, steps.shape[0]):
        steps = steps[: lengths.steps]
    return EqualPack(steps)


def pad_packed_sequence(
    sequence: Any, batch_first: bool = False, padding_value: float = 0.0, total_length: Any = None
) -> tuple[Tensor, Lengths]:
    """As torch's, for clips of one length."""
    if not isinstance(sequence, EqualPack):
        raise Untraceable("a packed sequence was made otherwise than by pack_padded_sequence or a recurrent layer")
    padded = sequence.padded
    lengths = Lengths(padded.shape[0], padded.shape[1])
    if total_length is not None and not _known(total_length, padded.shape[0]):
        padded = F.pad(padded, (0, 0, 0, 0, 0, total_length - padded.shape[0]), value=padding_value)
    return padded.transpose(0, 1) if batch_first else padded, lengths


def _known(first: Any, second: Any) -> bool:
    """Whether the two numbers are equal whatever the number of frames is."""
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return bool(statically_known_true(first == second))


def recurrent(layer: nn.RNNBase, input: Any, hx: Any = None) -> tuple[Any, Any]:
    """Forward pass of nn.LSTM, nn.GRU or nn.RNN as ONNX operators, one a layer; takes and gives what theirs do."""
    if getattr(layer, "proj_size", 0):
        raise Untraceable(f"nn.LSTM with proj_size={layer.proj_size} has no ONNX operator; project by a linear layer")
    packed = isinstance(input, EqualPack)
    x = input.padded if packed else input
    single = x.dim() == 2
    x = x.unsqueeze(1) if single else x.transpose(0, 1) if layer.batch_first and not packed else x
    states = () if hx is None else hx if isinstance(hx, tuple) else (hx,)
    states = tuple(state.unsqueeze(1) if single else state for state in states)
    ways, last = 2 if layer.bidirectional else 1, []
    for number in range(layer.num_layers):
        first = [state[number * ways : (number + 1) * ways] for state in states]
        x, *ends = _layer(layer, number, x, first)
        last.append(ends)
    after = tuple(torch.cat(parts) for parts in zip(*last, strict=True))
    if single:
        x, after = x.squeeze(1), tuple(end.squeeze(1) for end in after)
    output = EqualPack(x) if packed else x.transpose(0, 1) if layer.batch_first and not single else x
    return output, after if layer.mode == "LSTM" else after[0]


def _layer(layer: nn.RNNBase, number: int, x: Tensor, states: list[Tensor]) -> list[Tensor]:
    """One layer on x (N,B,I) from the given states: (N,B,ways*H), then its last states (ways,B,H)."""
    width, ways = layer.hidden_size, 2 if layer.bidirectional else 1
    attributes: dict[str, Any] = {"hidden_size": width, "direction": "bidirectional" if ways == 2 else "forward"}
    if layer.mode == "GRU":
        attributes["linear_before_reset"] = 1  # the reset gate acts after the product with the state
    if layer.mode == "RNN_RELU":
        attributes["activations"] = ["Relu"] * ways
    (steps, clips), kinds = x.shape[:2], 2 if layer.mode == "LSTM" else 1

    def weights(*names: str) -> Tensor:
        return torch.stack([_in_order(layer, names, f"l{number}{suffix}") for suffix in ("", "_reverse")[:ways]])

    biases = weights("bias_ih", "bias_hh") if layer.bias else None
    shapes = [(steps, ways, clips, width)] + [(ways, clips, width)] * kinds
    output, *ends = torch.onnx.ops.symbolic_multi_out(
        layer.mode.partition("_")[0],
        (x, weights("weight_ih"), weights("weight_hh"), biases, None, *states),
        attributes, dtypes=[x.dtype] * len(shapes), shapes=shapes, version=OPSET,
    )  # fmt: skip
    return [output.permute(0, 2, 1, 3).flatten(2), *ends]


def _in_order(layer: nn.RNNBase, names: tuple[str, ...], suffix: str) -> Tensor:
    """The named weights one after the other, the gates of each in ONNX's order."""
    order = GATES[layer.mode]
    gates = [getattr(layer, f"{name}_{suffix}").chunk(len(order)) for name in names]
    return torch.cat([parts[i] for parts in gates for i in order])


def max_pool1d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:  # fmt: skip
    """As torch's, by the two-dimensional one."""
    if return_indices:
        raise Untraceable("max_pool1d with return_indices has no equal form that follows the number of frames")

    def pair(value: Any, other: int) -> tuple[int, int]:
        return (value if isinstance(value, int) else value[0]), other

    stride = kernel_size if stride is None or stride == [] else stride
    pooled = F.max_pool2d(
        input.unsqueeze(-1), pair(kernel_size, 1), pair(stride, 1), pair(padding, 0), pair(dilation, 1), ceil_mode
    )
    return pooled.squeeze(-1)


FUNCTIONS: dict[Any, Any] = {
    rnn.pack_padded_sequence: pack_padded_sequence,
    rnn.pad_packed_sequence: pad_packed_sequence,
    F.max_pool1d: max_pool1d,
    torch.max_pool1d: max_pool1d,
}


@contextlib.contextmanager
def equal_forms() -> Iterator[None]:
    """Within, recurrent layers, packing and pooling over time take forms that are exported for any number of frames.

    Only for tracing clips of one length. What is replaced is replaced wherever it was imported to, and put back.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    with contextlib.ExitStack() as stack:
        torch.backends.mha.set_fastpath_enabled(False)  # one fused operator that the exporter does not know
        stack.callback(torch.backends.mha.set_fastpath_enabled, fast)
        for kind in (nn.LSTM, nn.GRU, nn.RNN):
            _replace(stack, kind, "forward", functools.partialmethod(recurrent))
        for holder in list(sys.modules.values()):
            if getattr(holder, "__name__", "") == __name__:
                continue
            for name, value in list(getattr(holder, "__dict__", {}).items()):
                with contextlib.suppress(TypeError):  # what cannot be a key is none of the functions
                    if callable(value) and value in FUNCTIONS:
                        _replace(stack, holder, name, FUNCTIONS[value])
        yield


def _replace(stack: contextlib.ExitStack, holder: Any, name: str, value: Any) -> None:
    stack.callback(setattr, holder, name, holder.__dict__[name])
    setattr(holder, name, value)


def translations() -> dict[Any, Any]:
    """Assignments to a part of a tensor as ONNX writes them with concatenation; the exporter would scatter by indices.

    For `torch.onnx.export(custom_translation_table=...)`.
    """
    from onnxscript import opset18

    op: Any = opset18  # its methods are typed for functions of onnxscript, which these are not
    end_of_axis = torch.iinfo(torch.int64).max

    def cut(whole: Any, first: Any, last: Any, axis: int) -> Any:
        bounds = [op.Reshape(bound, [1]) if not isinstance(bound, int) else [bound] for bound in (first, last)]
        return op.Slice(whole, *bounds, [axis])

    def slice_scatter(self: Any, src: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
        if step != 1:
            raise Untraceable("an assignment to every n-th element (y[::2] = x) has no equal form; write torch.stack")
        parts = [src]
        if start is not None and start != 0:
            parts.insert(0, cut(self, 0, start, dim))
        if end is not None and end != end_of_axis:
            parts.append(cut(self, end, end_of_axis, dim))
        return op.Concat(*parts, axis=dim) if len(parts) > 1 else op.Identity(src)

    def select_scatter(self: Any, src: Any, dim: int, index: int) -> Any:
        after = index + 1 if index != -1 else end_of_axis
        return slice_scatter(self, op.Unsqueeze(src, [dim]), dim, index, after)

    return {
        torch.ops.aten.slice_scatter.default: slice_scatter,
        torch.ops.aten.select_scatter.default: select_scatter,
    }


# What the exporter's complaints mean: a part of the text, and what to do. The first that fits is told.
REMEDIES = (
    ("data-dependent", "it decides by values of the data or uses one as a number; write torch.where, or call.skip it"),
    ("Could not extract specialized integer", "it uses a value of the data as a number"),
    (".numpy() is not supported", "it takes values out of a tensor; if that is decoding, name it under call.skip"),
    ("FakeTensor", "it takes values out of a tensor; if that is decoding, name it under call.skip"),
    ("specialized it to be a constant", "it fixes the number of frames: int() of a length, a loop over the frames"),
    ("Constraints violated", "it fixes the number of frames: int() of a length, a loop over the frames"),
    ("No ONNX function found", "an operator has no ONNX form; write it by others"),
    ("No decompositions registered", "an operator has no ONNX form; write it by others"),
)


def explain(error: BaseException) -> str:
    """Why the exporter gave up, in one line: what, in which line of the network, and what it means."""
    chain = list(_chain(error))
    for item in chain:
        if isinstance(item, Untraceable):
            return f"{place(item)}{item}"
    text = " ".join(" ".join(str(item) for item in chain).split())
    meaning = next((f"{remedy}; " for sign, remedy in REMEDIES if sign in text), "")
    origin = chain[-1]
    return f"{next(filter(None, map(place, chain)), '')}{meaning}{type(origin).__name__}: {_short(origin)}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _short(error: BaseException) -> str:
    """The first sentence or so: torch adds advice that is about torch."""
    text = " ".join(str(error).split())
    for advice in (" (unhinted", " Caused by:", " For more information", " Suggested fixes"):
        text = text.partition(advice)[0]
    return text[:240]


def place(error: BaseException) -> str:
    """`file:line (function): ` of the innermost frame that is neither torch's nor ours, empty if there is none."""
    ours = Path(__file__).parent
    libraries = {Path(torch.__file__).parent.parent, ours}
    standard = Path(contextlib.__file__).parent
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if frame.filename.startswith("<") or any(item in path.parents for item in (*libraries, standard)):
            continue
        return f"{path.name}:{frame.lineno} ({frame.name}): "
    return ""
