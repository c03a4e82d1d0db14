"""A poor tracker: it sees face centre, wrists and finger tips, with noise, and loses hands for a while."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distill.corpus.synth.hand import PALM
from distill.corpus.synth.pose import HAND, LEFT_WRIST, NOSE, RIGHT_WRIST
from runtime.errors import BadInput

HAND_LENGTH = 1.8 * PALM  # wrist to tip of the middle finger, frame widths
_VISIBLE = (0, 4, 8, 12, 16, 20)  # of a hand's 21 landmarks: wrist and finger tips


@dataclass(frozen=True)
class Handicap:
    """How poor the tracker is.

    `noise`: standard deviation of a point, in hand lengths. `lost`: share of the time that a hand is lost, in spells of
    `spell` (shortest, longest) frames.
    """

    noise: float = 0.12
    lost: float = 0.15
    spell: tuple[int, int] = (4, 15)

    def __post_init__(self) -> None:
        if not 0 <= self.noise < np.inf or not 0 <= self.lost < 1 or not 1 <= self.spell[0] <= self.spell[1]:
            asked = f"noise {self.noise}, lost {self.lost}, spells of {self.spell} frames"
            raise BadInput(
                f"tracker with {asked}: noise is 0 or more, lost from 0 to below 1, spells a range from 1 up"
            )


def fingertips_only(keypoints: np.ndarray, handicap: Handicap, rng: np.random.Generator) -> np.ndarray:
    """What the tracker sees of keypoints (T,49,3): same shape, hidden joints 0, 0 with confidence 0.

    The shoulders keep their place (it follows from the face and carries nothing else), with confidence 0.
    """
    frames = len(keypoints)
    noisy = keypoints.copy()
    noisy[..., :2] += rng.normal(0, handicap.noise * HAND_LENGTH, (*keypoints.shape[:2], 2)).astype(np.float32)
    seen = np.zeros_like(keypoints)
    seen[:, NOSE + 1 : NOSE + 3] = keypoints[:, NOSE + 1 : NOSE + 3]
    seen[:, NOSE] = keypoints[:, NOSE]
    for name, wrist in (("left", LEFT_WRIST), ("right", RIGHT_WRIST)):
        kept = ~_spells(frames, handicap, rng)
        hand = np.zeros((frames, 21, 3), np.float32)
        hand[:, _VISIBLE] = noisy[:, HAND[name]][:, _VISIBLE]
        hand *= (kept & (keypoints[:, wrist, 2] > 0))[:, None, None]
        seen[:, HAND[name]] = hand
        seen[:, wrist] = hand[:, 0]
    return seen


def _spells(frames: int, handicap: Handicap, rng: np.random.Generator) -> np.ndarray:
    """(T,) bool: when a hand is lost. Spells begin so often that their expected share of the time is `lost`."""
    shortest, longest = handicap.spell
    mean = (shortest + longest) / 2
    begin = handicap.lost / (mean * (1 - handicap.lost))  # chance a frame, while not lost
    starts, lengths = rng.random(frames + longest), rng.integers(shortest, longest + 1, frames + longest)
    lost = np.zeros(frames + longest, bool)
    time = 0
    while time < len(lost):
        if starts[time] < begin:
            lost[time : time + lengths[time]] = True
            time += int(lengths[time])
        else:
            time += 1
    return lost[longest:]  # a clip may begin within a spell
