"""Q/DQ flavours, read from flavours.toml."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from runtime.errors import BadInput

FILE = Path(__file__).with_name("flavours.toml")


class Flavour(BaseModel):
    """How eight-bit tensors are written for a runtime; the fields are explained in flavours.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    says: str
    activations: Literal["uint8", "int8"]
    bias: Literal["int32", "float"]
    weights: Literal["int8", "float"]
    outputs: tuple[str, ...]
    moves: Literal["integers", "floats"]


def load(name: str) -> Flavour:
    """The flavour of that name. Raises `BadInput` for an unknown one."""
    known = _all()
    if name not in known:
        raise BadInput(f"no Q/DQ flavour '{name}'; known: {', '.join(known)}")
    return known[name]


@functools.cache
def _all() -> dict[str, Flavour]:
    try:
        told = tomllib.loads(FILE.read_text(encoding="utf-8"))
        return {name: Flavour(name=name, **fields) for name, fields in told.items()}
    except (ValueError, ValidationError) as error:
        raise BadInput(f"{FILE.name} is broken: {error}") from error
