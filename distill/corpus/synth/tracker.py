"""A skeleton tracker's view of a pose track: what a pose estimator reports, with the faults that pose estimators have.

It never sees the face beyond the nose, takes fingers for more alike than they are, jitters, loses hands that are fast
or near to other skin, and now and then swaps them. What it drops is information that the pixels still hold: the gap
that a teacher on pixels can help to close, or that nothing closes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distill.corpus.synth.pose import HAND, LEFT_WRIST, NOSE, RIGHT_WRIST, PoseTrack

# How far the joints of a finger reach beyond its knuckle in a usual, half-open hand, in palm lengths.
_USUAL_REACH = np.array([0.0, 0.4, 0.65, 0.8])


@dataclass(frozen=True)
class TrackerNoise:
    """How good the tracker is. Lengths in units of frame width, rates a frame."""

    jitter: float = 0.006  # standard deviation of a body joint's place
    finger_jitter: float = 0.3  # of a finger joint's place, in palm lengths
    finger_fidelity: float = 0.2  # 1: fingers as they are; 0: every hand is the usual, half-open hand
    correlation: float = 0.6  # of the jitter from one frame to the next
    lose: float = 0.04  # chance to lose a well visible, still hand
    lose_hard: float = 0.16  # the same for a hand that is fast, or in front of face or other hand
    find: float = 0.2  # chance to find a lost hand again
    swap: float = 0.04  # chance that hands that touch are swapped, until they part

    @staticmethod
    def none() -> TrackerNoise:
        """A perfect tracker of hands and body (it still has no face)."""
        return TrackerNoise(0, 0, 1, 0, 0, 0, 1, 0)


def track_keypoints(track: PoseTrack, noise: TrackerNoise, rng: np.random.Generator) -> np.ndarray:
    """What the tracker reports: (T,49,3) float32, x and y in units of frame width, confidence 0..1.

    A joint that was not found has confidence 0 and lies at x = y = 0.
    """
    frames = len(track.joints)
    points = track.joints[..., :2].astype(np.float64)
    difficulty = _difficulty(track)
    result = np.empty((frames, points.shape[1], 3))
    result[..., :2] = points + noise.jitter * _correlated(rng, points.shape, noise.correlation)
    result[..., 2] = np.clip(0.95 - 0.05 * np.abs(rng.normal(0, 1, points.shape[:2])), 0, 1)
    for index, side in enumerate(("left", "right")):
        wrist = (LEFT_WRIST, RIGHT_WRIST)[index]
        result[:, HAND[side]] = _see_hand(points[:, HAND[side]], difficulty[:, index], noise, rng)
        lost = _lost(difficulty[:, index], noise, rng) | ~track.present[:, index]
        result[lost, HAND[side]] = 0.0
        result[lost, wrist] = 0.0
    _swap_hands(result, points, noise, rng)
    return result.astype(np.float32)


def _difficulty(track: PoseTrack) -> np.ndarray:
    """(T,2) 0..1: motion blur, other hand near, face behind."""
    wrists = track.joints[:, [LEFT_WRIST, RIGHT_WRIST], :2]
    speed = (
        np.linalg.norm(np.gradient(wrists, axis=0), axis=-1) * track.fps
        if len(wrists) > 1
        else np.zeros(wrists.shape[:2])
    )
    apart = np.linalg.norm(wrists[:, 0] - wrists[:, 1], axis=-1)[:, None]
    face = np.linalg.norm(wrists - track.joints[:, NOSE, None, :2], axis=-1)
    return np.clip(
        np.clip(speed / 1.5 - 0.3, 0, 1) + np.clip(1 - apart / 0.15, 0, 1) + np.clip(1 - face / 0.2, 0, 1), 0, 1
    )


def _correlated(rng: np.random.Generator, shape: tuple[int, ...], correlation: float) -> np.ndarray:
    """Unit-variance noise that remembers the frame before (first-order autoregression)."""
    steps = rng.normal(0, 1, shape)
    for frame in range(1, shape[0]):
        steps[frame] = correlation * steps[frame - 1] + np.sqrt(1 - correlation**2) * steps[frame]
    return steps


def _see_hand(points: np.ndarray, difficulty: np.ndarray, noise: TrackerNoise, rng: np.random.Generator) -> np.ndarray:
    """(T,21,2) exact -> (T,21,3) seen: fingers pulled towards those of a usual hand, then jittered."""
    palm = float(np.median(np.linalg.norm(points[:, 9] - points[:, 0], axis=-1)))
    fingers = points[:, 1:].reshape(len(points), 5, 4, 2)
    shape = fingers - fingers[:, :, :1]
    blur = 0.6 if noise.finger_fidelity < 1 else 0.0  # a perfect tracker stays perfect in hard frames
    fidelity = (noise.finger_fidelity * (1 - blur * difficulty))[:, None, None, None]
    usual = (points[:, 9] - points[:, 0])[:, None, None] * _USUAL_REACH[:, None]
    seen = fingers[:, :, :1] + usual * (1 - fidelity) + shape * fidelity
    result = np.empty((len(points), 21, 3))
    result[:, 0, :2] = points[:, 0]
    result[:, 1:, :2] = seen.reshape(len(points), 20, 2)
    spread = noise.finger_jitter * palm * (0.5 + difficulty[:, None, None])
    result[..., :2] += spread * _correlated(rng, (len(points), 21, 2), noise.correlation)
    result[..., 2] = np.clip(0.9 - 0.5 * difficulty[:, None] + rng.normal(0, 0.04, (len(points), 21)), 0.05, 1)
    return result


def _lost(difficulty: np.ndarray, noise: TrackerNoise, rng: np.random.Generator) -> np.ndarray:
    """(T,) bool: frames in which a hand is not found; losses last."""
    chance = noise.lose + (noise.lose_hard - noise.lose) * difficulty
    draws = rng.random((2, len(difficulty)))
    lost = np.zeros(len(difficulty), dtype=bool)
    for frame in range(len(difficulty)):
        before = frame > 0 and lost[frame - 1]
        lost[frame] = draws[0, frame] >= noise.find if before else draws[1, frame] < chance[frame]
    return lost


def _swap_hands(result: np.ndarray, points: np.ndarray, noise: TrackerNoise, rng: np.random.Generator) -> None:
    """Exchange left and right hand, in place, from a touch until the hands part."""
    apart = np.linalg.norm(points[:, LEFT_WRIST] - points[:, RIGHT_WRIST], axis=-1)
    draws = rng.random(len(apart))
    swapped = False
    for frame, distance in enumerate(apart):
        swapped = (swapped or draws[frame] < noise.swap) if distance < 0.16 else False
        if swapped:
            left, right = result[frame, HAND["left"]].copy(), result[frame, HAND["right"]].copy()
            result[frame, HAND["left"]], result[frame, HAND["right"]] = right, left
