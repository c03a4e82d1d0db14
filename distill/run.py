"""The run folder: names of its files, and reading what a finished training left behind, checked before use."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from distill.explain import explain
from distill.models import build
from distill.models.base import Recogniser
from distill.recipe import Recipe
from runtime.atomic import atomic_file
from runtime.contract import Contract
from runtime.errors import BadInput
from runtime.hashing import sha256_file

RECIPE, CONTRACT, WEIGHTS, CURVE, SUMMARY, RESUME = (
    "recipe.yaml", "contract.json", "weights.pt", "metrics.jsonl", "run.json", "last.ckpt",
)  # fmt: skip


@dataclass
class Run:
    """A finished training. `model` is in evaluation mode with its weights loaded; `curve` has one entry an epoch."""

    folder: Path
    recipe: Recipe
    contract: Contract
    model: Recogniser
    summary: dict[str, Any]
    curve: list[dict[str, Any]]
    checkpoint_hash: str  # SHA-256 of weights.pt


def load_run(folder: str | Path) -> Run:
    """Open a run folder. Raises `BadInput` naming the file that is missing, unfinished or broken."""
    folder = Path(folder)
    summary = read_summary(folder)
    if summary is None:
        raise BadInput(f"{folder} is not a run folder: it has no {SUMMARY}")
    if summary.get("status") != "complete":
        raise BadInput(
            f"the training in {folder} is not finished; give the same `signedge distill` command again to go on"
        )
    recipe = read_recipe(folder)
    contract = Contract.from_json(_text(folder / CONTRACT))
    curve = [_object(folder / CURVE, line) for line in _text(folder / CURVE).splitlines() if line.strip()]
    for number, entry in enumerate(curve, start=1):
        missing = [name for name in ("epoch", "seconds", "losses") if name not in entry]
        if missing:
            raise BadInput(f"{folder / CURVE}: epoch {number} has no '{missing[0]}'; train it again")
    checkpoint_hash = _hash(folder / WEIGHTS)
    if checkpoint_hash != summary.get("checkpoint"):
        raise BadInput(
            f"{folder / WEIGHTS} is corrupt or was changed: its hash is not the one in {SUMMARY}; train it again"
        )
    model = load_model(folder / WEIGHTS, contract)
    return Run(folder, recipe, contract, model, summary, curve, checkpoint_hash)


def load_model(path: Path, contract: Contract) -> Recogniser:
    """The network of a weights file, in evaluation mode."""
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        model = build(stored["model"], stored["classes"], contract.input)
        model.load_state_dict(stored["state_dict"])
    except BadInput:
        raise
    except Exception as error:  # unpickling a broken file raises almost anything
        raise BadInput(f"cannot read weights {path}: {' '.join(str(error).split())[:200]}") from error
    return model.eval()


def read_summary(folder: Path) -> dict[str, Any] | None:
    """`run.json` of a folder, None if there is none."""
    path = folder / SUMMARY
    return _object(path, _text(path)) if path.exists() else None


def read_recipe(folder: Path) -> Recipe:
    """The recipe of a run folder, finished or not. Raises `BadInput` if it is missing or broken."""
    import yaml

    path = folder / RECIPE
    try:
        return Recipe.model_validate(yaml.safe_load(_text(path)))
    except yaml.YAMLError as error:
        raise BadInput(f"{path} is not YAML") from error
    except ValidationError as error:
        raise BadInput(f"{path}: {explain(error, Recipe, 'recipe')}") from error


def _object(path: Path, text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except ValueError as error:
        raise BadInput(f"{path} is not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise BadInput(f"{path} does not hold an object")
    return parsed


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read {path}: {error}") from error


def _hash(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error


def write(path: Path, content: str | bytes) -> None:
    """Write a file of a run folder, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
