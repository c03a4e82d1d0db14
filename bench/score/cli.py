"""`signedge score`: word error rate of a ctm against an stm."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.score.protocol import load_protocol, names
from bench.score.scoring import score_files

app = typer.Typer(add_completion=False)


@app.command()
def score(
    hypothesis: Annotated[Path, typer.Argument(metavar="HYP.ctm", help="Recognised words, one a line.")],
    reference: Annotated[Path, typer.Argument(metavar="REF.stm", help="Reference words, one utterance a line.")],
    protocol: Annotated[str, typer.Option(help=f"How hypotheses are cleaned: {', '.join(names())}.")] = "plain",
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON and nothing else.")] = False,
) -> None:
    """Word error rate with substitutions, deletions and insertions, counted exactly as NIST sclite counts."""
    rules = load_protocol(protocol)
    result = score_files(hypothesis, reference, rules)
    counts_as = rules.empty_word or "deletions"
    _warn(result.unanswered, f"have no line in {hypothesis}; each counts as {counts_as}")
    _warn(result.wordless, f"have no words in {reference}; all that was recognised there counts as insertions")
    _warn(result.misordered, f"have words out of time order: {protocol} sorts start times as text, 10.0 before 9.0")
    if as_json:
        print(json.dumps(result.as_json(), ensure_ascii=False))
        return
    from bench.score.summary import show

    show(result, protocol, rules)


def _warn(utterances: list[str], what: str) -> None:
    """One line on stderr that says how many utterances are concerned and names the first."""
    if utterances:
        some = ", ".join(utterances[:3]) + (", ..." if len(utterances) > 3 else "")
        print(f"signedge score: warning: {len(utterances)} utterance(s) ({some}) {what}", file=sys.stderr)
