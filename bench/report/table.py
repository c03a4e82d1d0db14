"""The table against teacher or baseline: which columns there are, and what stands in each cell of a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from bench.record import SystemRecord
from bench.report import formats
from bench.report.cast import INPUTS, RUNTIMES, Cast, family, known
from bench.report.formats import MISSING

AUTO = "auto"  # the precision that is none: each node has its own


@dataclass(frozen=True)
class Cell:
    """A figure, and what stands under it in smaller type. `alarm` marks what must not be overlooked."""

    main: str = MISSING
    detail: str = ""
    alarm: bool = False


@dataclass(frozen=True)
class Column:
    """A column: heading, its unit, the group over it, what it means, and how a cell is made."""

    key: str
    head: str
    unit: str
    group: str
    meaning: str
    cell: Callable[[SystemRecord, Cast], Cell]
    numeric: bool = True


@dataclass(frozen=True)
class Row:
    """One system of the table."""

    system: SystemRecord
    cells: dict[str, Cell]
    starts_group: bool  # first row of its family
    family: str
    hollow: bool  # its mark
    reference: bool  # teacher or baseline


def rows(cast: Cast) -> list[Row]:
    """All rows in order, teacher or baseline first, architectures together."""
    result: list[Row] = []
    for system in cast.systems.values():
        previous = result[-1].system if result else None
        result.append(
            Row(
                system=system,
                cells={column.key: column.cell(system, cast) for column in COLUMNS},
                starts_group=previous is not None and family(previous) != family(system),
                family=family(system),
                hollow=cast.trained_plainly(system),
                reference=cast.is_reference(system),
            )
        )
    return result


def foot(cast: Cast) -> str:
    """What the signs in the table mean."""
    levels = sorted({f"{100 * system.wer.wer.level:.0f} %" for system in cast.systems.values() if system.wer})
    parts = ["All figures are measured; – was not."]
    if levels:
        parts.append(f"[ ] is the {formats.listing(levels)} interval.")
    words = {system.wer.reference_words for system in cast.systems.values() if system.wer}
    if len(words) == 1:
        parts.append(f"S, D, I: words substituted, deleted, inserted, of {formats.whole(words.pop())} signed.")
    if cast.baseline is not None:
        parts.append(f"Speed-up is against {cast.full_name(cast.baseline)}.")
    rows = list(cast.systems.values())
    if all(known(system) for system in rows):
        parts.append(f"Filled marks: distilled, and the {cast.role}; hollow: trained with CTC alone.")
    elif any(cast.trained_plainly(system) for system in rows):
        parts.append("Hollow marks: trained with CTC alone.")
    strangers = list(dict.fromkeys(system.run for system in rows if not known(system)))
    if strangers:
        were = "run folder was" if len(strangers) == 1 else "run folders were"
        parts.append(f"How {formats.listing(strangers)} learned is not known: the {were} not at hand.")
    if any(system.precision == AUTO for system in rows):
        parts.append(f"AUTO: a search chose the precision of each node within the WER budget{_nodes(rows)}.")
    if any(s.modality == "keypoints" and s.pose_ms_per_frame is None for s in cast.systems.values()):
        parts.append("† The pose estimator in front of it is not included.")
    return " ".join(parts)


def _nodes(systems: list[SystemRecord]) -> str:
    """What such searches chose, as far as the records tell."""
    chosen = [system for system in systems if system.precision == AUTO and system.nodes]
    told = [f"{system.system} has {_listing(system.nodes)}" for system in chosen]
    return f" ({'; '.join(told)})" if told else ""


def _listing(nodes: dict[str, int]) -> str:
    counts = sorted(nodes.items(), key=lambda item: -item[1])
    return formats.listing([f"{formats.plural(count, 'node')} in {name.upper()}" for name, count in counts])


def _name(system: SystemRecord, cast: Cast) -> Cell:
    detail = cast.architecture(system) if cast.is_teacher(system) else system.system
    return Cell(cast.run_name(system), detail if system.valid else f"{detail} · INVALID", alarm=not system.valid)


def _input(system: SystemRecord, cast: Cast) -> Cell:
    return Cell(INPUTS[system.modality])


def _distillation(system: SystemRecord, cast: Cast) -> Cell:
    if not known(system):
        return Cell()
    return Cell(system.distillation or ("" if cast.is_reference(system) else "none"))


def _engine(system: SystemRecord, cast: Cast) -> Cell:
    length = f", {system.frames} frames" if system.frames else ""
    return Cell(system.precision.upper(), RUNTIMES.get(system.runtime, system.runtime) + length)


def _wer(system: SystemRecord, cast: Cast) -> Cell:
    if system.wer is None:
        return Cell()
    return Cell(formats.points(system.wer.wer.value), formats.span(system.wer.wer.low, system.wer.wer.high))


def _difference(system: SystemRecord, cast: Cast) -> Cell:
    if system.wer is None or system.wer.difference is None:
        return Cell("" if cast.is_reference(system) else MISSING)
    value = system.wer.difference
    return Cell(formats.signed(value.value), formats.signed_span(value.low, value.high))


def _errors(system: SystemRecord, cast: Cast) -> Cell:
    if system.wer is None:
        return Cell()
    return Cell(f"{system.wer.substitutions} / {system.wer.deletions} / {system.wer.insertions}")


def _clip_time(system: SystemRecord, cast: Cast) -> Cell:
    if system.latency is None:
        return Cell()
    tail = [
        f"{name} {formats.milliseconds(value)}"
        for name, value in (("p90", system.latency.p90_ms), ("p99", system.latency.p99_ms))
        if value is not None
    ]
    return Cell(formats.milliseconds(system.latency.median_ms), " · ".join(tail))


def _frame_time(system: SystemRecord, cast: Cast) -> Cell:
    if system.latency is None:
        return Cell()
    factor = system.latency.real_time_factor
    return Cell(formats.milliseconds(system.latency.per_frame_ms), f"RTF {formats.significant(factor, 2)}", factor > 1)


def _speedup(system: SystemRecord, cast: Cast) -> Cell:
    if system is cast.baseline:
        return Cell("1×", "reference")
    speedup = cast.speedup(system)
    if speedup is None:
        return Cell()
    return Cell(formats.ratio(speedup[0]), "" if speedup[1] else "of medians")


def _parameters(system: SystemRecord, cast: Cast) -> Cell:
    if system.complexity is None:
        return Cell()
    size = system.complexity.bytes_on_disk
    return Cell(formats.scaled(system.complexity.parameters), formats.megabytes(size / 1e6) if size else "")


def _macs(system: SystemRecord, cast: Cast) -> Cell:
    return Cell(formats.scaled(system.complexity.macs_per_frame)) if system.complexity else Cell()


def _memory(system: SystemRecord, cast: Cast) -> Cell:
    return Cell(formats.milliseconds(system.peak_memory_mb))


def _pose(system: SystemRecord, cast: Cast) -> Cell:
    if system.modality == "rgb":
        return Cell("none")
    if system.pose_ms_per_frame is None:
        return Cell("not incl.", alarm=True)
    return Cell(f"+{_THIN}{formats.milliseconds(system.pose_ms_per_frame)}", "a frame")


_THIN = "\u202f"


def columns(cast: Cast) -> tuple[Column, ...]:
    """The columns of which anything is known, with heads that tell what the rows are measured by."""
    untold: set[str] = set()
    if not any(known(system) for system in cast.systems.values()):
        untold |= {"distillation"}
    if not cast.reference:
        untold |= {"difference", "speedup"}
    told = tuple(column for column in COLUMNS if column.key not in untold)
    if cast.role == "teacher":
        return told
    heads = {
        "difference": ("to baseline", "Its WER less the baseline's, paired over clips."),
        "speedup": ("speed-up", "Against the baseline."),
    }
    return tuple(
        replace(column, head=heads[column.key][0], meaning=heads[column.key][1]) if column.key in heads else column
        for column in told
    )


COLUMNS: tuple[Column, ...] = (
    Column("system", "System", "", "", "The recogniser, and its name in the records.", _name, numeric=False),
    Column("input", "Input", "", "", "What it reads: frames or a skeleton.", _input, numeric=False),
    Column("distillation", "Distilled", "", "", "The distillation added to CTC.", _distillation, numeric=False),
    Column("engine", "Engine", "", "", "Precision and runtime.", _engine, numeric=False),
    Column("wer", "WER", "%", "Accuracy", "Word error rate and its bootstrap interval.", _wer),
    Column(
        "difference", "to teacher", "points", "Accuracy", "Its WER less the teacher's, paired over clips.", _difference
    ),
    Column("errors", "S / D / I", "words", "Accuracy", "Substitutions, deletions, insertions.", _errors),
    Column("clip_time", "a clip", "ms", "Time, batch 1", "Median of one call over one clip.", _clip_time),
    Column("frame_time", "a frame", "ms", "Time, batch 1", "Time over frames; RTF is time over duration.", _frame_time),
    Column("speedup", "speed-up", "", "Time, batch 1", "Against the teacher's FP32 engine.", _speedup),
    Column("pose", "pose", "ms", "Time, batch 1", "Pose estimator in front of it, not in the times.", _pose),
    Column("parameters", "params", "on disk", "Size", "Trained parameters in inference form.", _parameters),
    Column("macs", "MACs", "a frame", "Size", "Multiply-accumulates a frame.", _macs),
    Column("memory", "memory", "peak MB", "Size", "Peak resident memory of the process.", _memory),
)
