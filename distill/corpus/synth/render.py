"""An anti-aliased renderer: a pose track in, frames of a shaded signer out.

Every body part is a capsule or an ellipse with a signed distance; coverage is the distance in pixels, clipped, so edges are
anti-aliased at any size. Only the patch around a part is computed, for all frames at once, in numpy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distill.corpus.synth.pose import HAND, LEFT_ELBOW, LEFT_SHOULDER, LEFT_WRIST, NOSE, RIGHT_ELBOW, RIGHT_SHOULDER, RIGHT_WRIST, PoseTrack

_CHUNK = 32  # frames drawn at once: small enough to stay in cache
# Bones of a hand, far from the camera first; (from, to, thickness in palm lengths).
_PALM = [(0, 5, 0.26), (0, 9, 0.26), (0, 13, 0.26), (0, 17, 0.24), (5, 17, 0.22)]
_FINGERS = [
    *[(a, b, 0.105) for first in (17, 13, 9, 5) for a, b in ((first, first + 1), (first + 1, first + 2), (first + 2, first + 3))],
    (1, 2, 0.13), (2, 3, 0.12), (3, 4, 0.11),
]  # fmt: skip


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
            skin=skin, hair=tuple(float(v) for v in np.array([60, 45, 35]) * rng.uniform(0.3, 1.6)),  # type: ignore[arg-type]
            clothes=tuple(float(v) for v in rng.uniform(15, 110, 3)),  # type: ignore[arg-type]
            stripes=float(rng.choice([0.0, 0.0, 0.25])), background=tuple(float(v) for v in rng.uniform(60, 200, 3)),  # type: ignore[arg-type]
            gradient=float(rng.uniform(-0.25, 0.25)), texture=float(rng.uniform(0.0, 0.12)),
            light=(float(np.sin(angle)), float(-np.cos(angle))), noise=float(rng.uniform(1.5, 4.0)), seed=int(rng.integers(1 << 31)),
        )  # fmt: skip


def random_skin(rng: np.random.Generator) -> tuple[float, float, float]:
    """A skin colour from dark to light."""
    share = rng.uniform(0, 1)
    dark, bright = np.array([120.0, 82.0, 60.0]), np.array([242.0, 202.0, 178.0])
    red, green, blue = dark + (bright - dark) * share
    return float(red), float(green), float(blue)


def render(track: PoseTrack, look: Look, size: int) -> np.ndarray:
    """Draw a clip: (T,size,size,3) uint8 RGB. The same track, look and size give the same bytes."""
    rng = np.random.default_rng(look.seed)
    plate = _background(look, size, rng)
    frames = np.empty((len(track.joints), size, size, 3), dtype=np.uint8)
    for first in range(0, len(frames), _CHUNK):
        part = slice(first, first + _CHUNK)
        canvas = _Canvas(plate, len(frames[part]), size)
        _draw(canvas, track.joints[part] * np.float32(size), track.face[part], track.present[part], look)
        frames[part] = canvas.finish(look.noise, rng)
    return frames


class _Canvas:
    """Float pictures (T,size,size,3) with a margin, so that patches may hang over the edge."""

    def __init__(self, plate: np.ndarray, frames: int, size: int) -> None:
        self.size, self.margin = size, size // 2
        self.pixels = np.repeat(plate[None], frames, axis=0)

    def window(self, centre: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[np.ndarray, ...]]:
        """Patch of (2 reach)^2 pixels around `centre` (T,2): pixel centres x (T,1,S), y (T,S,1), what is in sight, and its indices."""
        corner = np.clip(np.floor(centre).astype(int) - reach, -self.margin, self.size + self.margin - 2 * reach)
        columns, rows = corner[:, :1] + np.arange(2 * reach), corner[:, 1:] + np.arange(2 * reach)
        inside = ((columns >= 0) & (columns < self.size))[:, None, :] & ((rows >= 0) & (rows < self.size))[:, :, None]
        where = (
            np.arange(len(centre))[:, None, None], np.clip(rows, 0, self.size - 1)[:, :, None],
            np.clip(columns, 0, self.size - 1)[:, None, :],
        )  # fmt: skip
        x = (columns + np.float32(0.5)).astype(np.float32)[:, None, :]
        y = (rows + np.float32(0.5)).astype(np.float32)[:, :, None]
        return x, y, inside, where

    def paint(self, where: tuple[np.ndarray, ...] | None, cover: np.ndarray, colour: np.ndarray) -> None:
        """Lay `colour` (broadcastable to (T,S,S,3)) over the patch with opacity `cover` (T,S,S)."""
        if where is None:
            self.pixels += cover[..., None] * (colour - self.pixels)
            return
        under = self.pixels[where]
        # Pixels outside the picture are clipped onto its edge with zero cover: writing the difference keeps them harmless.
        np.add.at(self.pixels, where, cover[..., None] * (colour - under)) if self._clipped(where) else self._set(where, under, cover, colour)

    def _clipped(self, where: tuple[np.ndarray, ...]) -> bool:
        rows, columns = where[1], where[2]
        return bool((rows[:, 0] == rows[:, 1]).any() or (rows[:, -1] == rows[:, -2]).any()
                    or (columns[..., 0] == columns[..., 1]).any() or (columns[..., -1] == columns[..., -2]).any())  # fmt: skip

    def _set(self, where: tuple[np.ndarray, ...], under: np.ndarray, cover: np.ndarray, colour: np.ndarray) -> None:
        self.pixels[where] = under + cover[..., None] * (colour - under)

    def finish(self, noise: float, rng: np.random.Generator) -> np.ndarray:
        """Add sensor noise and quantise."""
        # One block of noise, read from a random place for every frame: far cheaper than drawing each pixel, and as good.
        pool = rng.standard_normal(4 * self.size * self.size * 3, dtype=np.float32) * np.float32(noise)
        count = self.size * self.size * 3
        for frame, start in enumerate(rng.integers(0, len(pool) - count, len(self.pixels))):
            self.pixels[frame] += pool[start : start + count].reshape(self.size, self.size, 3)
        return np.clip(self.pixels + 0.5, 0, 255).astype(np.uint8)


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
    size = canvas.size
    left, right = joints[:, LEFT_SHOULDER, :2], joints[:, RIGHT_SHOULDER, :2]
    middle = (left + right) / 2
    width = np.linalg.norm(left - right, axis=1)
    y, x = (np.arange(size, dtype=np.float32) + 0.5)[None, :, None], (np.arange(size, dtype=np.float32) + 0.5)[None, None, :]
    radius = 0.17 * width[:, None, None]
    # A box with round shoulders: distance to the box below the shoulder line, minus its rounding.
    bx = np.abs(x - middle[:, 0, None, None]) - (0.5 * width[:, None, None] - 0.02 * size)
    by = (middle[:, 1, None, None] + 0.6 * radius) - y
    outside = np.sqrt(np.maximum(bx, 0) ** 2 + np.maximum(by, 0) ** 2)
    cover = np.clip(0.5 + radius - outside - np.minimum(np.maximum(bx, by), 0) * 0, 0, 1)
    shade = 1 - 0.5 * np.clip((bx + radius) / (2 * radius), 0, 1) * 0.6
    if look.stripes:
        shade = shade * (1 + look.stripes * np.sign(np.sin((y - middle[:, 1, None, None]) * (2 * np.pi * 9 / size))))
    canvas.paint(None, cover, np.array(look.clothes, np.float32) * shade[..., None])


def _head(canvas: _Canvas, joints: np.ndarray, face: np.ndarray, look: Look) -> None:
    nose = joints[:, NOSE, :2]
    middle = (joints[:, LEFT_SHOULDER, :2] + joints[:, RIGHT_SHOULDER, :2]) / 2
    width = np.linalg.norm(joints[:, LEFT_SHOULDER, :2] - joints[:, RIGHT_SHOULDER, :2], axis=1)
    radius = (0.31 * width)[:, None, None]
    skin, hair = np.array(look.skin, np.float32), np.array(look.hair, np.float32)
    reach = min(int(np.ceil(float(radius.max()) * 1.35)) + 2, canvas.size // 2)
    x, y, inside, where = canvas.window(nose + np.array([0, 0.1], np.float32) * radius[:, 0], reach)

    neck, _, _ = _capsule(x, y, nose, middle)
    canvas.paint(where, np.clip(0.5 + 0.42 * radius - neck, 0, 1) * inside, skin * 0.78)

    # Face coordinates: tilted, in head radii.
    tilt = face[:, 3, None, None]
    px, py = (x - nose[:, 0, None, None]) / radius, (y - nose[:, 1, None, None]) / radius
    u, v = px * np.cos(tilt) + py * np.sin(tilt), py * np.cos(tilt) - px * np.sin(tilt)

    def ellipse(cu: float | np.ndarray, cv: float | np.ndarray, ru: float | np.ndarray, rv: float | np.ndarray) -> np.ndarray:
        distance = np.sqrt(((u - cu) / ru) ** 2 + ((v - cv) / rv) ** 2) - 1
        return np.clip(0.5 - distance * np.minimum(ru, rv) * radius, 0, 1) * inside

    canvas.paint(where, ellipse(0, -0.22, 0.95, 1.08), hair)
    light = np.clip(1 - 0.22 * (u * -look.light[0] + v * -look.light[1]), 0.6, 1.15)
    canvas.paint(where, ellipse(0, 0, 0.80, 1.02), skin * light[..., None])
    dark = np.array([35, 25, 25], np.float32)
    opened, wide, brow = (face[:, i, None, None] for i in range(3))
    for side in (-1, 1):
        canvas.paint(where, 0.9 * ellipse(side * 0.33, -0.22, 0.13, 0.09), dark)
        canvas.paint(where, 0.9 * ellipse(side * 0.34, -0.45 - 0.16 * brow, 0.22, 0.06), hair * 0.7)
    lips, mouth = np.array([150, 60, 60], np.float32), np.array([60, 15, 20], np.float32)
    canvas.paint(where, ellipse(0, 0.50, 0.27 + 0.17 * wide, 0.10 + 0.20 * opened), lips)
    canvas.paint(where, ellipse(0, 0.50, 0.20 + 0.17 * wide, 0.02 + 0.20 * opened), mouth)


def _arm(canvas: _Canvas, joints: np.ndarray, side: str, look: Look) -> None:
    shoulder, elbow, wrist = {"left": (LEFT_SHOULDER, LEFT_ELBOW, LEFT_WRIST), "right": (RIGHT_SHOULDER, RIGHT_ELBOW, RIGHT_WRIST)}[side]
    width = float(np.linalg.norm(joints[:, LEFT_SHOULDER, :2] - joints[:, RIGHT_SHOULDER, :2], axis=1).mean())
    clothes = np.array(look.clothes, np.float32)
    for start, end, thick in ((shoulder, elbow, 0.135), (elbow, wrist, 0.105)):
        a, b = joints[:, start, :2], joints[:, end, :2]
        centre = (a + b) / 2
        reach = int(np.ceil(np.abs(a - b).max() / 2 + thick * width)) + 2
        x, y, inside, where = canvas.window(centre, min(reach, canvas.size // 2))
        distance, ox, oy = _capsule(x, y, a, b)
        radius = np.float32(thick * width)
        shade = 1.12 - 0.30 * (distance / radius) ** 2 + 0.12 * (ox * look.light[0] + oy * look.light[1]) / radius
        canvas.paint(where, np.clip(0.5 + radius - distance, 0, 1) * inside, clothes * np.clip(shade, 0.5, 1.3)[..., None])


def _hand(canvas: _Canvas, landmarks: np.ndarray, present: np.ndarray, look: Look) -> None:
    """One hand: palm and bones into a patch of brightness and cover, then onto the picture in one go."""
    points = landmarks[..., :2]
    low, high = points.min(axis=1), points.max(axis=1)
    palm = np.median(np.linalg.norm(landmarks[:, 9] - landmarks[:, 0], axis=1))
    reach = int(np.ceil(np.percentile((high - low).max(axis=1), 90) / 2 + 0.2 * palm)) + 1
    x, y, inside, where = canvas.window((low + high) / 2, min(reach, canvas.size // 2))
    bright = np.ones((len(points), x.shape[2], x.shape[2]), np.float32)
    cover = np.zeros_like(bright)
    depth = (landmarks[..., 2] - landmarks[:, :1, 2]) / max(float(palm), 1e-3)
    # Folded fingers that point away from the camera lie behind the palm, those that point to it in front.
    behind = depth[:, [8, 12, 16, 20]].mean() > 0.15
    bones = [*_FINGERS, *_PALM] if behind else [*_PALM, *_FINGERS]
    for start, end, thick in bones:
        distance, ox, oy = _capsule(x, y, points[:, start], points[:, end])
        radius = np.float32(max(thick * palm, 0.45))
        mask = np.clip(0.5 + radius - distance, 0, 1)
        nearness = np.clip(-0.5 * (depth[:, start] + depth[:, end]), -1, 1)[:, None, None]
        edge = 0.42 if thick < 0.2 else 0.12
        tone = 1.0 + 0.14 * nearness - edge * np.minimum(distance / radius, 1.2) ** 2
        tone += 0.10 * (ox * look.light[0] + oy * look.light[1]) / radius
        bright += mask * (tone - bright)
        cover += mask * (1 - cover)
    cover *= inside & present[:, None, None]
    canvas.paint(where, cover, np.array(look.skin, np.float32) * np.clip(bright, 0.35, 1.25)[..., None])
