"""How each figure was obtained: plain explanations, with the settings that the records state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.record import ComparisonRecord, CurveRecord, ExampleRecord, Record, SystemRecord
from bench.report import formats
from bench.report.cast import Cast
from bench.report.summary import TOLERANCE


@dataclass(frozen=True)
class Method:
    """One figure and how it came about."""

    figure: str
    text: str


@dataclass(frozen=True)
class Source:
    """Provenance of one record of the table."""

    name: str
    command: str
    time: str
    seed: str
    corpus: str
    checkpoint: str
    onnx: str
    engine: str


@dataclass(frozen=True)
class Origin:
    """What several records share: machine and versions, and which they are."""

    of: list[str]
    host: dict[str, str]
    versions: dict[str, str]


def methods(cast: Cast) -> list[Method]:
    """One entry a kind of figure that occurs in the table."""
    systems = list(cast.systems.values())
    return [entry for entry in (rule(systems, cast) for rule in _RULES) if entry is not None]


def sources(records: Sequence[Record], cast: Cast) -> list[Source]:
    """Provenance rows, one for each system, refusal and curve."""
    rows = []
    for record in records:
        if isinstance(record, ComparisonRecord | ExampleRecord):
            continue
        p = record.provenance
        name = getattr(record, "system", "") or getattr(record, "run", "") or getattr(record, "name", "") or record.kind
        rows.append(
            Source(
                name=f"{name} (training)" if isinstance(record, CurveRecord) else name,
                command=p.command,
                time=p.time,
                seed=formats.MISSING if p.seed is None else str(p.seed),
                corpus=formats.digest(p.corpus),
                checkpoint=formats.digest(p.checkpoint),
                onnx=formats.digest(p.onnx),
                engine=formats.digest(p.engine),
            )
        )
    return rows


def origins(records: Sequence[Record]) -> list[Origin]:
    """Machines and versions, each set once with the kinds of records that share it."""
    found: list[Origin] = []
    for record in records:
        p = record.provenance
        known = next((o for o in found if o.host == p.host and o.versions == p.versions), None)
        if known is None:
            known = Origin([], p.host, p.versions)
            found.append(known)
        label = record.system if isinstance(record, SystemRecord) else record.kind
        if label not in known.of:
            known.of.append(label)
    return found


def _numbers(values: list[int]) -> str:
    low, high = min(values), max(values)
    return formats.whole(low) if low == high else f"{formats.whole(low)} to {formats.whole(high)}"


def _wer(systems: list[SystemRecord], cast: Cast) -> Method | None:
    scored = [s.wer for s in systems if s.wer]
    if not scored:
        return None
    decoders = formats.listing(sorted({result.decoder for result in scored}))
    return Method(
        "WER",
        "Word error rate: substitutions, deletions and insertions of the cheapest alignment of reading and reference "
        "(NIST sclite's costs 4, 3, 3), summed over all clips, divided by the number of reference glosses. "
        f"It can pass 100 %. Decoding: {decoders}. Engines were scored by what the engine itself read.",
    )


def _interval(systems: list[SystemRecord], cast: Cast) -> Method | None:
    scored = [s.wer for s in systems if s.wer]
    if not scored:
        return None
    level = f"{100 * scored[0].wer.level:.0f} %"
    return Method(
        "Intervals",
        f"{level} percentile bootstrap over clips, {_numbers([r.wer.resamples for r in scored])} resamples. A difference is "
        "paired: both systems are drawn on the same clips, so what makes a clip hard for both cancels. An interval that "
        "includes 0 does not show that two systems are equal; it shows that these clips cannot tell them apart.",
    )


def _latency(systems: list[SystemRecord], cast: Cast) -> Method | None:
    timed = [s.latency for s in systems if s.latency]
    if not timed:
        return None
    return Method(
        "Latency",
        f"Wall time of one call over one whole clip, batch 1, recogniser only: {_numbers([t.clips for t in timed])} distinct "
        f"clips of {formats.significant(timed[0].frames_per_clip)} frames on average, "
        f"{_numbers([t.samples for t in timed])} timed calls after {_numbers([t.warmup for t in timed])} calls of warm-up, "
        f"{formats.listing(sorted({formats.plural(t.threads, 'thread') for t in timed}))}. "
        "Stated is the median; p90 and p99 only with enough samples. Preprocessing is timed apart.",
    )


def _frame(systems: list[SystemRecord], cast: Cast) -> Method | None:
    if not any(s.latency for s in systems):
        return None
    return Method(
        "ms a frame, RTF",
        "The median over clips of time divided by frames. The real-time factor is processing time divided by the clip's "
        "duration: below 1 it keeps up with the signing.",
    )


def _speedup(systems: list[SystemRecord], cast: Cast) -> Method | None:
    if cast.baseline is None:
        return None
    text = (
        f"Latency of {cast.full_name(cast.baseline)} ({cast.baseline.system}) divided by the row's own. Where it says "
        "interleaved, both were timed in turns in one process, clip by clip, so a drift of the machine touches both; else "
        "it is the ratio of the two medians in the table."
    )
    return Method("Speed-up", text)


def _macs(systems: list[SystemRecord], cast: Cast) -> Method | None:
    counted = [s.complexity for s in systems if s.complexity]
    if not counted:
        return None
    counters = list(dict.fromkeys(count.counter for c in counted for count in c.counts))
    by = f"Counted by {formats.listing(counters)}" if counters else "Counted"
    return Method(
        "MACs",
        f"Multiply-accumulates of the inference form for a clip of {_numbers([c.frames for c in counted])} frames, divided "
        f"by its frames; 1 MAC is 2 FLOPs. {by}; operators that a counter cannot count are named in the warnings.",
    )


def _size(systems: list[SystemRecord], cast: Cast) -> Method | None:
    if not any(s.complexity for s in systems):
        return None
    return Method(
        "Parameters, size on disk",
        "Trained parameters of the inference form, without heads that only training needs; bytes of the file that runs, "
        "1 MB = 1 000 000 bytes.",
    )


def _memory(systems: list[SystemRecord], cast: Cast) -> Method | None:
    if all(s.peak_memory_mb is None for s in systems):
        return None
    text = "Peak resident memory of a process that loads this one recogniser and reads clips, runtime and weights included."
    return Method("Peak memory", text)


def _pose(systems: list[SystemRecord], cast: Cast) -> Method | None:
    skeleton = [s for s in systems if s.modality == "keypoints"]
    if not skeleton:
        return None
    measured = any(s.pose_ms_per_frame is not None for s in skeleton)
    text = "measured apart and stated beside the recogniser's own time, never added to it silently."
    if not measured:
        text = "not measured here, so the rows of skeleton students tell the cost of the recogniser alone."
    return Method("Pose estimator", f"A skeleton student needs key points, which something must find in the frames: {text}")


def _best(systems: list[SystemRecord], cast: Cast) -> Method | None:
    if not cast.students():
        return None
    text = (
        f"The student with the lowest WER; among those within {TOLERANCE} points of it, the fastest. It is chosen on the "
        "same clips that it is reported on, which favours it a little."
    )
    return Method("Best student", text)


_RULES = (_wer, _interval, _latency, _frame, _speedup, _pose, _macs, _size, _memory, _best)
