"""Files that came with a network that is not ours, read without running what may be in them: weights, gloss tables."""

from __future__ import annotations

import io
import json
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from runtime.errors import BadInput

# Where checkpoints keep their weights, among epoch, optimiser and the like.
KEPT_UNDER = ("model_state_dict", "state_dict", "model", "network", "net", "weights")
WRAPPERS = frozenset({"module", "_orig_mod"})  # names that DataParallel and torch.compile put between
SAFETENSORS = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


LARGEST_TABLE = 64 << 20  # bytes of a file of glosses


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights in a checkpoint: `.safetensors`, or anything of torch.save that holds tensors and plain data.

    Raises `BadInput` for a file that is missing or broken, or that would run code on being read.
    """
    if not path.is_file():
        raise BadInput(f"missing file {path}")
    stored: Mapping[Any, Any] = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    found = next((stored[name] for name in KEPT_UNDER if isinstance(stored.get(name), Mapping)), stored)
    weights = {str(name): item for name, item in found.items() if isinstance(item, Tensor)}
    if not weights:
        raise BadInput(
            f"{path} holds no weights: they are looked for at its top and under {', '.join(KEPT_UNDER)}; "
            f"it has: {_some(map(str, stored))}"
        )
    return weights


def _read_torch(path: Path) -> Mapping[Any, Any]:
    # Many keep the state of numpy's generator beside their weights: arrays of plain numbers.
    kinds = [type(np.dtype(name)) for name in ("uint8", "uint32", "uint64", "int32", "int64", "float32", "float64")]
    rebuild = np.empty(0).__reduce__()[0]
    arrays: list[Any] = [np.ndarray, np.dtype, *kinds, rebuild, (rebuild, "numpy.core.multiarray._reconstruct")]
    try:
        with torch.serialization.safe_globals(arrays):
            stored = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise BadInput(
            f"{path} holds more than tensors and plain data, which could run code on being read "
            f"({_reason(error)}); where you trust it, save its weights alone: torch.save(model.state_dict(), ...)"
        ) from error
    except Exception as error:  # a broken file raises almost anything
        raise BadInput(f"cannot read weights {path}: {_reason(error)}") from error
    if not isinstance(stored, Mapping):
        raise BadInput(f"{path} holds a {type(stored).__name__}; weights are a dictionary of tensors by name")
    return stored


def _reason(error: Exception) -> str:
    """The line of torch's long advice that names what was found."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = next((line for line in lines if "GLOBAL" in line or "Unsupported" in line), lines[0] if lines else "")
    return named.partition(". Please")[0].partition(" was not")[0][:160] or type(error).__name__


def _read_safetensors(path: Path) -> Mapping[str, Tensor]:
    """The format is a length (8 bytes), a JSON table of kind, shape and place of each tensor, and their bytes."""
    content = path.read_bytes()
    try:
        (size,) = struct.unpack_from("<Q", content)
        table = json.loads(content[8 : 8 + size])
        table.pop("__metadata__", None)
        return {name: _tensor(content, 8 + size, entry) for name, entry in table.items()}
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise BadInput(f"{path} is not a safetensors file: {_reason(error)}") from error


def _tensor(content: bytes, start: int, entry: Mapping[str, Any]) -> Tensor:
    first, end = entry["data_offsets"]
    body = bytearray(content[start + first : start + end])
    kind = SAFETENSORS[entry["dtype"]]
    return (torch.frombuffer(body, dtype=kind) if body else torch.empty(0, dtype=kind)).reshape(entry["shape"])


def fit_weights(network: torch.nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Load `weights` into `network`, whatever wrappers (DataParallel) stood around either. All must fit.

    Raises `BadInput` naming what is missing, left over, or of another shape.
    """
    state = network.state_dict()
    # A network of its own parts called so keeps their names apart.
    bare = _bare if len({_bare(name) for name in state}) == len(state) else str
    wanted = {bare(name): (name, item) for name, item in state.items()}
    given = {bare(name): item for name, item in weights.items()}
    if len(given) != len(weights):
        raise BadInput(f"{path} names a weight twice, once within a wrapper ('module.'), once without")
    given = _without_holder(given, wanted)
    missing = [name for name in wanted if name not in given and not name.endswith("num_batches_tracked")]
    surplus = [name for name in given if name not in wanted]
    if missing or surplus:
        parts = [f"it lacks {_some(missing)}"] if missing else []
        parts += [f"the network has no {_some(surplus)}"] if surplus else []
        raise BadInput(f"{path} does not fit the network: {'; '.join(parts)}")
    for name, (_, item) in wanted.items():
        if name in given and given[name].shape != item.shape:
            raise BadInput(f"{path}: {name} is {_shape(given[name])}, in the network {_shape(item)}")
    network.load_state_dict({wanted[name][0]: item for name, item in given.items()}, strict=False)


def _bare(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _without_holder(given: dict[str, Tensor], wanted: Mapping[str, Any]) -> dict[str, Tensor]:
    """Weights without the one name in front of all of them (`model.`), where the network's have it not."""
    fronts = {name.partition(".")[0] for name in given}
    if len(fronts) != 1 or any(name in wanted for name in given):
        return given
    return {name.partition(".")[2]: item for name, item in given.items()}


def _shape(item: Tensor) -> str:
    return "x".join(map(str, item.shape)) or "one number"


def _some(names: Any) -> str:
    """The first few names and how many more there are."""
    names = list(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") if names else "nothing"


def read_glosses(source: str | list[str], folder: Path, blank: int) -> list[str]:
    """Names of the classes without the blank, in the order of the classes.

    `source` is the list itself, or a file in `folder`: `.npy` as VAC's gloss_dict ({gloss: [class, count]}), anything
    else text with one gloss a line. Raises `BadInput`.
    """
    if isinstance(source, list):
        return source
    path = folder / source
    if not path.is_file():
        raise BadInput(f"missing file {path}, the contract's glosses")
    if path.stat().st_size > LARGEST_TABLE:
        raise BadInput(f"{path} is no table of glosses: it has more than {LARGEST_TABLE} bytes")
    if path.suffix == ".npy":
        return _in_order(_read_table(path), blank, path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read {path}: {error}") from error
    return [line.strip() for line in lines if line.strip()]


def _in_order(table: Any, blank: int, path: Path) -> list[str]:
    if not isinstance(table, dict) or not table:
        raise BadInput(f"{path} holds no dictionary of glosses")
    classes: dict[int, str] = {}
    for gloss, entry in table.items():
        number = entry[0] if isinstance(entry, list | tuple) and entry else entry
        if not isinstance(gloss, str) or not isinstance(number, int) or isinstance(number, bool):
            raise BadInput(f"{path}: {gloss!r} -> {entry!r} is not a gloss with its class")
        if number in classes:
            raise BadInput(f"{path}: '{classes[number]}' and '{gloss}' are both class {number}")
        classes[number] = gloss
    expected = [number for number in range(len(classes) + 1) if number != blank]
    if sorted(classes) != expected:
        stray = next(found for found, right in zip(sorted(classes), expected, strict=False) if found != right)
        raise BadInput(
            f"{path}: with the blank as class {blank}, the {len(classes)} glosses are the other classes up to "
            f"{len(classes)}; '{classes[stray]}' is class {stray}"
        )
    return [classes[number] for number in expected]


def _read_table(path: Path) -> Any:
    """The object in a `.npy` of one object: a dictionary, pickled. Only plain data are made of it."""
    stream = io.BytesIO(path.read_bytes())
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, kind = read(stream)
    except (ValueError, EOFError) as error:
        raise BadInput(f"{path} is not a .npy file: {_reason(error)}") from error
    if kind != np.dtype(object) or shape != ():
        raise BadInput(f"{path} is an array {shape} of {kind}; a table of glosses is one dictionary")
    try:
        array = _PlainData(stream).load()
        (table,) = array.content
    except Exception as error:  # a broken pickle raises almost anything
        raise BadInput(f"{path} cannot be read as plain data: {_reason(error)}") from error
    return table


class _PlainData(pickle.Unpickler):
    """Makes dictionaries, lists, texts and numbers, and stand-ins for the arrays around them; nothing else.

    A pickle names functions to call. Those of numpy that a saved dictionary needs are replaced by ours; any other is
    refused.
    """

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "numpy" and name in _STAND_INS:
            return _STAND_INS[name]
        raise pickle.UnpicklingError(f"it wants to call {module}.{name}, which may run code")


class _Array:
    """What stands for an array: `content` is the list of its elements."""

    content: list[Any]

    def __setstate__(self, state: Any) -> None:
        self.content = state[4]


class _Kind:
    """What stands for a dtype."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code, self.order = code, "<"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]


def _scalar(kind: _Kind, content: bytes) -> int:
    """A whole number of numpy's."""
    if kind.code[0] not in "iu":
        raise pickle.UnpicklingError(f"a number of kind {kind.code} is no class")
    return int.from_bytes(content, "big" if kind.order == ">" else "little", signed=kind.code[0] == "i")


def _array(*_: Any) -> _Array:
    return _Array()


_STAND_INS: dict[str, Any] = {"_reconstruct": _array, "ndarray": _Array, "dtype": _Kind, "scalar": _scalar}
