"""What pydantic found wrong, as one line for people: which field, what is wrong, and the field that was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


def explain(error: ValidationError, model: type[BaseModel], whole: str = "row") -> str:
    """`error` of validating a `model`: field (`whole` where it is no single one) and what is wrong, for each fault.

    A field that does not exist is told with the name nearest to it in its group, or its place in another group.
    """
    return "; ".join(_fault(item, model, whole) for item in error.errors())


def _fault(item: Any, model: type[BaseModel], whole: str) -> str:
    path, around = _locate(item["loc"], model)
    where = ".".join(path) or whole
    if item["type"] != "extra_forbidden":
        return f"{where}: {item['msg'].removeprefix('Value error, ')}"
    meant = _meant(path, around, model)
    return f"{where}: there is no such field{f', did you mean {meant}?' if meant else ''}"


def _locate(location: tuple[int | str, ...], model: type[BaseModel]) -> tuple[list[str], list[type[BaseModel]]]:
    """The path as it was written (pydantic adds the tag of a tagged union), and the models that its last part is in."""
    path: list[str] = []
    around, here = [model], [model]
    for place, part in enumerate(location, start=1):
        fields = [kind.model_fields[str(part)] for kind in here if part in kind.model_fields]
        tagged = [kind for kind in here if part in _tags(kind)]
        if tagged and not fields and place < len(location):
            here = tagged
            continue
        path.append(str(part))
        around, here = here, [inner for field in fields for inner in _models(field.annotation)]
    return path, around


def _meant(path: list[str], around: list[type[BaseModel]], model: type[BaseModel]) -> str:
    names = [name for kind in around for name in kind.model_fields]
    near = difflib.get_close_matches(path[-1], names, n=1)
    if near:
        return ".".join([*path[:-1], *near])
    elsewhere = {".".join(found) for found in _paths(model) if found[-1] == path[-1]}
    return elsewhere.pop() if len(elsewhere) == 1 else ""


def _paths(model: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    """Every field of a model and of the models in it."""
    for name, field in model.model_fields.items():
        yield (name,)
        yield from ((name, *rest) for inner in _models(field.annotation) for rest in _paths(inner))


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [inner for part in get_args(annotation) for inner in _models(part)]


def _tags(model: type[BaseModel]) -> list[Any]:
    return [value for field in model.model_fields.values() for value in get_args(field.annotation)]
