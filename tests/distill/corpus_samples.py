"""Small corpora and recordings for the tests of the corpus room."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from distill.corpus import CorpusMetadata, CorpusWriter, SignClip
from runtime.atomic import atomic_folder
from runtime.contract import body_and_hands_layout

LAYOUT = list(body_and_hands_layout())


def frames(count: int, height: int = 12, width: int = 12, seed: int = 0) -> np.ndarray:
    """Random frames (T,H,W,3)."""
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def keypoints(count: int, seed: int = 0) -> np.ndarray:
    """Random keypoints (T,49,3), all seen."""
    points = np.random.default_rng(seed).random((count, len(LAYOUT), 3)).astype(np.float32)
    points[..., 2] = 1
    return points


def small_corpus(folder: Path) -> Path:
    """Six sound clips: four train, one dev, one test; frames and keypoints, glosses a, b, c."""
    with atomic_folder(folder) as temporary:
        writer = CorpusWriter(temporary)
        for index, split in enumerate(["train"] * 4 + ["dev", "test"]):
            clip = SignClip(
                f"clip{index}", ["a", "b", "c"], f"signer{index}", 25.0, frames(16, seed=index), keypoints(16)
            )
            writer.add(clip, split)
        writer.close(
            CorpusMetadata(
                name="small", kind="synthetic", glosses=["a", "b", "c"], keypoint_layout=LAYOUT, frame_size=(12, 12)
            )
        )
    return folder


def edit_rows(folder: Path, **changes: dict[str, Any]) -> None:
    """Change fields of rows by clip id in `clips.jsonl`."""
    path = folder / "clips.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({**row, **changes.get(row["id"], {})}) + "\n" for row in rows))


def write_recordings(path: Path, glosses: int = 5, each: int = 6, seed: int = 0) -> Path:
    """Made-up isolated recordings with the quirks of real ones: swapped slots, missing second hands."""
    rng = np.random.default_rng(seed)
    parts, labels = [], []
    for gloss in range(glosses):
        for _ in range(each):
            parts.append(_recording(rng, gloss, int(rng.integers(20, 40))))
            labels.append(f"gloss{gloss}")
    scale = 8192
    q = np.concatenate([np.where(np.isnan(part), -32768, np.rint(part * scale)) for part in parts]).astype(np.int16)
    offsets = np.cumsum([0, *map(len, parts)])
    uids = np.array([f"uid{index}" for index in range(len(parts))])
    np.savez(path, q=q, offsets=offsets, label=np.array(labels), uid=uids, scale=np.float32(scale))
    return path


def _recording(rng: np.random.Generator, gloss: int, count: int) -> np.ndarray:
    values = np.full((count, 128), np.nan)
    time = np.linspace(0, 1, count)
    values[:, :2] = (0.5, 0.3)
    hand = np.array([[0.05 * np.sin(i), -0.01 * i, 0.0] for i in range(21)])
    right = np.stack([0.35 + 0.02 * gloss * time, 0.8 - 0.4 * np.sin(np.pi * time), 0 * time], axis=-1)
    left = np.stack([0.65 - 0.02 * gloss * time, 0.8 - 0.3 * np.sin(np.pi * time), 0 * time], axis=-1)
    for index in range(count):
        slots = [right[index], left[index]]
        if rng.random() < 0.5:
            slots.reverse()
        if gloss % 2:
            slots = [right[index]]
        for slot, wrist in enumerate(slots):
            values[index, 2 + 63 * slot : 65 + 63 * slot] = (wrist + hand).ravel()
    return values
