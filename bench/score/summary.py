"""What `signedge score` shows a person: the rate with its interval, the counts, and where the errors are."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.score.protocol import Protocol
from bench.score.scoring import Score, ScoredUtterance
from runtime.bootstrap import interval
from runtime.wer import aligned, fold

WORST = 5


def show(result: Score, name: str, protocol: Protocol) -> None:
    """Print the summary to stdout."""
    console = Console(highlight=False)
    total = result.total
    spread = interval(
        [scored.counts.errors for scored in result.utterances],
        [scored.counts.reference_words for scored in result.utterances],
    )
    console.print(Text.assemble((f"WER {total.wer:.2f} %", "bold"), f"   protocol {name}: {protocol.title}"))
    console.print(
        f"{spread.level:.0%} interval {spread.low:.2f} to {spread.high:.2f} "
        f"(bootstrap over {spread.pairs} utterances, {spread.resamples} resamples)"
    )
    console.print(_counts(result))
    if minimum := _minimum(result):
        console.print(minimum)
    worst = sorted((scored for scored in result.utterances if scored.counts.errors), key=_by_errors)[:WORST]
    if worst:
        console.print("\nmost errors:")
    for scored in worst:
        counts = scored.counts
        fate = f"  {counts.substitutions} S, {counts.deletions} D, {counts.insertions} I"
        console.print(Text.assemble((scored.id, "bold"), fate))
        for line in _alignment(scored, console.width):
            console.print(line, overflow="fold")


def _counts(result: Score) -> Table:
    total = result.total
    table = Table()
    for column in ("", "words", "% of reference"):
        table.add_column(column, justify="left" if not column else "right")
    rows = (
        ("reference", total.reference_words),
        ("correct", total.correct),
        ("substitutions", total.substitutions),
        ("deletions", total.deletions),
        ("insertions", total.insertions),
        ("errors", total.errors),
    )
    for label, count in rows:
        table.add_row(label, str(count), f"{100 * count / total.reference_words:.2f}")
    table.add_row("utterances", str(len(result.utterances)), "")
    wrong = sum(scored.counts.errors > 0 for scored in result.utterances)
    table.add_row("with an error", str(wrong), "")
    return table


def _minimum(result: Score) -> str:
    from bench.score.total import minimum_errors

    least = minimum_errors((scored.reference, scored.hypothesis) for scored in result.utterances)
    if least is None:
        return ""
    return (
        f"plain edit distance: {least} errors, {100 * least / result.total.reference_words:.2f} % "
        "(what scripts with equal costs report)"
    )


def _by_errors(scored: ScoredUtterance) -> tuple[int, str]:
    return -scored.counts.errors, scored.id


def _alignment(scored: ScoredUtterance, width: int) -> Iterator[Text]:
    """Lines with the words of both sides above each other, broken to `width`; gaps are stars, errors are red."""
    upper, lower = Text(), Text()
    for wanted, heard in aligned(scored.reference, scored.hypothesis):
        column = max(len(wanted or ""), len(heard or ""))
        if upper and len(upper) + column + 8 > width:
            yield from (Text("  REF: ") + upper, Text("  HYP: ") + lower)
            upper, lower = Text(), Text()
        right = wanted is not None and heard is not None and fold(wanted) == fold(heard)
        style = "" if right else "red"
        upper.append((wanted if wanted is not None else "*" * column).ljust(column), style).append(" ")
        lower.append((heard if heard is not None else "*" * column).ljust(column), style).append(" ")
    yield from (Text("  REF: ") + upper, Text("  HYP: ") + lower)
