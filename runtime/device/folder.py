"""A bundle as it lies in its folder: its manifest, every file against its hash, and the clips of its gate."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, Tuple

import numpy as np

from runtime.errors import BadInput
from runtime.hashing import sha256_file

BUNDLE_FORMAT = 1
KIND = "bundle"
MANIFEST = "manifest.json"
MODEL = "model.onnx"
JUDGED = "judged.onnx"  # the same in float32 with every rounding to float16 kept, for ONNX Runtime; where it is needed
CONTRACT = "contract.json"
REQUEST = "request.json"
MADE = "made.json"
CLIPS = "clips/clips.json"
PAGE = "precision.md"  # for people: what each node computes in, and why
TYPES: Dict[str, Any] = {"uint8": np.dtype("u1"), "float32": np.dtype("<f4")}  # of clips: frames, keypoints


@dataclass(frozen=True)
class GateClip:
    """One clip of the gate, with what should be read in it and what was read before.

    `clip` is frames (T,H,W,3) uint8 or keypoints (T,V,3) float32, as the contract asks. `baseline` is what the FP32
    graph read, `expected` what the bundle's graph read through ONNX Runtime on the machine that made the bundle.
    """

    id: str
    clip: np.ndarray
    reference: Tuple[str, ...]
    baseline: Tuple[str, ...]
    expected: Tuple[str, ...]


def read_bundle(folder: Path) -> Dict[str, Any]:
    """The manifest of a bundle whose files are all there and unchanged. Raises `BadInput` naming the file."""
    manifest = _object(folder / MANIFEST)
    if manifest.get("kind") != KIND or not isinstance(manifest.get("files"), dict):
        raise BadInput(f"{folder} is not a bundle: its {MANIFEST} names no bundle's files")
    if manifest.get("format") != BUNDLE_FORMAT:
        raise BadInput(f"{folder} has format {manifest.get('format')}; this version reads format {BUNDLE_FORMAT}")
    for name, expected in manifest["files"].items():
        path = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts or path.is_symlink():
            raise BadInput(f"{folder / MANIFEST} names a file outside its folder: {name}")
        if not path.is_file():
            raise BadInput(f"the bundle is incomplete: {name} is missing; copy it again")
        if sha256_file(path) != expected:
            raise BadInput(f"{name} is not the file that the bundle was made with (its hash differs); copy it again")
    return manifest


def read_clips(folder: Path) -> Iterator[GateClip]:
    """The clips of a bundle, in its order; one is in memory at a time. Raises `BadInput` for a broken list."""
    path = folder / CLIPS
    for number, row in enumerate(_object(path).get("clips", [])):
        try:
            kind = TYPES[row["type"]]
            shape = tuple(int(size) for size in row["shape"])
            values = np.fromfile(str(folder / row["file"]), dtype=kind)
            if values.size != math.prod(shape):
                raise ValueError(f"{row['file']} has {values.size} values, not {shape}")
            texts = (tuple(str(gloss) for gloss in row[name]) for name in ("reference", "baseline", "expected"))
            yield GateClip(str(row["id"]), values.reshape(shape), *texts)
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise BadInput(f"{path}: clip {number} cannot be read: {error}") from error


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises `BadInput` naming it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"cannot read {path}: {error}") from error


def write_json(path: Path, value: Any) -> None:
    """Write JSON, one line a member, the same bytes for the same value."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _object(path: Path) -> Dict[str, Any]:
    found = read_json(path)
    if not isinstance(found, dict):
        raise BadInput(f"{path} is not a JSON object")
    return found
