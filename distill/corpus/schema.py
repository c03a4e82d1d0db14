"""What a corpus folder holds: `corpus.yaml` (metadata), `clips.jsonl` (one row a clip), frames and keypoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

Split = Literal["train", "dev", "test"]


class CorpusMetadata(BaseModel):
    """`corpus.yaml`: what the whole corpus is and how it was made."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    name: str = Field(min_length=1)
    kind: Literal["synthetic", "composed", "videos"]
    description: str = ""  # one sentence for the report: what these clips really are
    licence: str = ""
    glosses: list[str] = Field(min_length=1)  # the vocabulary, sorted; class i+1 of a model trained on it
    keypoint_layout: list[str] = []  # joint names of the (T,V,3) arrays; empty: the corpus has no keypoints
    frame_size: tuple[int, int] | None = None  # height, width; None: it varies, or there are no frames
    keypoint_source: str = ""  # where the keypoints come from, for the report
    pose_ms_per_frame: float | None = None  # cost of the pose estimator, if it was measured
    generator: dict[str, Any] = {}  # name, version, seed and parameters of what made the corpus

    @property
    def track(self) -> str:
        """The keypoint track that `corpus compose` stored: full or hard; "" for a corpus that has no such choice."""
        return str(self._composed().get("track", ""))

    @property
    def handicap(self) -> dict[str, float]:
        """What made the hard track poor, as `fingertips.Handicap` explains it: noise, lost. Empty on other tracks."""
        made = self._composed().get("handicap") if self.track == "hard" else None
        told = made if isinstance(made, dict) else {}
        return {name: told[name] for name in ("noise", "lost") if isinstance(told.get(name), int | float)}

    def _composed(self) -> dict[str, Any]:
        config = self.generator.get("config") if self.kind == "composed" else None
        return config if isinstance(config, dict) else {}

    @field_validator("glosses", "keypoint_layout")
    @classmethod
    def _distinct(cls, names: list[str]) -> list[str]:
        if len(set(names)) != len(names):
            raise ValueError("a name occurs twice")
        return names


class ClipRow(BaseModel):
    """One line of `clips.jsonl`. Paths are relative to the corpus folder (or absolute, for one's own videos)."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(min_length=1, pattern=r"^[^\s/\\]+$")
    split: Split
    signer: str = ""
    glosses: list[str]
    fps: float = Field(gt=0)
    frames: int = Field(ge=0)  # number of frames of the clip
    video: str | None = None  # .npy (T,H,W,3) uint8, any video PyAV reads, or a folder of images
    keypoints: str | None = None  # .npy (T,V,3) float32: x, y in units of frame width, confidence 0..1

    @field_validator("video", "keypoints")
    @classmethod
    def _inside(cls, path: str | None) -> str | None:
        if path is not None and not PurePath(path).is_absolute() and ".." in PurePath(path).parts:
            raise ValueError(f"path leaves the corpus folder: {path}")
        return path


@dataclass
class SignClip:
    """One clip in memory. Frames (T,H,W,3) uint8 RGB and/or keypoints (T,V,3) float32; at least one is present."""

    id: str
    glosses: list[str]
    signer: str
    fps: float
    frames: np.ndarray | None = None
    keypoints: np.ndarray | None = None
