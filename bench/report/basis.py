"""The student, or other system, that the report speaks of, and whether the accuracies are a basis for comparing."""

from __future__ import annotations

from bench.record import SystemRecord
from bench.report import formats
from bench.report.cast import Cast

USELESS_WER = 50.0  # %: who misreads every second sign has learnt nothing that is worth comparing
FEWEST_CLIPS = 30  # below, a percentile bootstrap over clips is too narrow
FEWEST_WORDS = 100  # below, one error is more than a point


def best_student(cast: Cast) -> SystemRecord | None:
    """Of the network with the lowest WER the fastest row: what lower precision may cost, the gate has judged before."""
    rows = [(s.wer.wer.value, s.latency.median_ms, s) for s in cast.others() if s.valid and s.wer and s.latency]
    if not rows:
        return None
    run = min(rows, key=lambda row: row[0])[2].run
    return min((row for row in rows if row[2].run == run), key=lambda row: row[1])[2]


def nothing_learnt(cast: Cast) -> str:
    """Who of reference and best other reads too badly to be compared, as a clause; empty where both read well."""
    untimed = next((system for system in cast.systems.values() if cast.is_reference(system)), None)
    rows = ((f"the {cast.role}", cast.baseline or untimed), (f"the {cast.best_called}", best_student(cast)))
    bad = [
        f"{name} has a WER of {formats.points(system.wer.wer.value)} %"
        for name, system in rows
        if system and system.wer and system.wer.wer.value >= USELESS_WER
    ]
    done = "learnt" if cast.role == "teacher" else "read"
    return f"nothing worth comparing was {done}: {formats.listing(bad)}" if bad else ""


def too_few(cast: Cast) -> str:
    """What the scored split has too few of, as a clause; empty where it is large enough."""
    scored = [s.wer for s in cast.systems.values() if s.wer]
    if not scored:
        return ""
    words = min(wer.reference_words for wer in scored)
    counts = [len(wer.utterances) or wer.wer.pairs for wer in scored]
    clips = min((count for count in counts if count), default=FEWEST_CLIPS)
    short = []
    if clips < FEWEST_CLIPS:
        short.append(f"{formats.plural(clips, 'clip')} (at least {FEWEST_CLIPS} are needed)")
    if words < FEWEST_WORDS:
        short.append(f"{formats.plural(words, 'reference word')} (at least {FEWEST_WORDS} are needed)")
    splits = formats.listing(sorted({wer.split for wer in scored}))
    return f"too few to compare on: the {splits} split has {formats.listing(short)}" if short else ""
