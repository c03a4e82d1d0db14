"""How figures become text: one rule a quantity, used by the page, the Markdown and the plots alike."""

from __future__ import annotations

import math

from bench.record import KeypointTrack

MISSING = "–"
_THIN = "\u202f"  # narrow no-break space: groups digits and sets units off
_MINUS = "\u2212"


def significant(value: float, digits: int = 3) -> str:
    """`value` with `digits` significant digits and never in exponent form: 0.0123, 1.23, 12.3, 123, 1 230."""
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}".replace(",", _THIN)
    return text.replace("-", _MINUS)


def points(value: float) -> str:
    """A WER in percent, one decimal."""
    return f"{value:.1f}"


def signed(value: float) -> str:
    """A difference in WER points, one decimal, always with its sign."""
    text = f"{abs(value):.1f}"
    if float(text) == 0:
        return text
    return f"{'+' if value > 0 else _MINUS}{text}"


def span(low: float, high: float) -> str:
    """An interval of a WER: [10.9, 13.8]."""
    return f"[{low:.1f}, {high:.1f}]"


def signed_span(low: float, high: float) -> str:
    """An interval of a difference, each end with its sign."""
    return f"[{signed(low)}, {signed(high)}]"


def milliseconds(value: float | None) -> str:
    """A time in ms, three significant digits, no unit."""
    return MISSING if value is None else significant(value)


def ratio(value: float | None) -> str:
    """A speed-up: 0.85×, 7.4×, 23×."""
    if value is None:
        return MISSING
    return f"{significant(value, 2)}×" if value < 100 else f"{value:.0f}×"


def whole(value: int | None) -> str:
    """A count, grouped by thousands."""
    return MISSING if value is None else f"{value:,}".replace(",", _THIN)


def scaled(value: float | None, unit: str = "") -> str:
    """A large count with an SI prefix: 950, 12.3 k, 4.56 M, 1.20 G."""
    if value is None:
        return MISSING
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{significant(value / factor)}{_THIN}{prefix}{unit}"
    return f"{significant(value)}{_THIN}{unit}".rstrip(_THIN)


def megabytes(value: float | None) -> str:
    """A size given in MB."""
    return MISSING if value is None else f"{significant(value)}{_THIN}MB"


def duration(seconds: float) -> str:
    """A span of time for people: 42 s, 3 min 05 s, 1 h 12 min."""
    whole_seconds = round(seconds)
    if whole_seconds < 60:
        return f"{whole_seconds} s"
    minutes, rest = divmod(whole_seconds, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def digest(text: str) -> str:
    """The first twelve digits of a hash; a dash where there is none."""
    return text[:12] or MISSING


def plural(count: int, noun: str) -> str:
    """`1 clip`, `2 clips`, `3 glosses`."""
    ending = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{whole(count)} {noun}{ending}"


def track(shown: KeypointTrack) -> str:
    """`full track`, or `hard track: ...` with how poor its tracker was."""
    poor = [] if shown.noise is None else [f"each point off by {significant(shown.noise, 2)} hand lengths (deviation)"]
    poor += [] if shown.lost is None else [f"each hand lost {shown.lost:.0%} of the time".replace("%", " %")]
    return f"{shown.name} track{f': {listing(poor)}' if poor else ''}"


def listing(words: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
