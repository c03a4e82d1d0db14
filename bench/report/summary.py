"""The report in one paragraph and four figures, computed from the records."""

from __future__ import annotations

from dataclasses import dataclass

from bench.record import Interval, SystemRecord
from bench.report import formats
from bench.report.basis import best_student, nothing_learnt, too_few
from bench.report.cast import Cast, Role
from bench.report.comparisons import DISTILLED, Group


@dataclass(frozen=True)
class KeyFigure:
    """A large figure with its unit, what it is of, and its interval or condition."""

    value: str
    unit: str
    of: str
    detail: str


@dataclass(frozen=True)
class Summary:
    """Sentences, key figures, and the student they speak of."""

    sentences: list[str]
    figures: list[KeyFigure]
    best: SystemRecord | None


def summarise(cast: Cast, groups: list[Group]) -> Summary:
    """Teacher (or baseline), best student (or other system), and what distillation brought, each with its interval."""
    best = best_student(cast)
    doubts = [doubt for doubt in (nothing_learnt(cast), too_few(cast)) if doubt]
    if doubts:
        verdict = f"The accuracy is no basis for a comparison: {'; '.join(doubts)}."
        return Summary([verdict, *_reference_sentence(cast)], _wer_figures(best, cast), best)
    sentences = [*_reference_sentence(cast), *_best_sentence(best, cast), *_gain_sentences(groups, cast)]
    if not sentences:
        sentences = [_nothing(cast, groups)]
    return Summary(sentences, [*_wer_figures(best, cast), *_cost_figures(best, cast)], best)


def _nothing(cast: Cast, groups: list[Group]) -> str:
    if cast.systems and not cast.reference:
        pairs = sum(len(group.rows) for group in groups)
        compared = f"{formats.plural(pairs, 'pair')} of them {'is' if pairs == 1 else 'are'} compared further down"
        return f"No system is the one that all others are measured by; {compared if pairs else 'none are compared'}."
    return "The records hold no valid system with a word error rate and a latency; there is nothing to compare."


def _reference_sentence(cast: Cast) -> list[str]:
    reference = cast.baseline
    if reference is None or reference.wer is None or reference.latency is None:
        return []
    name = "" if cast.role == "teacher" else f", {cast.run_name(reference)},"
    clips = len(reference.wer.utterances) or reference.wer.wer.pairs
    clips_of = f"the {formats.plural(clips, 'clip')} of " if clips else ""
    return [
        f"On {clips_of}the {reference.wer.split} split, the {cast.role}{name} reads with a WER of "
        f"{formats.points(reference.wer.wer.value)} % {formats.span(reference.wer.wer.low, reference.wer.wer.high)} "
        f"and its {_engine(reference)} takes "
        f"{formats.milliseconds(reference.latency.median_ms)} ms a clip on {reference.target} "
        f"({formats.plural(reference.latency.threads, 'thread')})."
    ]


def _best_sentence(best: SystemRecord | None, cast: Cast) -> list[str]:
    if best is None or best.wer is None or best.latency is None:
        return []
    speedup = cast.speedup(best)
    faster = f", {formats.significant(speedup[0])} times as fast" if speedup and speedup[0] >= 1 else ""
    return [
        f"The {cast.best_called}, {_called(best, cast)}, takes "
        f"{formats.milliseconds(best.latency.median_ms)} ms{faster}{_pose(best)}, "
        f"at a WER of {formats.points(best.wer.wer.value)} %{_lost(best.wer.difference, cast.role)}."
    ]


def _called(best: SystemRecord, cast: Cast) -> str:
    """A student goes by its network; of other systems several may be one network's, so each goes by its own name."""
    if cast.role == "baseline":
        return cast.full_name(best)
    return f"{cast.run_name(best)} as {_article(_engine(best))}"


def _pose(best: SystemRecord) -> str:
    if best.modality != "keypoints":
        return ""
    if best.pose_ms_per_frame is None:
        return ", its pose estimator not included"
    return f" (and {formats.milliseconds(best.pose_ms_per_frame)} ms a frame for its pose estimator, not included)"


def _lost(difference: Interval | None, role: Role) -> str:
    if difference is None:
        return ""
    interval = formats.signed_span(difference.low, difference.high)
    if formats.points(abs(difference.value)) == "0.0":
        return f", level with the {role} {interval}"
    word = "more" if difference.value > 0 else "fewer"
    open_end = ", an interval that includes 0" if difference.low <= 0 <= difference.high else ""
    return f", {formats.points(abs(difference.value))} points {word} than the {role} {interval}{open_end}"


def _gain_sentences(groups: list[Group], cast: Cast) -> list[str]:
    rows = [row for group in groups if group.kind == DISTILLED for row in group.rows if row.difference]
    pairs = [(row, cast.systems[row.system], cast.systems[row.against]) for row in rows]
    full = {(system.run, against.run): row.shown for row, system, against in pairs if system.precision == "fp32"}
    sentences = []
    for row, system, against in pairs:
        value = row.difference
        assert value is not None
        if system.precision != "fp32" and full.get((system.run, against.run)) == row.shown:
            continue  # says nothing that the FP32 pair has not said
        change = f"{formats.signed(value.value)} points {formats.signed_span(value.low, value.high)}"
        outcome = {
            "better": f"lowers its WER: {change}",
            "worse": f"raises its WER: {change}",
            "same": "changes the number of errors on no clip",
            "open": f"changes its WER by {change}: the interval includes 0, so no gain is shown at this size",
        }[row.shown]
        precision = "" if system.precision == "fp32" else f" ({system.precision.upper()})"
        sentences.append(f"{system.distillation} on {cast.run_name(against)}{precision} {outcome}.")
    return sentences


def _wer_figures(best: SystemRecord | None, cast: Cast) -> list[KeyFigure]:
    named = [(cast.baseline, f"{cast.role}'s WER")]
    if best is not None:
        named.append((best, f"WER of {cast.full_name(best)}"))
    rows = [(system.wer.wer, of) for system, of in named if system and system.wer]
    return [KeyFigure(formats.points(wer.value), "%", of, formats.span(wer.low, wer.high)) for wer, of in rows]


def _cost_figures(best: SystemRecord | None, cast: Cast) -> list[KeyFigure]:
    if best is None:
        return []
    figures = []
    reference = cast.baseline
    speedup = cast.speedup(best)
    if speedup and best.latency and reference and reference.latency:
        before, after = formats.milliseconds(reference.latency.median_ms), formats.milliseconds(best.latency.median_ms)
        times = f"{before} → {after} ms a clip"
        bare = best.modality == "keypoints" and best.pose_ms_per_frame is None
        detail = f"{times}, pose not included" if bare else times
        figures.append(KeyFigure(formats.ratio(speedup[0]).rstrip("×"), "×", f"as fast as the {cast.role}", detail))
    if reference and reference.complexity and best.complexity:
        counts = reference.complexity.macs_per_frame, best.complexity.macs_per_frame
        if all(counts):
            detail = f"{formats.scaled(counts[0])} → {formats.scaled(counts[1])} a frame"
            figures.append(KeyFigure(formats.ratio(counts[0] / counts[1]).rstrip("×"), "×", "fewer MACs", detail))
    return figures


def _engine(system: SystemRecord) -> str:
    if system.runtime == "pytorch":
        return f"{system.precision.upper()} model in PyTorch"
    return f"{system.precision.upper()} engine"


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'AEIO' or noun.startswith('FP') else 'a'} {noun}"
