"""A corpus of random clips and recipes of very small networks, for tests of the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from distill.corpus import Corpus, CorpusMetadata, CorpusWriter, SignClip
from distill.recipe import Recipe
from runtime.contract import body_and_hands_layout

GLOSSES = ["HOUSE", "RAIN", "WIND"]
SIZE = 16


def write_corpus(folder: Path, train: int = 10, dev: int = 4, seed: int = 0) -> Corpus:
    """Each gloss is a patch of colour that stays for 12 frames, and a place where the hands are."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    writer = CorpusWriter(folder)
    for split, count in (("train", train), ("dev", dev)):
        for number in range(count):
            glosses = [GLOSSES[i] for i in rng.integers(0, len(GLOSSES), rng.integers(1, 4))]
            writer.add(_clip(f"{split}{number}", glosses, rng), split)
    layout = list(body_and_hands_layout())
    writer.close(
        CorpusMetadata(name="tiny", kind="synthetic", glosses=GLOSSES, keypoint_layout=layout, frame_size=(SIZE, SIZE))
    )
    return Corpus(folder)


def _clip(name: str, glosses: list[str], rng: np.random.Generator) -> SignClip:
    frames, keypoints = [], []
    for gloss in glosses:
        span = int(rng.integers(10, 15))
        picture = rng.integers(0, 60, (span, SIZE, SIZE, 3), dtype=np.uint8)
        picture[:, 4:12, 4:12, GLOSSES.index(gloss)] = 230
        joints = rng.normal(0.5, 0.01, (span, 49, 3)).astype(np.float32)
        joints[:, 1, 0], joints[:, 2, 0] = 0.6, 0.4
        joints[:, 7:, 1] += 0.15 * GLOSSES.index(gloss)
        joints[..., 2] = 0.9
        frames.append(picture)
        keypoints.append(joints)
    return SignClip(name, glosses, "a", 25.0, np.concatenate(frames), np.concatenate(keypoints))


def teacher(**changes: Any) -> Recipe:
    """A teacher for 16 x 16 frames, with a frame map of 8 x 4 x 4."""
    return _recipe(
        {
            "name": "teacher",
            "model": {"name": "cnn2d1d", "widths": [8, 8], "blocks": [1, 1], "temporal": 16, "dropout": 0.1},
            "input": {"kind": "rgb", "size": SIZE},
        },
        changes,
    )


def skeleton(**changes: Any) -> Recipe:
    """STGT on wrists and finger tips."""
    attention = {"layers": 1, "heads": 2}
    return _recipe(
        {
            "name": "stgt",
            "model": {"name": "stgt", "width": 8, "joints": attention, "temporal": 16, "steps": attention},
            "input": {"kind": "keypoints", "joints": "wrists_tips"},
        },
        changes,
    )


def lowres(**changes: Any) -> Recipe:
    """LRINet on 8 x 8 frames, with a frame map of 8 x 4 x 4."""
    return _recipe(
        {
            "name": "lrinet",
            "model": {
                "name": "lrinet",
                "stem": {"width": 6},
                "stages": [{"width": 8, "stride": 2}],
                "middle": {"width": 8},
                "top": {"width": 12, "stride": 2},
            },
            "input": {"kind": "rgb", "size": 8},
        },
        changes,
    )


TRKD: dict[str, Any] = {
    "kd": {"weight": 1.0},
    "crd": {"weight": 0.5, "queue": 32},
    "relation": {"weight": 0.5, "queue": 32, "hidden": 16, "embed": 16},
    "ramp_epochs": 2,
}
LONGER = {"epochs": 4, "threads": 1}  # equal to the bit only where the number of threads is
CRKD: dict[str, Any] = {"kd": {"weight": 1.0}, "feature": {"weight": 1.0}}


def _recipe(base: dict[str, Any], changes: dict[str, Any]) -> Recipe:
    training = {"epochs": 2, "batch_size": 4, "learning_rate": 0.01, "evaluate_every": 2} | changes.pop("training", {})
    return Recipe.model_validate({**base, "seed": 3, **changes, "training": training})
