"""What a reader must know before believing the figures: derived from the records, in plain sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.complexity import TOLERANCE
from bench.latency import minimum_samples
from bench.record import CorpusRecord, CurveRecord, Interval, NoteRecord, Record, RefusalRecord, SystemRecord
from bench.report import formats
from bench.report.basis import nothing_learnt, too_few
from bench.report.cast import EAGER, RUNTIMES, Cast, known
from bench.report.comparisons import DISTILLED, Group

BUSY = 0.25  # share of the cores in others' work from which caches, memory and clock rates are no longer ours
LOADED = 0.5  # load a core that tells the same, less surely: it holds signedge's own work of the last minute, too


@dataclass(frozen=True)
class Caution:
    """A lead of a few words (or none) and the sentences behind it. `grave`: a figure is missing or not to trust."""

    lead: str
    text: str
    grave: bool = False


def gather_cautions(records: Sequence[Record], cast: Cast, groups: list[Group]) -> list[Caution]:
    """All cautions, grave ones first."""
    found = [caution for rule in _RULES for caution in rule(records, cast, groups)]
    return sorted(found, key=lambda caution: not caution.grave)


def _invalid(records: Sequence[Record], cast: Cast, groups: list[Group]) -> list[Caution]:
    result = []
    for system in cast.systems.values():
        if system.valid:
            continue
        text = _sentence("; ".join(system.reasons) or "no reason was recorded")
        if system is cast.baseline:
            text += " Every speed-up divides by this row's time."
        else:
            text += " Greyed in the plots, never the best student."
        result.append(Caution(f"{cast.full_name(system)} is invalid", text, grave=True))
    return result


def _remarks(records: Sequence[Record], cast: Cast, groups: list[Group]) -> list[Caution]:
    return [
        Caution(cast.full_name(system), _sentence("; ".join(system.reasons)))
        for system in cast.systems.values()
        if system.valid and system.reasons
    ]


def _refused(records: Sequence[Record], cast: Cast, groups: list[Group]) -> list[Caution]:
    return [
        Caution(f"{record.system} does not exist", f"Refused: {_sentence(record.reason)}", grave=True)
        for record in records
        if isinstance(record, RefusalRecord)
    ]


def _no_reference(records: Sequence[Record], cast: Cast, groups: list[Group]) -> list[Caution]:
    if not cast.systems or cast.reference:
        return []
    compared = "Only the pairs further down are compared" if groups else "No row is compared with another"
    text = f"{compared}: the records name none that all others are measured by (signedge bench --against SYSTEM does)."
    return [Caution("No baseline", text, grave=True)]


def _no_basis(records: Sequence[Record], cast: Cast, groups: list[Group]) -> list[Caution]:
    learnt = "Nothing learnt" if cast.role == "teacher" else "Hardly anything read"
    doubts = ((learnt, nothing_learnt(cast)), ("Too few clips or words", too_few(cast)))
    return [Caution(lead, _sentence(text), grave=True) for lead, text in doubts if text]


def _runtimes(records: Sequence[Record], cast: Cast, groups: list[Group]) -> list[Caution]:
    """A speed-up across runtimes is partly the runtime's."""
    if cast.baseline is None:
        return []
    own = cast.baseline.runtime
    others = list(dict.fromkeys(s.runtime for s in cast.others() if s.latency and s.runtime != own))
    if not others:
        return []
    text = (
        f"Speed-ups divide the time of {cast.full_name(cast.baseline)} in {RUNTIMES.get(own, own)} by times in "
        f"{formats.listing([RUNTIMES.get(name, name) for name in others])}: part of them is the runtime's doing."
    )
    return [Caution("Speed-ups across runtimes", text)]


def _pose(records: Sequence[Record], cast: Cast, groups: list[Group]) -> list[Caution]:
    bare = [s for s in cast.systems.values() if s.modality == "keypoints" and s.pose_ms_per_frame is None]
    if not bare:
        return []
    names = list(dict.fromkeys(cast.run_name(system) for system in bare))
    text = (
        f"{formats.listing(names)} {'reads' if len(names) == 1 else 'read'} skeletons. The pose estimator that makes "
        f"them was not measured and is not included in any time, MACs or memory of these rows (marked †)."
    )
    return [Caution("Pose estimator not included", text)]


def _corpus(records: Sequence[Record], cast: Cast, groups: list[Group]) -> list[Caution]:
    texts = {
        "synthetic": "'{}' is drawn by a generator. Its figures compare systems with each other; "
        "they do not tell how well any of them reads people.",
        "composed": "The sentences of '{}' are composed from isolated recordings; "
        "the joins between their signs are made, not signed.",
    }
    leads = {"synthetic": "Synthetic signing", "composed": "Composed sentences"}
    return [
        Caution(leads[record.corpus_kind], texts[record.corpus_kind].format(record.name))
        for record in records
        if isinstance(record, CorpusRecord) and record.corpus_kind in texts
    ]


def _corpus_check(records: Sequence[Record], cast: Cast, groups: list[Group]) -> list[Caution]:
    """What `signedge corpus check` warned of."""
    return [
        Caution(f"Corpus '{record.name}'", _sentence(warning))
        for record in records
        if isinstance(record, CorpusRecord)
        for warning in record.warnings
    ]


def _hard_track(records: Sequence[Record], cast: Cast, groups: list[Group]) -> list[Caution]:
    """A handicap that was made: what a student regains of it, it need not gain on a real tracker."""
    tracks = [record.keypoint_track for record in records if isinstance(record, CorpusRecord)]
    if not any(system.modality == "keypoints" for system in cast.systems.values()):
        return []
    return [
        Caution(
            "Key points made poor",
            f"Rows of skeletons read the {formats.track(track)}. That handicap is imitated, so what they lose by it, "
            "or regain by distillation, is not measured on a real tracker.",
        )
        for track in tracks
        if track and track.name == "hard"
    ]


def _open_intervals(records: Sequence[Record], cast: Cast, groups: list[Group]) -> list[Caution]:
    """Only where a gain was claimed: a distillation whose paired interval includes 0."""
    return [
        Caution(
            f"{cast.name_of(row.system)} against {cast.name_of(row.against)}",
            f"{formats.signed(row.difference.value)} points, interval "
            f"{formats.signed_span(row.difference.low, row.difference.high)} includes 0: "
            f"what distillation brings is not shown at this size{_clips(row.difference)}.",
        )
        for group in groups
        for row in group.rows
        if row.shown == "open" and row.difference is not None and group.kind == DISTILLED
    ]


def _seeds(records: Sequence[Record], cast: Cast, groups: list[Group]) -> list[Caution]:
    trained: dict[str, set[int | None]] = {}
    for record in records:
        if isinstance(record, CurveRecord) or (isinstance(record, SystemRecord) and known(record)):
            kind = cast.representative(record.run)
            name = f"{kind.architecture}/{kind.distillation}" if kind else record.run
            trained.setdefault(name, set()).add(record.provenance.seed)
    if not trained or any(len(seeds) > 1 for seeds in trained.values()):
        return []
    network = "Each network" if all(known(system) for system in cast.systems.values()) else "Each network trained here"
    text = f"{network} was trained once. Intervals tell what other clips could change, not what another seed could."
    return [Caution("One seed", text)]


def _tails(records: Sequence[Record], cast: Cast, groups: list[Group]) -> list[Caution]:
    timed = [s.latency for s in cast.systems.values() if s.latency]
    short = [latency for latency in timed if latency.p99_ms is None]
    if not short:
        return []
    rows = "No row states a p99" if len(short) == len(timed) else f"{len(short)} of {len(timed)} rows state no p99"
    most = formats.whole(max(latency.samples for latency in short))
    needed = formats.whole(minimum_samples(99))
    return [Caution("Tail latency", f"{rows}: it takes {needed} timed calls, there were at most {most}.")]


def _unsettled(records: Sequence[Record], cast: Cast, groups: list[Group]) -> list[Caution]:
    rows = [cast.full_name(s) for s in cast.systems.values() if s.latency and not s.latency.stable]
    text = "Times had not settled when warm-up reached its limit"
    return [Caution("Unsettled times", f"{text}: {formats.listing(rows)}.")] if rows else []


def _busy(records: Sequence[Record], cast: Cast, groups: list[Group]) -> list[Caution]:
    """Other work beside a measurement: known from its own time where the system tells, else guessed from the load."""
    told: list[str] = []
    for system in cast.systems.values():
        cores, load = system.provenance.host.get("cores", ""), system.provenance.load
        if system.latency is None or not cores.isdigit():
            continue
        others = system.latency.other_work
        if others is not None and others > BUSY * int(cores):
            told.append(f"Other processes kept {others:.1f} of {cores} cores busy while times were taken")
        elif others is None and load is not None and load > LOADED * int(cores):
            told.append(f"The load average was {load:.1f} on {cores} cores when the measurement began")
    advice = "times may be too long, ratios less so, since the systems took turns. Measure again on an idle machine"
    return [Caution("Busy machine", f"{text}: {advice}.") for text in dict.fromkeys(told)]


def _slow(records: Sequence[Record], cast: Cast, groups: list[Group]) -> list[Caution]:
    rows = [cast.full_name(s) for s in cast.systems.values() if s.latency and s.latency.real_time_factor > 1]
    text = "Real-time factor above 1"
    return [Caution("Slower than the signing", f"{text}: {formats.listing(rows)}.")] if rows else []


def _counters(records: Sequence[Record], cast: Cast, groups: list[Group]) -> list[Caution]:
    found: dict[str, list[str]] = {}
    for system in cast.systems.values():
        if system.complexity is None or system.runtime == EAGER:
            continue
        for count in system.complexity.counts:
            for operator in count.unsupported:
                found.setdefault(f"{count.counter} cannot count {operator}", []).append(cast.run_name(system))
        agreement = system.complexity.agreement
        if agreement is not None and abs(agreement - 1) > TOLERANCE:
            found.setdefault(f"the two counters differ by more than {TOLERANCE:.0%}", []).append(
                f"{cast.run_name(system)} (ratio {agreement:.2f})"
            )
    return [
        Caution("MACs", f"{text[0].upper()}{text[1:]}: {formats.listing(list(dict.fromkeys(rows)))}.")
        for text, rows in found.items()
    ]


def _mixed(records: Sequence[Record], cast: Cast, groups: list[Group]) -> list[Caution]:
    """Rows that cannot be compared because something other than the system differs."""
    rows = list(cast.systems.values())
    facts: list[tuple[str, set, str]] = [
        ("Several machines", {tuple(sorted(s.provenance.host.items())) for s in rows}, "times are not comparable"),
        ("Several targets", {s.target for s in rows}, "times are not comparable"),
        ("Several corpora", {s.provenance.corpus for s in rows if s.wer}, "WERs are not comparable"),
        ("Several splits", {s.wer.split for s in rows if s.wer}, "WERs are not comparable"),
        ("Several decoders", {s.wer.decoder for s in rows if s.wer}, "WERs are not comparable"),
        ("Several numbers of threads", {s.latency.threads for s in rows if s.latency}, "times are not comparable"),
    ]
    return [
        Caution(lead, f"The rows were not all measured alike; between them {result}.", grave=True)
        for lead, values, result in facts
        if len(values) > 1
    ]


def _split(records: Sequence[Record], cast: Cast, groups: list[Group]) -> list[Caution]:
    splits = {s.wer.split for s in cast.systems.values() if s.wer}
    if len(splits) != 1 or splits == {"test"}:
        return []
    text = f"WERs are of the split '{next(iter(splits))}', which training or a gate may have looked at."
    return [Caution("Not the test split", text)]


def _notes(records: Sequence[Record], cast: Cast, groups: list[Group]) -> list[Caution]:
    return [Caution("", _sentence(r.text)) for r in records if isinstance(r, NoteRecord) and r.level == "warning"]


def _clips(difference: Interval) -> str:
    return f" ({formats.plural(difference.pairs, 'clip')})" if difference.pairs else ""


def _sentence(text: str) -> str:
    text = text.strip()
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


_RULES: tuple[Callable[[Sequence[Record], Cast, list[Group]], list[Caution]], ...] = (
    _invalid,
    _refused,
    _no_reference,
    _no_basis,
    _mixed,
    _notes,
    _corpus,
    _hard_track,
    _corpus_check,
    _runtimes,
    _pose,
    _open_intervals,
    _seeds,
    _split,
    _busy,
    _slow,
    _unsettled,
    _counters,
    _tails,
    _remarks,
)
