"""Measure systems on a corpus: everything that the report says becomes a record here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import accuracy, lineage
from bench.complexity import count
from bench.context import corpus_record, curve_record, example_records, notes
from bench.latency import Timing, TimingPlan, ratio, time_systems
from bench.memory import MemoryFailed, peak_memory_mb
from bench.provenance import command_line, provenance
from bench.record import (
    ComparisonRecord,
    Complexity,
    Provenance,
    Record,
    SystemRecord,
    Utterance,
)
from bench.systems import EagerSystem, EngineSystem, System, distinct, example_input, tell_apart
from distill.corpus.schema import ClipRow, SignClip
from distill.corpus.store import Corpus
from distill.run import SUMMARY, load_run, read_summary
from export.gate import check_corpus
from runtime.errors import BadInput
from runtime.windows import windows

MEMORY_CLIPS = 4
POSE_MISSING = "pose estimator not included; not measured here"
POSE_MEASURED = "pose estimator in front of this row: cost as stated in the corpus, not included in the latency"


@dataclass(frozen=True)
class Options:
    """What to measure. `limit_clips` takes that many clips of the split, spread over its lengths."""

    split: str = "test"
    threads: int = 1
    target: str = "x86-cpu"
    against: str | None = None  # the system that all others are compared with; none: the teacher, as the data tell
    limit_clips: int | None = None
    timing_clips: int = 24  # distinct clips in the timing rounds, spread over the lengths of the split
    examples: int = 6
    memory: bool = True
    timing: TimingPlan = TimingPlan()  # noqa: RUF009 (frozen)


def measure(
    systems: Sequence[System],
    corpus: Corpus,
    options: Options,
    runs: Sequence[Any] = (),
    command: str | None = None,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> list[Record]:
    """Measure `systems` on a split of `corpus`; returns all records of a results file.

    systems: opened with `options.threads`. runs: opened run folders (`distill.run.load_run`), for curves, complexity
    and lineage. progress: called with (stage, done, total). A figure that could not be had is None and its record says
    why; a system whose times did not settle is kept, marked invalid. Raises `BadInput` for an empty split, two systems
    of one name, glosses or keypoints that a system does not know, or a clip without what a system reads.
    """
    systems = list(systems)
    distinct(systems)
    rows = pick_rows(corpus, options.split, options.limit_clips)
    if not systems:
        raise BadInput("nothing to measure: name at least one engine or run")
    for system in systems:
        check_corpus(system.contract, corpus)
    command = command_line() if command is None else command
    origin = provenance(command, corpus=corpus.fingerprint())
    teacher = find_against(systems, runs, options.against)

    readings = read_all(systems, corpus, rows, progress)
    timings = time_all(systems, corpus, rows, options, progress)
    found = Findings(corpus, rows, options, runs, teacher, readings, timings, origin)
    records: list[Record] = [corpus_record(corpus, origin)]
    for done, system in enumerate(systems):
        progress(f"size and memory of {system.name}", done, len(systems))
        records.append(system_record(system, found))
    records.extend(compare(systems, found))
    records.extend(curve_record(run, origin) for run in runs)
    records.extend(example_records(corpus, rows, options.examples, readings, origin))
    records.extend(notes(systems, corpus, rows, runs, origin))
    return records


@dataclass(frozen=True)
class Findings:
    """What came of reading and timing the clips, and of which clips. Readings and timings go by name of system."""

    corpus: Corpus
    rows: Sequence[ClipRow]
    options: Options
    runs: Sequence[Any]
    teacher: System | None
    readings: dict[str, list[Utterance]]
    timings: dict[str, Timing]
    origin: Provenance


def pick_rows(corpus: Corpus, split: str, limit: int | None = None) -> list[ClipRow]:
    """Rows of a split in file order; with a limit, those spread evenly over the lengths."""
    rows = corpus.split(split)
    if not rows:
        have = ", ".join(sorted({row.split for row in corpus.rows}))
        raise BadInput(f"{corpus.folder} has no clips in split '{split}'; it has: {have}")
    return spread(rows, limit) if limit is not None else rows


def spread(rows: Sequence[ClipRow], number: int) -> list[ClipRow]:
    """At most `number` rows, evenly spread over the lengths from shortest to longest, in the order given."""
    if number < 1:
        raise BadInput(f"the number of clips must be positive, not {number}")
    if number >= len(rows):
        return list(rows)
    by_length = sorted(range(len(rows)), key=lambda i: rows[i].frames)
    chosen = {by_length[round(place)] for place in np.linspace(0, len(rows) - 1, number)}
    return [row for i, row in enumerate(rows) if i in chosen]


def find_against(systems: Sequence[System], runs: Sequence[Any], name: str | None) -> System | None:
    """The one that all are compared with: as named, else the teacher in full precision, an engine before eager."""
    if name is not None:
        found = next((system for system in systems if system.name == name), None)
        if found is None:
            raise BadInput(
                f"no system '{name}' to compare with; there are: {', '.join(system.name for system in systems)}"
            )
        return found
    teacher = lineage.find_teacher([*(system.lineage for system in systems), *(lineage.of_run(run) for run in runs)])
    if teacher is None:
        return None
    own = [system for system in systems if system.lineage.checkpoint == teacher.checkpoint]
    return min(own, key=lambda system: (system.precision != "fp32", system.runtime == "pytorch"), default=None)


def read_all(
    systems: Sequence[System], corpus: Corpus, rows: Sequence[ClipRow], progress: Callable[[str, int, int], None]
) -> dict[str, list[Utterance]]:
    """What each system reads on each clip."""
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        progress("reading clips", done, len(rows))

    return accuracy.read_clips(systems, load_clips(systems, corpus, rows), advance)


def load_clips(systems: Sequence[System], corpus: Corpus, rows: Iterable[ClipRow]) -> Iterable[SignClip]:
    """The clips one by one, with what the systems need of them."""
    kinds = {system.contract.modality for system in systems}
    return (corpus.load(row, frames="rgb" in kinds, keypoints="keypoints" in kinds) for row in rows)


def time_all(
    systems: Sequence[System],
    corpus: Corpus,
    rows: Sequence[ClipRow],
    options: Options,
    progress: Callable[[str, int, int], None],
) -> dict[str, Timing]:
    """Interleaved timings of all systems on clips spread over the lengths."""
    clips = list(load_clips(systems, corpus, spread(rows, options.timing_clips)))
    return time_systems(systems, clips, options.threads, options.timing, progress=lambda text: progress(text, 0, 0))


def system_record(system: System, found: Findings) -> SystemRecord:
    """The row of one system."""
    timing, options, teacher = found.timings[system.name], found.options, found.teacher
    faults = invalid(timing, options.timing)
    remarks = list(system.remarks)
    if system.target not in ("", options.target):
        remarks.append(f"compiled for {system.target}, measured as {options.target}")
    complexity = size_of(system, found.runs, found.rows)
    if complexity is None:
        remarks.append("MACs and parameters not counted: its run folder was not given")
    memory, failure = memory_of(system, found) if options.memory else (None, [])
    pose, pose_note = pose_cost(system, found.corpus)
    against = teacher.name if teacher is not None and teacher.name != system.name else None
    return SystemRecord(
        system=system.name,
        run=system.lineage.run,
        architecture=system.lineage.architecture,
        modality=system.contract.modality,  # type: ignore[arg-type]
        distillation=system.lineage.distillation,
        taught_by=system.lineage.teacher,
        runtime=system.runtime,
        through=system.through,
        precision=system.precision,
        frames=system.contract.padding.frames,
        nodes=system.nodes,
        target=options.target,
        valid=not faults,
        reasons=faults + remarks + failure,
        wer=accuracy.wer_result(
            found.readings[system.name], options.split, against, found.readings[against] if against else ()
        ),
        latency=timing.latency(),
        complexity=complexity,
        peak_memory_mb=memory,
        pose_ms_per_frame=pose,
        pose_note=pose_note,
        provenance=found.origin.model_copy(update={**system.hashes, "seed": system.lineage.seed}),
    )


def memory_of(system: System, found: Findings) -> tuple[float | None, list[str]]:
    """Peak memory in MB over clips from the shortest to the longest; None and the reason where it could not be had."""
    clips = [row.id for row in spread(sorted(found.rows, key=lambda row: row.frames), MEMORY_CLIPS)]
    try:
        return peak_memory_mb(system.opener, found.corpus.folder, clips), []
    except MemoryFailed as error:
        return None, [str(error)]


def invalid(timing: Timing, plan: TimingPlan) -> list[str]:
    """Why the times of a system are not to be trusted; empty when they are."""
    reasons = []
    if not timing.stable:
        reasons.append(f"times had not settled after {timing.warmup} warm-up calls")
    if abs(timing.drift) > plan.drift:
        reasons.append(f"times changed by {timing.drift:+.0%} between the first and the last half of the rounds")
    return reasons


def size_of(system: System, runs: Sequence[Any], rows: Sequence[ClipRow]) -> Complexity | None:
    """Complexity of a system in inference form on the clip of median length; None where its network is not at hand."""
    import torch

    module = system.module
    if module is None:
        run = next((run for run in runs if run.checkpoint_hash == system.hashes["checkpoint"]), None)
        if run is None:
            return None
        module = run.model.inference().eval()
    frames = sorted(row.frames for row in rows)[len(rows) // 2]
    example = torch.from_numpy(example_input(system.contract, frames))
    return count(module, example, frames, system.bytes_on_disk, len(windows(system.contract, frames)))


def pose_cost(system: System, corpus: Corpus) -> tuple[float | None, str]:
    """Cost of the pose estimator in front of a skeleton student, in ms a frame, and what to say of it."""
    if system.contract.modality != "keypoints":
        return None, ""
    known = corpus.metadata.pose_ms_per_frame
    return known, POSE_MISSING if known is None else POSE_MEASURED


def compare(systems: Sequence[System], found: Findings) -> list[Record]:
    """Paired comparisons: distilled with plain, a lower precision with full, every other system with the teacher."""
    records: list[Record] = []

    def wer(name: str, system: System, against: System) -> None:
        change = accuracy.difference(found.readings[system.name], found.readings[against.name])
        add(name, system, against, quantity="wer", difference=change)

    def speed(name: str, system: System, against: System) -> None:
        faster = ratio(found.timings[system.name], found.timings[against.name])
        add(name, system, against, quantity="latency_ratio", ratio=faster)

    def add(name: str, system: System, against: System, **result: Any) -> None:
        record = ComparisonRecord(
            name=name, system=system.name, against=against.name, provenance=found.origin, **result
        )
        records.append(record)

    teacher = found.teacher
    for system in systems:
        for plain in plain_twins(system, systems):
            wer(f"{system.lineage.distillation} gain, {system.lineage.architecture} {system.precision}", system, plain)
        full = full_precision(system, systems)
        if full is not None:
            wer(f"{system.precision} cost, {system.lineage.run}", system, full)
            speed(f"{system.precision} speed-up, {system.lineage.run}", system, full)
        if teacher is not None and system.name != teacher.name:
            speed(f"speed of {system.name} against {teacher.name}", system, teacher)
    return records


def plain_twins(system: System, systems: Sequence[System]) -> list[System]:
    """The same network without distillation, on the same runtime at the same precision."""
    plain = lineage.find_plain(system.lineage, [other.lineage for other in systems])
    if plain is None:
        return []
    way = (system.runtime, system.precision, system.contract.padding.frames)
    return [
        other for other in systems
        if other.lineage == plain and (other.runtime, other.precision, other.contract.padding.frames) == way
    ]  # fmt: skip


def full_precision(system: System, systems: Sequence[System]) -> System | None:
    """The FP32 system of the same checkpoint on the same runtime at the same length, for one of lower precision."""
    if system.precision == "fp32" or not system.hashes["checkpoint"]:
        return None

    def way(other: System) -> tuple[str, str, int]:
        return other.runtime, other.hashes["checkpoint"], other.contract.padding.frames

    return next((other for other in systems if other.precision == "fp32" and way(other) == way(system)), None)


def open_all(
    engines: Sequence[str | Path],
    eager: Sequence[str | Path],
    runs: Sequence[str | Path],
    threads: int,
    trust: bool = False,
) -> tuple[list[System], list[Any]]:
    """Open everything that is to be measured; returns the systems, eager ones first, and the run folders.

    An engine belongs to the run whose checkpoint its contract names, if that run is among `runs` or `eager`; else it is
    measured as a stranger, under the name in its contract. Engines that would share a name, that of their run and
    precision, go by the names of their folders. `trust` opens plans that are not the user's own. Raises
    `BadInput` for what cannot be opened, `Refused` for a plan that is not to be trusted.
    """
    folders = [found for folder in (*runs, *eager) for found in run_folders(Path(folder))]
    opened = [load_run(folder) for folder in dict.fromkeys(folder.resolve() for folder in folders)]
    known = {run.checkpoint_hash: lineage.of_run(run) for run in opened}
    systems: list[System] = [EagerSystem(path, threads) for path in eager]
    systems.extend(EngineSystem(path, threads, known, trust) for path in engines)
    tell_apart(systems)
    return systems, opened


def run_folders(folder: Path) -> list[Path]:
    """The folder itself if it is a run folder, else the finished runs inside it; itself again if there are none."""
    if (folder / SUMMARY).exists() or not folder.is_dir():
        return [folder]
    inside = [path.parent for path in sorted(folder.glob(f"*/{SUMMARY}"))]
    return [path for path in inside if (read_summary(path) or {}).get("status") == "complete"] or [folder]
