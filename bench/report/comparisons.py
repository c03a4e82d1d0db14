"""Paired comparisons: which two systems, by how much they differ, and in plain words what that shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.record import ComparisonRecord, Interval, Record, SystemRecord
from bench.report.cast import Cast, known

Shown = Literal["better", "worse", "open", "same", "none"]
DISTILLED = "Distilled against CTC alone"
PRECISION = "Lower precision against FP32"
STUDENT = "Student against teacher"
BASELINE = "Against the baseline"
OTHER = "Other pairs"
KINDS = (DISTILLED, PRECISION, STUDENT, BASELINE, OTHER)


@dataclass(frozen=True)
class Comparison:
    """One pair. `shown` is what the interval says of the first system (see `judge`)."""

    kind: str
    system: str
    against: str
    difference: Interval | None
    ratio: float | None
    shown: Shown
    verdict: str


@dataclass(frozen=True)
class Group:
    """The pairs of one kind, and the half width of the scale that their intervals are drawn on."""

    kind: str
    rows: list[Comparison]
    reach: float


def groups(records: Sequence[Record], cast: Cast) -> list[Group]:
    """All pairs of the records by kind; the WER and the latency of one pair stand in one row.

    Pairs with the teacher, or the baseline, take their difference from the table's rows where no comparison states it.
    """
    pairs: dict[tuple[str, str], tuple[Interval | None, float | None]] = {}
    for record in records:
        if isinstance(record, ComparisonRecord):
            difference, ratio = pairs.get((record.system, record.against), (None, None))
            pairs[record.system, record.against] = (record.difference or difference, record.ratio or ratio)
    for system in cast.systems.values():
        if system.wer and system.wer.against and system.wer.difference:
            key = (system.system, system.wer.against)
            difference, ratio = pairs.get(key, (None, None))
            pairs[key] = (difference or system.wer.difference, ratio)
    rows = [_comparison(pair, difference, ratio, cast) for pair, (difference, ratio) in pairs.items()]
    order = {name: place for place, name in enumerate(cast.systems)}
    rows.sort(key=lambda row: (KINDS.index(row.kind), order.get(row.system, len(order))))
    reach = max((max(abs(r.difference.low), abs(r.difference.high)) for r in rows if r.difference), default=1.0)
    return [
        Group(kind, [row for row in rows if row.kind == kind], reach)
        for kind in KINDS
        if any(row.kind == kind for row in rows)
    ]


def _comparison(pair: tuple[str, str], difference: Interval | None, ratio: float | None, cast: Cast) -> Comparison:
    shown = judge(difference)
    return Comparison(
        kind=_kind(cast.systems.get(pair[0]), cast.systems.get(pair[1]), cast),
        system=pair[0],
        against=pair[1],
        difference=difference,
        ratio=ratio,
        shown=shown,
        verdict=_verdict(difference, shown),
    )


def judge(difference: Interval | None) -> Shown:
    """What a paired interval shows of a system: `better`, `worse`, or `open` where it includes 0.

    `same` means as many errors on every clip (not the same ones), `none` that no interval is there.
    """
    if difference is None:
        return "none"
    if difference.low == difference.high == 0:
        return "same"
    if difference.low <= 0 <= difference.high:
        return "open"
    return "better" if difference.high < 0 else "worse"


def _verdict(difference: Interval | None, shown: Shown) -> str:
    if difference is None:
        return "Only the times were compared."
    size = f"{abs(difference.value):.1f} points"
    if shown == "better":
        return f"Better by {size}; interval excludes 0."
    if shown == "worse":
        return f"Worse by {size}; interval excludes 0."
    if shown == "same":
        return "As many errors on every clip."
    return "Interval includes 0: no difference shown at this size."


def _kind(system: SystemRecord | None, against: SystemRecord | None, cast: Cast) -> str:
    if system is None or against is None:
        return OTHER
    if system.run == against.run and system.precision != against.precision == "fp32":
        return PRECISION
    if cast.is_reference(against) and cast.role == "baseline":
        return BASELINE
    if system.run == against.run:
        return OTHER
    if cast.is_reference(against):
        return STUDENT
    if not known(system):
        return OTHER
    if system.architecture == against.architecture and system.distillation and not against.distillation:
        return DISTILLED
    return OTHER
