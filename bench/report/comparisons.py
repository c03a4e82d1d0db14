"""Paired comparisons: which two systems, by how much they differ, and in plain words what that shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.record import ComparisonRecord, Interval, Record, SystemRecord
from bench.report import formats
from bench.report.cast import Cast

Shown = Literal["better", "worse", "open", "none"]
KINDS = ("Distilled against plain", "INT8 against FP32", "Student against teacher", "Other pairs")


@dataclass(frozen=True)
class Comparison:
    """One pair. `shown` is what the interval says of the first system: better, worse, open (includes 0), none (no interval)."""

    name: str
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
    """All pairs of the records, a WER and a latency comparison of one pair in one row; students against the teacher
    are completed from the table's own paired differences."""
    pairs: dict[tuple[str, str], tuple[str, Interval | None, float | None]] = {}
    for record in records:
        if isinstance(record, ComparisonRecord):
            name, difference, ratio = pairs.get((record.system, record.against), (record.name, None, None))
            pairs[record.system, record.against] = (name, record.difference or difference, record.ratio or ratio)
    for system in cast.students():
        if system.wer and system.wer.against and system.wer.difference:
            key = (system.system, system.wer.against)
            name, difference, ratio = pairs.get(key, ("", None, None))
            pairs[key] = (name, difference or system.wer.difference, ratio)
    rows = [_comparison(name, pair, difference, ratio, cast) for pair, (name, difference, ratio) in pairs.items()]
    order = {name: place for place, name in enumerate(cast.systems)}
    rows.sort(key=lambda row: (KINDS.index(row.kind), order.get(row.system, len(order))))
    reach = max((max(abs(r.difference.low), abs(r.difference.high)) for r in rows if r.difference), default=1.0)
    return [
        Group(kind, [row for row in rows if row.kind == kind], reach)
        for kind in KINDS
        if any(row.kind == kind for row in rows)
    ]


def _comparison(
    name: str, pair: tuple[str, str], difference: Interval | None, ratio: float | None, cast: Cast
) -> Comparison:
    shown = judge(difference)
    return Comparison(
        name=name,
        kind=_kind(cast.systems.get(pair[0]), cast.systems.get(pair[1]), cast),
        system=pair[0],
        against=pair[1],
        difference=difference,
        ratio=ratio,
        shown=shown,
        verdict=_verdict(difference, shown),
    )


def judge(difference: Interval | None) -> Shown:
    """What a paired interval shows of a system: `better`, `worse`, `open` where it includes 0, `none` without one."""
    if difference is None:
        return "none"
    if difference.low <= 0 <= difference.high:
        return "open"
    return "better" if difference.high < 0 else "worse"


def _verdict(difference: Interval | None, shown: Shown) -> str:
    if difference is None:
        return "Only the times were compared."
    size = f"{abs(difference.value):.1f} points"
    if shown == "better":
        return f"Better by {size}; the interval excludes 0."
    if shown == "worse":
        return f"Worse by {size}; the interval excludes 0."
    if difference.low == difference.high == 0:
        return "The same errors on every clip."
    return "The interval includes 0: no difference is shown at this size."


def _kind(system: SystemRecord | None, against: SystemRecord | None, cast: Cast) -> str:
    if system is None or against is None:
        return KINDS[3]
    if system.run == against.run:
        return KINDS[1] if system.precision != against.precision else KINDS[3]
    if cast.is_teacher(against):
        return KINDS[2]
    if system.architecture == against.architecture and system.distillation and not against.distillation:
        return KINDS[0]
    return KINDS[3]
