"""The lexicon: each gloss as a two-handed movement with handshapes and a face, and pairs that differ in one thing."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from distill.corpus.synth.hand import HANDSHAPES
from runtime.errors import BadInput

# Places of the dominant wrist of a right-handed signer, relative to the middle of the shoulders, in shoulder widths (x
# towards the dominant side, y down).
PLACES: dict[str, tuple[float, float]] = {
    "brow": (0.38, -0.72),
    "cheek": (0.42, -0.38),
    "chin": (0.16, -0.10),
    "shoulder": (0.55, 0.12),
    "chest": (0.12, 0.42),
    "side": (0.74, 0.40),
    "waist": (0.40, 0.80),
    "far": (0.80, -0.25),
    "across": (-0.35, 0.30),
}
PATHS = ("straight", "arc", "circle", "zigzag", "hold", "tap")
STAYING = ("hold", "tap", "circle")  # end where they start
OTHERS = ("rest", "mirror", "base")  # what the other hand does
# Face of a gloss: mouth open, mouth wide, brow.
FACES: dict[str, tuple[float, float, float]] = {
    "neutral": (0.05, 0.0, 0.0),
    "open": (1.0, -0.1, 0.0),
    "wide": (0.15, 1.0, 0.0),
    "round": (0.55, -1.0, 0.0),
    "asking": (0.1, 0.0, 1.0),
}
CATEGORIES = ("time", "noun", "verb", "quality")


@dataclass(frozen=True)
class Sign:
    """Citation form of one gloss."""

    gloss: str
    category: str
    start: str
    end: str
    path: str
    shapes: tuple[str, str]  # handshape at the start and at the end of the stroke
    angle: float  # of the dominant hand, see `hand_landmarks`
    turn: float
    other: str  # the other hand, of OTHERS
    face: str
    seconds: float
    family: str  # glosses of one family differ in handshape only, or in the face only
    contrast: str = ""  # "", "handshape", "face"


def make_lexicon(rng: np.random.Generator, glosses: int, handshape_pairs: int, face_pairs: int) -> list[Sign]:
    """`glosses` signs: pairs that differ in handshape only, then pairs that differ in the face only, then the rest.

    Movements of different families are kept apart by drawing each (place, place, path, other hand) combination once.
    Raises `BadInput` when the pairs leave too few movements, or more than there are.
    """
    families = glosses - handshape_pairs - face_pairs
    if families < len(CATEGORIES) or handshape_pairs + face_pairs > families:
        raise BadInput(
            f"{glosses} glosses with {handshape_pairs} + {face_pairs} pairs leave {families} movements; "
            f"{len(CATEGORIES)} and one a pair are needed at least: ask for more glosses or fewer pairs"
        )
    possible = len(OTHERS) * (
        len(STAYING) * len(PLACES) + (len(PATHS) - len(STAYING)) * math.comb(len(PLACES), 2)  # either way is one
    )
    if families > possible:
        raise BadInput(
            f"{glosses} glosses need {families} movements and there are {possible}: "
            f"ask for {possible + handshape_pairs + face_pairs} glosses at most"
        )
    signs: list[Sign] = []
    used: set[tuple[str, ...]] = set()
    for number in range(families):
        sign = _draw(rng, used, number)
        signs.append(sign)
        if number < handshape_pairs:
            shape = str(rng.choice(_distinct(sign.shapes[0])))
            contrast = "handshape"
            second = replace(sign, shapes=(shape, shape))
            signs[-1] = replace(sign, shapes=(sign.shapes[0], sign.shapes[0]), contrast=contrast)
        elif number < handshape_pairs + face_pairs:
            contrast = "face"
            signs[-1] = replace(sign, face="neutral", contrast=contrast)
            second = replace(sign, face=str(rng.choice(["open", "wide", "round"])))
        else:
            continue
        signs.append(replace(second, gloss=f"{sign.gloss}-B", contrast=contrast))
    return signs


def _distinct(shape: str) -> list[str]:
    """The three handshapes least like `shape`: whoever sees the fingers is meant to tell a pair apart."""
    bend = {name: np.array(values[:5]) for name, values in HANDSHAPES.items()}
    return sorted(HANDSHAPES, key=lambda name: -float(np.abs(bend[name] - bend[shape]).sum()))[:3]


def _draw(rng: np.random.Generator, used: set[tuple[str, ...]], number: int) -> Sign:
    places = list(PLACES)
    while True:
        start, end = (str(place) for place in rng.choice(places, 2, replace=False))
        path = str(rng.choice(PATHS))
        if path in STAYING:
            end = start
        other = str(rng.choice(OTHERS, p=[0.5, 0.3, 0.2]))
        key = (start, end, path, other)
        if key in used or (end, start, path, other) in used:
            continue
        used.add(key)
        first = str(rng.choice(list(HANDSHAPES)))
        last = str(rng.choice(list(HANDSHAPES))) if rng.random() < 0.3 else first
        category = CATEGORIES[number % len(CATEGORIES)]
        gloss = f"{category.upper()}{number:02d}"
        return Sign(
            gloss=gloss,
            category=category,
            start=start,
            end=end,
            path=path,
            shapes=(first, last),
            angle=float(rng.choice([-0.9, -0.4, 0.0, 0.4])),
            turn=float(rng.choice([0.0, 0.0, 0.0, 0.5])),
            other=other,
            face=str(rng.choice(["neutral", "neutral", "open", "wide", "asking"])),
            seconds=float(rng.uniform(0.48, 0.76)),
            family=gloss,
        )


class Grammar:
    """Sentences with context: categories follow one another by rule, a gloss is drawn given the one before it.

    Which member of a pair is used depends on the gloss before with strength `context` (0: not at all, 1: entirely).
    """

    ORDER: ClassVar[dict[str, dict[str, float]]] = {
        "start": {"time": 0.5, "noun": 0.5},
        "time": {"noun": 0.8, "verb": 0.2},
        "noun": {"verb": 0.45, "quality": 0.35, "noun": 0.2},
        "quality": {"noun": 0.3, "verb": 0.5, "time": 0.2},
        "verb": {"noun": 0.45, "quality": 0.3, "time": 0.25},
    }

    def __init__(self, rng: np.random.Generator, lexicon: list[Sign], context: float) -> None:
        self.by_category = {name: [sign for sign in lexicon if sign.category == name] for name in CATEGORIES}
        self.context = context
        self.lean = {(a.gloss, b.family): int(rng.integers(2)) for a in lexicon for b in lexicon}
        self.families = {sign.family: [s for s in lexicon if s.family == sign.family] for sign in lexicon}
        self.weight = {sign.family: float(rng.uniform(0.6, 1.4)) for sign in lexicon}

    def sentence(self, rng: np.random.Generator, shortest: int, longest: int) -> list[Sign]:
        """Draw one sentence of `shortest` to `longest` glosses."""
        signs: list[Sign] = []
        category = "start"
        for _ in range(int(rng.integers(shortest, longest + 1))):
            follow = {name: p for name, p in self.ORDER[category].items() if self.by_category[name]}
            share = np.array(list(follow.values()))
            category = str(rng.choice(list(follow), p=share / share.sum()))
            signs.append(self._pick(rng, category, signs[-1] if signs else None))
        return signs

    def _pick(self, rng: np.random.Generator, category: str, before: Sign | None) -> Sign:
        names = sorted({sign.family for sign in self.by_category[category]} - {before.family if before else ""})
        weights = np.array([self.weight[name] for name in names])
        family = self.families[str(rng.choice(names, p=weights / weights.sum()))]
        if len(family) == 2 and before is not None and rng.random() < self.context:
            return family[self.lean[before.gloss, family[0].family]]
        return family[int(rng.integers(len(family)))]
