"""`signedge matrix`: every network for every target in every precision, in one table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Check and build networks for every target in every precision.")


@app.command()
def matrix(
    models: Annotated[list[Path] | None, typer.Argument(help="ONNX files; none: the project's, random weights")] = None,
    out: Annotated[Path, typer.Option(help="folder for matrix.md and matrix.json")] = Path("out/matrix"),
    target: Annotated[list[str] | None, typer.Option(help="one of these targets only; may be repeated")] = None,
) -> None:
    """Tell for every network, target and precision: fits, lowerings, refusals; build where a builder is here.

    Exit status 1 if anything failed without a rule that explains it.
    """
    from rich.console import Console
    from rich.progress import Progress

    from export.matrix import FAILED, Matrix, as_json, as_markdown, exported_network, random_networks, targets
    from runtime.atomic import atomic_file
    from runtime.errors import CriterionFailed

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bars:
        task = bars.add_task("exporting", total=None)
        networks = [exported_network(path) for path in models] if models else list(random_networks())

        def tell(done: int, total: int, what: str) -> None:
            bars.update(task, completed=done, total=total, description=what)

        rows = Matrix(networks).rows(targets(target or ()), tell)
    for name, text in (("matrix.md", as_markdown(rows)), ("matrix.json", json.dumps(as_json(rows), indent=1) + "\n")):
        with atomic_file(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    failed = [row for row in rows if row.verdict == FAILED]
    print(as_markdown(rows).splitlines()[2])
    print(f"{out / 'matrix.md'}: {len(rows)} rows")
    if failed:
        first = failed[0]
        raise CriterionFailed(
            f"{len(failed)} of {len(rows)} failed without a rule that says why, such as {first.network} for "
            f"{first.target} in {first.precision}: {first.why}"
        )
