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
    if result.unanswered:
        some = ", ".join(result.unanswered[:3]) + (", ..." if len(result.unanswered) > 3 else "")
        print(
            f"signedge score: {len(result.unanswered)} of {len(result.utterances)} utterances have no line in "
            f"{hypothesis} ({some}); each counts as {rules.empty_word or 'deletions'}",
            file=sys.stderr,
        )
    if as_json:
        print(json.dumps(result.as_json(), ensure_ascii=False))
        return
    from bench.score.summary import show

    show(result, protocol, rules)
