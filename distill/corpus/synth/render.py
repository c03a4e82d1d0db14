"""An anti-aliased renderer: a pose track in, frames of a shaded signer out.

Every body part is a capsule or an ellipse with a signed distance; coverage is the distance in pixels, clipped, so edges
are anti-aliased at any size. Only the patch around a part is computed, for all frames at once, in numpy.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from distill.corpus.synth.pose import (
    HAND,
    LEFT_ELBOW,
    LEFT_SHOULDER,
    LEFT_WRIST,
    NOSE,
    RIGHT_ELBOW,
    RIGHT_SHOULDER,
    RIGHT_WRIST,
    PoseTrack,
)

_CHUNK = 32  # frames drawn at once: small enough to stay in cache
_ARM = {
    "left": (LEFT_SHOULDER, LEFT_ELBOW, LEFT_WRIST),
    "right": (RIGHT_SHOULDER, RIGHT_ELBOW, RIGHT_WRIST),
}
# Bones of a hand, far from the camera first; (from, to, thickness in palm lengths).
_PALM = [(0, 5, 0.26), (0, 9, 0.26), (0, 13, 0.26), (0, 17, 0.24), (5, 17, 0.22)]
_FINGERS = [
    *[(joint, joint + 1, 0.12) for knuckle in (17, 13, 9, 5) for joint in range(knuckle, knuckle + 3)],
    *[(1, 2, 0.13), (2, 3, 0.12), (3, 4, 0.11)],  # the thumb
]


@dataclass(frozen=True)
class Look:
    """What a clip looks like: colours are RGB 0..255."""

    skin: tuple[float, float, float]
    hair: tuple[float, float, float]
    clothes: tuple[float, float, float]
    stripes: float  # strength of a pattern on the clothes
    background: tuple[float, float, float]
    gradient: float  # how much the background darkens to one side
    texture: float  # strength of the background's blotches
    light: tuple[float, float]  # direction the light comes from
    noise: float  # sensor noise, standard deviation in grey levels
    seed: int

    @staticmethod
    def random(rng: np.random.Generator, skin: tuple[float, float, float] | None = None) -> Look:
        """Draw a look; `skin` and hair belong to a signer and may be given."""
        if skin is None:
            skin = random_skin(rng)
        angle = rng.uniform(-0.8, 0.8)
        return Look(
            skin=skin,
            hair=_colour(np.array([60, 45, 35]) * rng.uniform(0.3, 1.6)),
            clothes=_colour(rng.uniform(15, 110, 3)),
            stripes=float(rng.choice([0.0, 0.0, 0.25])),
            background=_colour(rng.uniform(60, 200, 3)),
            gradient=float(rng.uniform(-0.25, 0.25)),
            texture=float(rng.uniform(0.0, 0.12)),
            light=(float(np.sin(angle)), float(-np.cos(angle))),
            noise=float(rng.uniform(1.5, 4.0)),
            seed=int(rng.integers(1 << 31)),
        )


def random_skin(rng: np.random.Generator) -> tuple[float, float, float]:
    """A skin colour from dark to light."""
    share = rng.uniform(0, 1)
    dark, bright = np.array([120.0, 82.0, 60.0]), np.array([242.0, 202.0, 178.0])
    return _colour(dark + (bright - dark) * share)


def _colour(rgb: np.ndarray) -> tuple[float, float, float]:
    red, green, blue = rgb
    return float(red), float(green), float(blue)


def render(track: PoseTrack, look: Look, size: int) -> np.ndarray:
    """Draw a clip: (T,size,size,3) uint8 RGB. The same track, look and size give the same bytes."""
    rng = np.random.default_rng(look.seed)
    plate = _background(look, size, rng)
    frames = np.empty((len(track.joints), size, size, 3), dtype=np.uint8)
    for first in range(0, len(frames), _CHUNK):
        part = slice(first, first + _CHUNK)
        canvas = _Canvas(plate, len(frames[part]))
        _draw(canvas, track.joints[part] * np.float32(size), track.face[part], track.present[part], look)
        frames[part] = canvas.finish(look.noise, rng)
    return frames


class _Canvas:
    """Float pictures with a margin of half a picture on every side, so that no patch hangs over the edge."""

    def __init__(self, plate: np.ndarray, frames: int) -> None:
        self.size = len(plate)
        self.margin = self.size // 2
        wide = self.size + 2 * self.margin
        self._pixels = np.zeros((frames, wide, wide, 3), np.float32)
        self.picture = self._pixels[
            :, self.margin : -self.margin, self.margin : -self.margin
        ]  # (T,size,size,3), a view
        self.picture[:] = plate

    @contextlib.contextmanager
    def patch(self, centre: np.ndarray, reach: float) -> Iterator[_Patch]:
        """The square `reach` pixels around `centre` (T,2), no larger than the picture: what is painted on it stays."""
        half = min(int(reach), self.margin)
        corner = np.clip(np.floor(centre).astype(int) - half, -self.margin, self.size + self.margin - 2 * half)
        columns, rows = corner[:, :1] + np.arange(2 * half), corner[:, 1:] + np.arange(2 * half)
        where = (
            np.arange(len(corner))[:, None, None],
            (rows + self.margin)[:, :, None],
            (columns + self.margin)[:, None, :],
        )
        x, y = (columns + 0.5).astype(np.float32)[:, None, :], (rows + 0.5).astype(np.float32)[:, :, None]
        patch = _Patch(x, y, self._pixels[where])
        yield patch
        self._pixels[where] = patch.pixels

    def finish(self, noise: float, rng: np.random.Generator) -> np.ndarray:
        """The pictures (T,size,size,3) uint8, with sensor noise."""
        # One block of noise, read from a random place for every frame: far cheaper than drawing each pixel, as good.
        count = self.size * self.size * 3
        pool = rng.standard_normal(4 * count, dtype=np.float32) * np.float32(noise)
        for picture, start in zip(self.picture, rng.integers(0, 3 * count, len(self.picture)), strict=True):
            picture += pool[start : start + count].reshape(picture.shape)
        return np.clip(self.picture + 0.5, 0, 255).astype(np.uint8)


@dataclass
class _Patch:
    """A piece of every frame: pixel centres `x` (T,1,S) and `y` (T,S,1) in the picture, and `pixels` (T,S,S,3)."""

    x: np.ndarray
    y: np.ndarray
    pixels: np.ndarray

    def paint(self, cover: np.ndarray, colour: np.ndarray) -> None:
        """Lay `colour`, broadcastable to the pixels, over them with opacity `cover` (T,S,S)."""
        _blend(self.pixels, cover, colour)


def _blend(pixels: np.ndarray, cover: np.ndarray, colour: np.ndarray) -> None:
    pixels += cover[..., None] * (colour - pixels)


def _background(look: Look, size: int, rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    coarse = rng.standard_normal((6, 6)).astype(np.float32)
    rows = np.clip(np.arange(size) * 5 / size, 0, 4.999)
    low, share = rows.astype(int), (rows % 1).astype(np.float32)
    tall = coarse[low] * (1 - share[:, None]) + coarse[low + 1] * share[:, None]
    blotches = tall[:, low] * (1 - share) + tall[:, low + 1] * share
    shade = 1 + look.gradient * (x - 0.5) * 2 - 0.15 * y + look.texture * blotches
    return np.array(look.background, dtype=np.float32) * shade[..., None]


def _draw(canvas: _Canvas, joints: np.ndarray, face: np.ndarray, present: np.ndarray, look: Look) -> None:
    """Back to front: trunk, head, then the two arms with their hands, the nearer one last."""
    _trunk(canvas, joints, look)
    _head(canvas, joints, face, look)
    nearer_left = joints[:, LEFT_WRIST, 2].mean() < joints[:, RIGHT_WRIST, 2].mean()
    sides = ("right", "left") if nearer_left else ("left", "right")
    for side in sides:
        _arm(canvas, joints, side, look)
        _hand(canvas, joints[:, HAND[side]], present[:, 0 if side == "left" else 1], look)


def _capsule(x: np.ndarray, y: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distance (T,S,S) in pixels from the segment a-b (each (T,2)), and the offset from the nearest point of it."""
    ax, ay = a[:, 0, None, None], a[:, 1, None, None]
    dx, dy = b[:, 0, None, None] - ax, b[:, 1, None, None] - ay
    px, py = x - ax, y - ay
    share = np.clip((px * dx + py * dy) / np.maximum(dx * dx + dy * dy, np.float32(1e-6)), 0, 1)
    ox, oy = px - share * dx, py - share * dy
    return np.sqrt(ox * ox + oy * oy), ox, oy


def _trunk(canvas: _Canvas, joints: np.ndarray, look: Look) -> None:
    """A box with round shoulders, over the whole width below the shoulder line."""
    left, right = joints[:, LEFT_SHOULDER, :2], joints[:, RIGHT_SHOULDER, :2]
    middle = ((left + right) / 2)[:, :, None, None]
    width = np.linalg.norm(left - right, axis=1)[:, None, None]
    centres = np.arange(canvas.size, dtype=np.float32) + 0.5
    x, y = centres[None, None, :], centres[None, :, None]
    radius = 0.17 * width
    # Distance to the box without its rounding: positive beyond its side, above its top.
    aside = np.abs(x - middle[:, 0]) - (0.5 * width - 0.02 * canvas.size)
    above = (middle[:, 1] + 0.6 * radius) - y
    outside = np.sqrt(np.maximum(aside, 0) ** 2 + np.maximum(above, 0) ** 2)
    cover = np.clip(0.5 + radius - outside, 0, 1)
    shade = 1 - 0.3 * np.clip((aside + radius) / (2 * radius), 0, 1)
    if look.stripes:
        shade = shade * (1 + look.stripes * np.sign(np.sin((y - middle[:, 1]) * (2 * np.pi * 9 / canvas.size))))
    _blend(canvas.picture, cover, np.array(look.clothes, np.float32) * shade[..., None])


def _head(canvas: _Canvas, joints: np.ndarray, face: np.ndarray, look: Look) -> None:
    nose = joints[:, NOSE, :2]
    middle = (joints[:, LEFT_SHOULDER, :2] + joints[:, RIGHT_SHOULDER, :2]) / 2
    width = np.linalg.norm(joints[:, LEFT_SHOULDER, :2] - joints[:, RIGHT_SHOULDER, :2], axis=1)
    radius = (0.31 * width)[:, None, None]
    reach = np.ceil(float(radius.max()) * 1.35) + 2
    with canvas.patch(nose + np.array([0, 0.1], np.float32) * radius[:, 0], reach) as patch:
        neck, _, _ = _capsule(patch.x, patch.y, nose, middle)
        patch.paint(np.clip(0.5 + 0.42 * radius - neck, 0, 1), np.array(look.skin, np.float32) * 0.78)
        _face(patch, nose, radius, face, look)


def _face(patch: _Patch, nose: np.ndarray, radius: np.ndarray, face: np.ndarray, look: Look) -> None:
    """Hair, skin, eyes, brows and mouth, in coordinates of the tilted head: its middle is 0, its radius 1."""
    opened, wide, brow, tilt = (face[:, i, None, None] for i in range(4))
    px, py = (patch.x - nose[:, 0, None, None]) / radius, (patch.y - nose[:, 1, None, None]) / radius
    u, v = px * np.cos(tilt) + py * np.sin(tilt), py * np.cos(tilt) - px * np.sin(tilt)

    def ellipse(cu: float, cv: float | np.ndarray, ru: float | np.ndarray, rv: float | np.ndarray) -> np.ndarray:
        distance = np.sqrt(((u - cu) / ru) ** 2 + ((v - cv) / rv) ** 2) - 1
        return np.clip(0.5 - distance * np.minimum(ru, rv) * radius, 0, 1)

    skin, hair = np.array(look.skin, np.float32), np.array(look.hair, np.float32)
    patch.paint(ellipse(0, -0.22, 0.95, 1.08), hair)
    light = np.clip(1 - 0.22 * (u * -look.light[0] + v * -look.light[1]), 0.6, 1.15)
    patch.paint(ellipse(0, 0, 0.80, 1.02), skin * light[..., None])
    dark = np.array([35, 25, 25], np.float32)
    for side in (-1, 1):
        patch.paint(0.9 * ellipse(side * 0.33, -0.22, 0.13, 0.09), dark)
        patch.paint(0.9 * ellipse(side * 0.34, -0.45 - 0.2 * brow, 0.24, 0.07), hair * 0.7)
    lips, mouth, teeth = (np.array(rgb, np.float32) for rgb in ([150, 55, 55], [50, 12, 16], [235, 232, 222]))
    inner = mouth + np.clip(wide, 0, 1)[..., None] * (teeth - mouth)  # a wide mouth shows the teeth
    patch.paint(ellipse(0, 0.50, 0.29 + 0.19 * wide, 0.11 + 0.24 * opened + 0.04 * np.abs(wide)), lips)
    patch.paint(ellipse(0, 0.50, 0.21 + 0.19 * wide, 0.02 + 0.24 * opened + 0.05 * np.abs(wide)), inner)


def _arm(canvas: _Canvas, joints: np.ndarray, side: str, look: Look) -> None:
    shoulder, elbow, wrist = _ARM[side]
    width = float(np.linalg.norm(joints[:, LEFT_SHOULDER, :2] - joints[:, RIGHT_SHOULDER, :2], axis=1).mean())
    clothes = np.array(look.clothes, np.float32)
    for start, end, thick in ((shoulder, elbow, 0.135), (elbow, wrist, 0.12)):
        a, b = joints[:, start, :2], joints[:, end, :2]
        with canvas.patch((a + b) / 2, np.ceil(np.abs(a - b).max() / 2 + thick * width) + 2) as patch:
            distance, ox, oy = _capsule(patch.x, patch.y, a, b)
            radius = np.float32(thick * width)
            shade = 1.12 - 0.30 * (distance / radius) ** 2 + 0.12 * (ox * look.light[0] + oy * look.light[1]) / radius
            patch.paint(np.clip(0.5 + radius - distance, 0, 1), clothes * np.clip(shade, 0.5, 1.3)[..., None])


def _hand(canvas: _Canvas, landmarks: np.ndarray, present: np.ndarray, look: Look) -> None:
    """One hand: palm and bones into a patch of brightness and cover, then onto the picture in one go."""
    points = landmarks[..., :2]
    low, high = points.min(axis=1), points.max(axis=1)
    palm = np.median(np.linalg.norm(landmarks[:, 9] - landmarks[:, 0], axis=1))
    depth = (landmarks[..., 2] - landmarks[:, :1, 2]) / max(float(palm), 1e-3)
    # Folded fingers that point away from the camera lie behind the palm, those that point to it in front.
    behind = depth[:, [8, 12, 16, 20]].mean() > 0.15
    bones = [*_FINGERS, *_PALM] if behind else [*_PALM, *_FINGERS]
    reach = np.ceil(np.percentile((high - low).max(axis=1), 90) / 2 + 0.2 * palm) + 1
    with canvas.patch((low + high) / 2, reach) as patch:
        bright = np.ones(patch.pixels.shape[:3], np.float32)
        cover = np.zeros_like(bright)
        for start, end, thick in bones:
            distance, ox, oy = _capsule(patch.x, patch.y, points[:, start], points[:, end])
            radius = np.float32(max(thick * palm, 0.45))
            mask = np.clip(0.5 + radius - distance, 0, 1)
            nearness = np.clip(-0.5 * (depth[:, start] + depth[:, end]), -1, 1)[:, None, None]
            edge = 0.42 if thick < 0.2 else 0.12
            tone = 1.0 + 0.14 * nearness - edge * np.minimum(distance / radius, 1.2) ** 2
            tone += 0.10 * (ox * look.light[0] + oy * look.light[1]) / radius
            bright += mask * (tone - bright)
            cover += mask * (1 - cover)
        cover *= present[:, None, None]
        patch.paint(cover, np.array(look.skin, np.float32) * np.clip(bright, 0.35, 1.25)[..., None])
