"""Labels that do not overlap: each point's label goes to the free place nearest to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Box = tuple[float, float, float, float]  # left, bottom, right, top

_DISTANCES = (7.0, 13.0, 22.0, 34.0, 48.0)
_LEADER_FROM = 13.0  # a label farther away than this gets a line to its point
_SWEEPS = 4


@dataclass(frozen=True)
class Placed:
    """Where a label goes: its left bottom corner, and the end of a leader line to draw, if it needs one."""

    left: float
    bottom: float
    leader: tuple[float, float] | None


def place(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    obstacles: Sequence[Box],
    frame: Box,
) -> list[Placed]:
    """Greedy placement with a few sweeps of improvement. All in one unit (points of the figure).

    points: anchors; sizes: (width, height) of each label; obstacles: marks and bars to keep off; frame: stay inside.
    """
    options = [_options(point, size) for point, size in zip(points, sizes, strict=True)]
    chosen: list[tuple[float, Box]] = [choices[0] for choices in options]
    for sweep in range(_SWEEPS):
        for index, choices in enumerate(options):
            others = [box for place, (_, box) in enumerate(chosen) if place != index and (sweep or place < index)]
            chosen[index] = min(choices, key=lambda option: _cost(option, others, obstacles, frame))
    placed = []
    for point, (distance, box) in zip(points, chosen, strict=True):
        leader = _nearest(point, box) if distance > _LEADER_FROM else None
        placed.append(Placed(box[0], box[1], leader))
    return placed


def _options(point: tuple[float, float], size: tuple[float, float]) -> list[tuple[float, Box]]:
    """Places around the point, the best first: right, left, above, below, then the diagonals, farther and farther."""
    (x, y), (width, height) = point, size
    angles = (0, 180, 90, 270, 35, -35, 145, 215, 62, -62, 118, 242)
    result = []
    for distance in _DISTANCES:
        for angle in angles:
            cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            left = x + distance * cosine + (cosine - 1) / 2 * width
            bottom = y + distance * sine + (sine - 1) / 2 * height
            result.append((distance, (left, bottom, left + width, bottom + height)))
    return result


def _cost(option: tuple[float, Box], labels: list[Box], obstacles: Sequence[Box], frame: Box) -> float:
    distance, box = option
    outside = max(0.0, frame[0] - box[0]) + max(0.0, box[2] - frame[2])
    outside += max(0.0, frame[1] - box[1]) + max(0.0, box[3] - frame[3])
    covered = 4 * sum(_overlap(box, label) for label in labels) + 3 * sum(_overlap(box, other) for other in obstacles)
    return covered + 50 * outside + distance


def _overlap(one: Box, other: Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return width * height if width > 0 and height > 0 else 0.0


def _nearest(point: tuple[float, float], box: Box) -> tuple[float, float]:
    return min(max(point[0], box[0]), box[2]), min(max(point[1], box[1]), box[3])
