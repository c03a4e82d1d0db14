"""How each figure was obtained: plain explanations, with the settings that the records state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.complexity import TOLERANCE
from bench.latency import minimum_samples
from bench.record import ComparisonRecord, CurveRecord, ExampleRecord, Provenance, Record, SystemRecord
from bench.report import formats
from bench.report.cast import Cast


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
    load: str
    seed: str
    corpus: str
    checkpoint: str
    onnx: str
    engine: str


@dataclass(frozen=True)
class Origin:
    """What several records share: machine, versions and commit of signedge, and which they are."""

    of: list[str]
    host: dict[str, str]
    versions: dict[str, str]
    commit: str


def methods(cast: Cast) -> list[Method]:
    """One entry a kind of figure that occurs in the table."""
    systems = list(cast.systems.values())
    return [entry for entry in (rule(systems, cast) for rule in _RULES) if entry is not None]


def sources(records: Sequence[Record]) -> list[Source]:
    """Provenance, record by record; comparisons and examples come from the rows that they are about."""
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
                load=formats.MISSING if p.load is None else f"{p.load:.2f}",
                seed=formats.MISSING if p.seed is None else str(p.seed),
                corpus=formats.digest(p.corpus),
                checkpoint=formats.digest(p.checkpoint),
                onnx=formats.digest(p.onnx),
                engine=formats.digest(p.engine),
            )
        )
    return rows


def origins(records: Sequence[Record]) -> list[Origin]:
    """Machines, versions and commits, each set once with the kinds of records that share it."""
    found: list[Origin] = []
    for record in records:
        p = record.provenance
        facts = (p.host, p.versions, _commit(p))
        known = next((o for o in found if (o.host, o.versions, o.commit) == facts), None)
        if known is None:
            known = Origin([], *facts)
            found.append(known)
        label = record.system if isinstance(record, SystemRecord) else record.kind
        if label not in known.of:
            known.of.append(label)
    return found


def _commit(provenance: Provenance) -> str:
    """Commit of the checkout; "" where there was none, or the records are older than this field."""
    if provenance.commit is None:
        return ""
    return f"{formats.digest(provenance.commit)}{', with uncommitted changes' if provenance.dirty else ''}"


def _numbers(values: list[int]) -> str:
    low, high = min(values), max(values)
    return formats.whole(low) if low == high else f"{formats.whole(low)} to {formats.whole(high)}"


def _wer(systems: list[SystemRecord], cast: Cast) -> Method | None:
    scored = [s.wer for s in systems if s.wer]
    if not scored:
        return None
    decoders = formats.listing(sorted({result.decoder for result in scored}))
    readers = sorted({s.through for s in systems if s.through})
    through = f" Clips were read through {formats.listing(readers)}." if readers else ""
    return Method(
        "WER",
        "Word error rate: substitutions, deletions and insertions of the cheapest alignment of what was read with what "
        "was signed (NIST sclite's costs 4, 3, 3), summed over all clips and divided by the number of reference "
        f"glosses. It can pass 100 %. Decoding: {decoders}. An engine is scored by what the engine "
        f"itself reads.{through}",
    )


def _interval(systems: list[SystemRecord], cast: Cast) -> Method | None:
    scored = [s.wer for s in systems if s.wer]
    if not scored:
        return None
    return Method(
        "Intervals",
        f"{scored[0].wer.level:.0%} percentile bootstrap over clips, ".replace("%", " %")
        + f"{_numbers([r.wer.resamples for r in scored])} resamples. A difference is paired: both systems are drawn on "
        "the same clips, so what makes a clip hard for both cancels out. An interval that includes 0 does not show "
        "that two systems are equal; it shows that these clips cannot tell them apart.",
    )


def _latency(systems: list[SystemRecord], cast: Cast) -> Method | None:
    timed = [s.latency for s in systems if s.latency]
    if not timed:
        return None
    threads = formats.listing(sorted({formats.plural(t.threads, "thread") for t in timed}))
    others = [t.other_work for t in timed if t.other_work is not None]
    meanwhile = f" Meanwhile other processes kept {max(others):.1f} cores busy." if others else ""
    return Method(
        "Latency",
        "Wall time of the recogniser over one whole clip (if it takes one length: over all windows), batch 1, "
        "prepared frames or key points in, "
        f"log-probabilities out: {_numbers([t.clips for t in timed])} clips of "
        f"{formats.significant(timed[0].frames_per_clip)} frames on average, {_numbers([t.samples for t in timed])} "
        f"timed calls after {_numbers([t.warmup for t in timed])} calls of warm-up, {threads}. The systems take turns "
        "clip by clip, so that a drift of the machine touches all alike. Stated is the median; p90 from "
        f"{minimum_samples(90)} and p99 from {minimum_samples(99)} timed calls on, thresholds "
        f"that take repeated calls on the same clips as independent samples. Preprocessing is timed apart.{meanwhile}",
    )


def _frame(systems: list[SystemRecord], cast: Cast) -> Method | None:
    if not any(s.latency for s in systems):
        return None
    return Method(
        "Time a frame, RTF",
        "The median over clips of time divided by frames. The real-time factor (RTF) is processing time divided by the "
        "clip's duration: below 1 it keeps up with the signing.",
    )


def _speedup(systems: list[SystemRecord], cast: Cast) -> Method | None:
    if cast.baseline is None:
        return None
    return Method(
        "Speed-up",
        f"How many times faster than {cast.full_name(cast.baseline)} ({cast.baseline.system}): the median over clips "
        "of the ratio of the two times on that clip, both from one interleaved run; it need not equal the ratio of "
        "the medians. Where the records hold no such ratio, the ratio of the medians stands in, marked as such.",
    )


def _macs(systems: list[SystemRecord], cast: Cast) -> Method | None:
    counted = [s.complexity for s in systems if s.complexity]
    if not counted:
        return None
    counters = list(dict.fromkeys(count.counter for c in counted for count in c.counts))
    by = (
        f"Counted by {formats.listing(counters)}. A counter that can count every operator goes before one that cannot; "
        f"where that does not tell, {counters[0] if counters else ''}'s figure is stated if the two agree within "
        f"{100 * TOLERANCE:.0f} %, else the other's. "
    )
    return Method(
        "MACs",
        f"Multiply-accumulates of the inference form for a clip of {_numbers([c.frames for c in counted])} frames, its "
        "padding (and every window, where an engine takes one length) included, divided by its frames; 1 MAC is 2 "
        "FLOPs. Element-wise operations count as 0. "
        f"{by if counters else ''}INT8 changes what a MAC costs, not how many there are.",
    )


def _size(systems: list[SystemRecord], cast: Cast) -> Method | None:
    if not any(s.complexity for s in systems):
        return None
    return Method(
        "Parameters, size on disk",
        "Parameters of the inference form, without heads that only training needs; bytes of the file that runs. "
        "1 MB is 1 000 000 bytes.",
    )


def _memory(systems: list[SystemRecord], cast: Cast) -> Method | None:
    if all(s.peak_memory_mb is None for s in systems):
        return None
    return Method(
        "Peak memory",
        "High-water mark of a fresh process that loads this one recogniser and reads clips: interpreter, libraries, "
        "runtime, weights and activations together.",
    )


def _pose(systems: list[SystemRecord], cast: Cast) -> Method | None:
    skeleton = [s for s in systems if s.modality == "keypoints"]
    if not skeleton:
        return None
    if any(s.pose_ms_per_frame is not None for s in skeleton):
        text = "Its cost was measured apart; it stands beside the recogniser's own time and is never added silently."
    else:
        text = "That cost was not measured here, so rows of skeletons tell the cost of the recogniser alone."
    start = "Who reads skeletons needs key points, which something must find in the frames first."
    return Method("Pose estimator", f"{start} {text}")


def _best(systems: list[SystemRecord], cast: Cast) -> Method | None:
    if not cast.others():
        return None
    return Method(
        f"{cast.best_called[0].upper()}{cast.best_called[1:]}",
        "The network with the lowest WER in any of its rows, and of its rows the fastest. It is chosen on the clips "
        "that it is reported on, which favours it a little.",
    )


_RULES = (_wer, _interval, _latency, _frame, _speedup, _pose, _macs, _size, _memory, _best)
