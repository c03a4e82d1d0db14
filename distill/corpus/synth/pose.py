"""A pose track: the exact motion of one signer, before any camera or tracker has looked at it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from runtime.contract import body_and_hands_layout

LAYOUT = body_and_hands_layout()
NOSE, LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_ELBOW, RIGHT_ELBOW, LEFT_WRIST, RIGHT_WRIST = range(7)
HAND = {"left": slice(7, 28), "right": slice(28, 49)}  # 21 landmarks each, MediaPipe's order, root first
FACE_CHANNELS = ("mouth_open", "mouth_wide", "brow", "tilt")


@dataclass
class PoseTrack:
    """Exact motion of one clip.

    `joints` (T,49,3) float32 in `LAYOUT` order: x right, y down, in units of frame width (0..1 inside the picture); z
    is depth in the same unit, smaller is nearer. `face` (T,4) float32 in `FACE_CHANNELS` order: mouth opening 0..1,
    mouth width -1..1, brow height -1..1, head tilt in radians. `present` (T,2) bool: whether the left and the right
    hand exist in the recording (always true for generated motion). `fps` frames a second.
    """

    joints: np.ndarray
    face: np.ndarray
    present: np.ndarray
    fps: float
