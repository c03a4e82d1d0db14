"""Colours and marks of page and plots: Okabe and Ito's colour-blind-safe hues, with contrast on light and dark."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# Token -> (light, dark). In the page's inline SVG the light value is replaced by the CSS variable `--<token>`,
# so each must be unique; figures saved as files keep the light value.
TOKENS: dict[str, tuple[str, str]] = {
    "surface": ("#ffffff", "#15191c"),
    "ink": ("#1d252b", "#e7ebee"),
    "muted": ("#59656e", "#a3afb7"),
    "line": ("#d5dbdf", "#343d44"),
    "grid": ("#eceff1", "#242b30"),
    "teacher": ("#3f4a52", "#c3ccd2"),
    "vermillion": ("#c25100", "#f28a45"),
    "blue": ("#0068a6", "#5bb4ea"),
    "green": ("#00805c", "#3cc79f"),
    "purple": ("#a84f86", "#e09cc4"),
    "orange": ("#a87100", "#efb73e"),
    "sky": ("#3391c4", "#8accf2"),
}


@dataclass(frozen=True)
class Style:
    """How an architecture is drawn: a token of `TOKENS`, and a mark (matplotlib's letter)."""

    token: str
    marker: str

    @property
    def colour(self) -> str:
        """The light colour."""
        return TOKENS[self.token][0]


_TEACHER = Style("teacher", "s")
_KNOWN = {"lrinet": Style("vermillion", "o"), "stgt": Style("blue", "^")}
_SPARE = (Style("green", "D"), Style("purple", "v"), Style("orange", "P"), Style("sky", "X"))


def colour(token: str) -> str:
    """The light colour of a token."""
    return TOKENS[token][0]


def styles(architectures: Iterable[str], teacher: str | None) -> dict[str, Style]:
    """One style an architecture: the teacher's is neutral, the known students keep theirs, others take what is left."""
    spare = iter(_SPARE * 8)
    chosen: dict[str, Style] = {}
    for name in architectures:
        if name not in chosen:
            chosen[name] = _TEACHER if name == teacher else _KNOWN.get(name) or next(spare)
    return chosen


# The same marks as small SVG shapes in a 12 x 12 box, for the table.
GLYPHS = {
    "s": '<rect x="2" y="2" width="8" height="8"/>',
    "o": '<circle cx="6" cy="6" r="4.4"/>',
    "^": '<path d="M6 1.4 10.8 10H1.2z"/>',
    "D": '<path d="M6 1 11 6 6 11 1 6z"/>',
    "v": '<path d="M6 10.6 1.2 2h9.6z"/>',
    "P": '<path d="M4 1.5h4V4h2.5v4H8v2.5H4V8H1.5V4H4z"/>',
    "X": '<path d="M2 4 4 2l2 2 2-2 2 2-2 2 2 2-2 2-2-2-2 2-2-2 2-2z"/>',
}
