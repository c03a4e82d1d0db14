"""From a sentence of signs to a pose track: strokes, co-articulated transitions, rests, and a signer's own ways."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distill.corpus.synth.hand import HANDSHAPES, RELAXED, hand_landmarks
from distill.corpus.synth.lexicon import FACES, PLACES, Sign
from distill.corpus.synth.pose import HAND, LAYOUT, PoseTrack

# Columns of the control track of one hand: wrist x, y (shoulder widths), depth, angle, turn, six of the handshape.
_HAND_COLUMNS = 11
_DEPTH = -0.25  # hands are in front of the body
_REST = np.array([0.42, 1.15, _DEPTH, 0.5, 0.6, *RELAXED])
_BASE = np.array([0.10, 0.62, _DEPTH, 1.1, 0.3, *HANDSHAPES["flat"]])


@dataclass(frozen=True)
class Signer:
    """What differs from one signer to the next."""

    name: str
    left_handed: bool
    shoulder: float  # shoulder width, frame widths
    neck: float  # nose above the shoulder line, in shoulder widths
    arm: float  # length of upper arm and of forearm, in shoulder widths
    hand: float  # size of the hands
    tempo: float  # 1 is average, more is faster
    reach: float  # size of movements
    softness: float  # seconds of smoothing: how much neighbouring signs run into one another
    laxness: float  # how far handshapes fall short of their form
    face: float  # strength of the non-manual parts
    offset: tuple[float, float]  # habitual displacement of places, shoulder widths

    @staticmethod
    def random(name: str, rng: np.random.Generator) -> Signer:
        """Draw a signer."""
        return Signer(
            name=name,
            left_handed=bool(rng.random() < 0.2),
            shoulder=float(rng.uniform(0.38, 0.44)),
            neck=float(rng.uniform(0.52, 0.62)),
            arm=float(rng.uniform(0.80, 0.92)),
            hand=float(rng.uniform(0.92, 1.1)),
            tempo=float(rng.uniform(0.85, 1.2)),
            reach=float(rng.uniform(0.88, 1.12)),
            softness=float(rng.uniform(0.02, 0.05)),
            laxness=float(rng.uniform(0.0, 0.15)),
            face=float(rng.uniform(0.8, 1.0)),
            offset=(float(rng.normal(0, 0.04)), float(rng.normal(0, 0.04))),
        )


def perform(signs: list[Sign], signer: Signer, fps: float, rng: np.random.Generator) -> PoseTrack:
    """One sentence by one signer as exact motion."""
    dominant, other, face = _controls(signs, signer, fps, rng)
    sigma = signer.softness * fps
    dominant, other, face = (_smooth(track, sigma) for track in (dominant, other, face))
    return _to_pose(dominant, other, face, signer, fps, rng)


def _controls(
    signs: list[Sign], signer: Signer, fps: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Control tracks of dominant hand, other hand (each (T,11)) and face (T,3)."""
    rest_face = np.array(FACES["neutral"])
    pieces: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def hold(frames: int) -> None:
        pieces.append((np.tile(_REST, (frames, 1)), np.tile(_REST, (frames, 1)), np.tile(rest_face, (frames, 1))))

    hold(int(rng.integers(1, 4)))
    for sign in signs:
        stroke = _stroke(sign, signer, fps, rng)
        pieces.append(_transition(pieces[-1], stroke, fps, signer, rng))
        pieces.append(stroke)
    frames = int(rng.integers(1, 4))
    hold(frames)
    pieces.insert(-1, _transition(pieces[-2], pieces[-1], fps, signer, rng))
    return tuple(np.concatenate(part) for part in zip(*pieces, strict=True))  # type: ignore[return-value]


def _stroke(
    sign: Sign, signer: Signer, fps: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    frames = max(3, round(sign.seconds * fps / signer.tempo * rng.uniform(0.88, 1.12)))
    time = np.linspace(0, 1, frames)
    ease = time * time * (3 - 2 * time)
    start, end = np.array(PLACES[sign.start]), np.array(PLACES[sign.end])
    place = start + (end - start) * ease[:, None] + _bow(sign.path, start, end, time) * signer.reach
    place = place + np.array(signer.offset) + rng.normal(0, 0.025, 2)

    shape = np.array([HANDSHAPES[name] for name in sign.shapes])
    shape = shape + (np.array(RELAXED) - shape) * signer.laxness
    shape = shape[0] + (shape[1] - shape[0]) * ease[:, None]
    hand = np.empty((frames, _HAND_COLUMNS))
    hand[:, :2] = place
    hand[:, 2] = _DEPTH - 0.05
    hand[:, 3] = sign.angle + rng.normal(0, 0.08)
    hand[:, 4] = sign.turn + rng.normal(0, 0.08)
    hand[:, 5:] = shape + rng.normal(0, 0.02, 6)

    other = {"rest": _REST, "base": _BASE, "mirror": None}[sign.other]
    second = hand.copy() if other is None else np.tile(other, (frames, 1))
    strength = signer.face * rng.uniform(0.85, 1.0)
    face = np.tile(np.array(FACES[sign.face]) * strength, (frames, 1))
    return hand, second, face


def _bow(path: str, start: np.ndarray, end: np.ndarray, time: np.ndarray) -> np.ndarray:
    """How a path departs from the straight line, (T,2) in shoulder widths."""
    line = end - start
    normal = np.array([-line[1], line[0]])
    normal = normal / (np.linalg.norm(normal) or 1.0)
    if path == "arc":
        return normal * (0.32 * np.sin(np.pi * time))[:, None]
    if path == "zigzag":
        return normal * (0.16 * np.sin(3 * np.pi * time))[:, None]
    if path == "circle":
        return 0.22 * np.stack([np.sin(2 * np.pi * time), 1 - np.cos(2 * np.pi * time)], axis=-1)
    if path == "tap":
        return np.stack([np.zeros_like(time), 0.14 * np.abs(np.sin(2 * np.pi * time))], axis=-1)
    return np.zeros((len(time), 2))


def _transition(
    before: tuple[np.ndarray, ...], after: tuple[np.ndarray, ...], fps: float, signer: Signer, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Co-articulated join: longer for longer ways, hands lifted a little on the way, handshape ahead of movement."""
    way = float(np.linalg.norm(after[0][0, :2] - before[0][-1, :2]))
    frames = max(2, round((0.12 + 0.16 * way) * fps / signer.tempo * rng.uniform(0.85, 1.15)))
    time = np.arange(1, frames + 1) / (frames + 1)
    ease = time * time * (3 - 2 * time)
    early = np.minimum(1.0, 1.35 * time)
    early = early * early * (3 - 2 * early)
    joined = []
    for last, first in zip(before, after, strict=True):
        share = np.repeat(ease[:, None], last.shape[1], axis=1)
        if last.shape[1] == _HAND_COLUMNS:
            share[:, 5:] = early[:, None]
        joined.append(last[-1] + (first[0] - last[-1]) * share)
    joined[0][:, 1] -= 0.06 * np.sin(np.pi * time)
    return joined[0], joined[1], joined[2]


def _smooth(track: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian smoothing over time with `sigma` frames; the ends are held."""
    radius = max(1, int(np.ceil(3 * sigma)))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / max(sigma, 1e-3)) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(track, ((radius, radius), (0, 0)), mode="edge")
    return np.stack([np.convolve(column, kernel, mode="valid") for column in padded.T], axis=1)


def _to_pose(
    dominant: np.ndarray, other: np.ndarray, face: np.ndarray, signer: Signer, fps: float, rng: np.random.Generator
) -> PoseTrack:
    frames, width = len(dominant), signer.shoulder
    sway = _smooth(rng.normal(0, 1, (frames, 2)), 0.4 * fps) * 0.02
    middle = np.array([0.5, 0.52]) + rng.normal(0, 0.012, 2) + sway
    joints = np.zeros((frames, len(LAYOUT), 3))
    joints[:, 0, :2] = middle + np.array([0, -signer.neck * width]) + 0.5 * sway
    for side, shoulder, elbow, wrist, sign in (("left", 1, 3, 5, 1.0), ("right", 2, 4, 6, -1.0)):
        # The signer faces the camera: the signer's left is on the picture's right.
        control = dominant if (side == "left") == signer.left_handed else other
        joints[:, shoulder, :2] = middle + np.array([sign * width / 2, 0])
        joints[:, wrist, 0] = middle[:, 0] + sign * control[:, 0] * width
        joints[:, wrist, 1] = middle[:, 1] + control[:, 1] * width
        joints[:, wrist, 2] = control[:, 2]
        joints[:, elbow] = bend_elbow(joints[:, shoulder], joints[:, wrist], signer.arm * width, outward=sign)
        joints[:, HAND[side]] = hand_landmarks(
            joints[:, wrist], -sign * control[:, 3], control[:, 4], control[:, 5:], signer.hand, left=side == "left"
        )
    tilt = _smooth(rng.normal(0, 1, (frames, 1)), 0.5 * fps) * 0.08
    return PoseTrack(
        joints.astype(np.float32),
        np.concatenate([face, tilt], axis=1).astype(np.float32),
        np.ones((frames, 2), bool),
        fps,
    )


def bend_elbow(shoulder: np.ndarray, wrist: np.ndarray, bone: float, outward: float) -> np.ndarray:
    """Elbow (T,3) between `shoulder` and `wrist` (T,3), both bones of length `bone` in the picture plane.

    The arm bends down and `outward` (+1 to the right, -1 to the left).
    """
    way = wrist[:, :2] - shoulder[:, :2]
    distance = np.linalg.norm(way, axis=1, keepdims=True)
    height = np.sqrt(np.maximum(bone**2 - (distance / 2) ** 2, 0.0))
    normal = np.concatenate([-way[:, 1:], way[:, :1]], axis=1) / np.maximum(distance, 1e-6)
    bent = np.where((normal @ np.array([0.6 * outward, 0.8]))[:, None] < 0, -normal, normal)
    # Foreshortened: an arm bent towards the camera shows less of its bend.
    elbow = shoulder[:, :2] + way / 2 + bent * height * 0.75
    return np.concatenate([elbow, (shoulder[:, 2:] + wrist[:, 2:]) / 2], axis=1)
