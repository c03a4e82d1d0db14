"""Forward kinematics of a hand: wrist, orientation and finger bending in, 21 landmarks in MediaPipe's order out."""

from __future__ import annotations

import numpy as np

# Bending of thumb, index, middle, ring, little (0 straight .. 1 folded), then the spread of the fingers (0 .. 1).
HANDSHAPES: dict[str, tuple[float, ...]] = {
    "fist": (0.9, 1.0, 1.0, 1.0, 1.0, 0.0),
    "flat": (0.7, 0.0, 0.0, 0.0, 0.0, 0.0),
    "five": (0.0, 0.0, 0.0, 0.0, 0.0, 1.0),
    "index": (0.9, 0.0, 1.0, 1.0, 1.0, 0.0),
    "vee": (0.9, 0.0, 0.0, 1.0, 1.0, 0.7),
    "ell": (0.0, 0.0, 1.0, 1.0, 1.0, 0.0),
    "wye": (0.0, 1.0, 1.0, 1.0, 0.0, 0.6),
    "claw": (0.3, 0.5, 0.5, 0.5, 0.5, 0.8),
    "horns": (0.9, 0.0, 1.0, 1.0, 0.0, 0.2),
    "three": (0.0, 0.0, 0.0, 1.0, 1.0, 0.7),
}
RELAXED = (0.35, 0.35, 0.4, 0.45, 0.5, 0.2)

PALM = 0.115  # wrist to knuckles, in frame widths, of a hand of size 1
_KNUCKLE_ACROSS = np.array([0.40, 0.14, -0.12, -0.36])  # lateral place of the four knuckles, in palm lengths
_BONES = np.array([[0.50, 0.32, 0.26], [0.56, 0.36, 0.28], [0.52, 0.34, 0.27], [0.42, 0.26, 0.22]])  # in palm lengths
_THUMB_BONES = np.array([0.42, 0.34, 0.28])
_JOINT_BEND = np.cumsum([1.25, 1.5, 1.1])  # radians of direction change after each joint of a folded finger
_SPREAD = np.array([0.30, 0.10, -0.10, -0.32])  # radians a finger leans sideways at full spread


def hand_landmarks(
    wrist: np.ndarray, angle: np.ndarray, turn: np.ndarray, shape: np.ndarray, size: float, left: bool
) -> np.ndarray:
    """21 landmarks (T,21,3) of one hand.

    `wrist` (T,3) in frame widths; `angle` (T,) radians in the picture, 0 with the fingers up, growing to the right;
    `turn` (T,) radians about the forearm, 0 with the palm to the camera; `shape` (T,6) as in `HANDSHAPES`; `size`
    scales the hand; `left` mirrors it.
    """
    length = PALM * size
    side = -1.0 if left else 1.0
    along = np.stack([np.sin(angle), -np.cos(angle), np.zeros_like(angle)], axis=-1)  # wrist to knuckles
    # To the thumb while the palm is to the camera.
    flat = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=-1) * side
    camera = np.array([0.0, 0.0, -1.0])
    across = flat * np.cos(turn)[:, None] - camera * np.sin(turn)[:, None]
    palm = camera * np.cos(turn)[:, None] + flat * np.sin(turn)[:, None]  # out of the palm: where fingers fold to

    points = np.empty((len(wrist), 21, 3))
    points[:, 0] = wrist
    _place_thumb(points, wrist, along, across, palm, shape[:, 0], length)
    for finger in range(4):
        bend = shape[:, 1 + finger, None] * _JOINT_BEND  # (T,3)
        lean = (shape[:, 5] * _SPREAD[finger])[:, None]
        base = along * np.cos(lean) + across * np.sin(lean)
        joint = wrist + length * (along + across * _KNUCKLE_ACROSS[finger])
        points[:, 5 + 4 * finger] = joint
        for bone in range(3):
            cosine, sine = np.cos(bend[:, bone : bone + 1]), np.sin(bend[:, bone : bone + 1])
            joint = joint + length * _BONES[finger, bone] * (base * cosine + palm * sine)
            points[:, 6 + 4 * finger + bone] = joint
    return points


def _place_thumb(
    points: np.ndarray,
    wrist: np.ndarray,
    along: np.ndarray,
    across: np.ndarray,
    palm: np.ndarray,
    fold: np.ndarray,
    length: float,
) -> None:
    joint = wrist + length * (0.28 * along + 0.34 * across)
    points[:, 1] = joint
    # A straight thumb points away from the palm; a folded one lies across it.
    away = fold[:, None]
    direction = along * 0.6 + across * (0.85 - 1.5 * away) + palm * 0.7 * away
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    for bone in range(3):
        joint = joint + length * _THUMB_BONES[bone] * direction
        points[:, 2 + bone] = joint
