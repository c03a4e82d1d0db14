"""Proof that an ONNX file computes what the network computes: both run on the same clips, of several lengths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from runtime.contract import Contract, RgbInput
from runtime.engine import INPUT, OUTPUT, open_session
from runtime.errors import BadInput, CriterionFailed
from runtime.preprocess import prepare

if TYPE_CHECKING:
    from torch import nn

TOLERANCE = 1e-4  # largest difference of a log-probability
FROZEN = "a number of frames that tracing froze? It does so in loops over time and where a length goes through int()"
FRAMES = (1, 13, 61, 160)  # lengths in frames: the shortest there is, odd ones, a long one; none is the traced one


@dataclass(frozen=True)
class Difference:
    """Largest absolute difference of log-probabilities on `batch` clips of `frames` frames."""

    frames: int
    batch: int
    difference: float


def plausible_clip(contract: Contract, frames: int, seed: int) -> np.ndarray:
    """Network input (1,T',...) of a made-up clip that moves smoothly, prepared as a real one would be.

    Noise alone would drive activations into ranges that no clip reaches.
    """
    rng = np.random.default_rng((seed, frames))
    steps = rng.normal(0, 1, (frames, 8)).cumsum(0) / np.sqrt(np.arange(1, frames + 1))[:, None]
    source = contract.input
    if isinstance(source, RgbInput):
        rows, columns = np.mgrid[0 : 1 : source.height * 1j, 0 : 1 : source.width * 1j]
        picture = rng.uniform(40, 215, (1, 3)) * np.ones((frames, source.height, source.width, 1))
        for hand in (0, 4):
            x, y = 0.5 + 0.2 * steps[:, hand, None, None], 0.5 + 0.2 * steps[:, hand + 1, None, None]
            blob = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 0.02)[..., None]
            picture = picture * (1 - blob) + blob * rng.uniform(0, 255, (1, 3))
        return prepare(contract, np.clip(picture, 0, 255).astype(np.uint8), None)
    joints = len(source.layout)
    rest = rng.uniform(0.2, 0.8, (1, joints, 2))
    moved = rest + 0.1 * steps[:, rng.integers(0, 8, (joints, 2))]
    confidence = rng.choice([0.0, 0.7, 0.95], p=[0.1, 0.2, 0.7], size=(frames, joints, 1))
    return prepare(contract, None, np.concatenate([moved, confidence], 2).astype(np.float32))


def check_shape(module: nn.Module, contract: Contract) -> None:
    """Raise `BadInput` unless the network gives the steps and classes that its contract promises."""
    import torch

    for frames in FRAMES[:2]:
        with torch.no_grad():
            found = tuple(module(torch.from_numpy(plausible_clip(contract, frames, seed=0))).shape)
        expected = (1, contract.steps(frames), len(contract.glosses))
        if found != expected:
            raise BadInput(f"the network gives {found} for {frames} frames; its contract says {expected}")


def measure(module: nn.Module, model: Path, contract: Contract, batch: int = 1, seed: int = 0) -> list[Difference]:
    """Run network and ONNX file on the same clips of every length of `FRAMES`, and on `batch` clips at once.

    Raises `CriterionFailed` naming the length where the file cannot run or gives another shape.
    """
    import torch

    session = open_session(model, threads=1)
    cases = [(frames, 1) for frames in FRAMES] + ([(FRAMES[1], batch)] if batch > 1 else [])
    found = []
    for frames, clips in cases:
        x = np.concatenate([plausible_clip(contract, frames, seed + i) for i in range(clips)])
        with torch.no_grad():
            wanted = module(torch.from_numpy(x)).numpy()
        try:
            given = session.run([OUTPUT], {INPUT: x})[0]
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise CriterionFailed(
                f"the ONNX graph cannot run {clips} clip(s) of {frames} frames: {reason} ({FROZEN})"
            ) from error
        if given.shape != wanted.shape:
            raise CriterionFailed(
                f"the ONNX graph gives {given.shape} for {frames} frames, the network {wanted.shape} ({FROZEN})"
            )
        found.append(Difference(frames, clips, float(np.abs(given - wanted).max())))
    return found


def require(differences: list[Difference], tolerance: float = TOLERANCE) -> None:
    """Raise `CriterionFailed` naming the worst length unless all differences are within `tolerance` (NaN is not)."""
    worst = max(differences, key=lambda item: np.inf if np.isnan(item.difference) else item.difference)
    if not worst.difference <= tolerance:
        raise CriterionFailed(
            f"parity failed: at {worst.frames} frames (batch {worst.batch}) the ONNX file is off by "
            f"{worst.difference:.3g} in log-probability; {tolerance:.0e} is allowed"
        )
