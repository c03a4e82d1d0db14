"""`signedge report`: from records to a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runtime.errors import MissingExtra

app = typer.Typer(add_completion=False)


@app.command()
def report(
    results: Annotated[Path, typer.Argument(help="records that `signedge bench` wrote, one JSON object a line")],
    out: Annotated[Path, typer.Option("--out", help="folder for the report; an older report there is replaced")],
) -> None:
    """Turn records into a self-contained page with plots and plain warnings. Reads records only, measures nothing."""
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "jinja2", "bench") from error
    from bench.report.write import write_report

    typer.echo(write_report(results, out))
