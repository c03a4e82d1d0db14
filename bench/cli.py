"""`signedge bench`: measure engines and eager runs on a corpus and write one JSON record a line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from devices import profile
from devices.host import detect
from runtime.atomic import check_writable
from runtime.engine import available_threads
from runtime.errors import BadInput, Refused

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def bench(
    corpus: Annotated[Path, typer.Option(help="corpus folder")],
    out: Annotated[Path, typer.Option(help="results file, JSON lines")],
    engines: Annotated[
        list[Path] | None, typer.Argument(metavar="ENGINE...", help="engine folders, or bare ONNX files")
    ] = None,
    target: Annotated[str, typer.Option(help="the target that this machine is")] = "x86-cpu",
    split: Annotated[str, typer.Option(help="split of the corpus to read")] = "test",
    threads: Annotated[
        int | None, typer.Option(min=1, help="threads of each system; default: every usable core")
    ] = None,
    eager: Annotated[
        list[Path] | None, typer.Option(metavar="RUN", help="run folder to measure in PyTorch eager mode, too")
    ] = None,
    runs: Annotated[
        list[Path] | None,
        typer.Option(metavar="RUN", help="run folder of an engine, or a folder of runs: names, MACs, curves"),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="SYSTEM", help="compare all with this one; default: the teacher of --runs in FP32"),
    ] = None,
    limit_clips: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="read only N clips, spread over the lengths")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0, help="time for timing rounds beyond the fewest needed")] = 60.0,
    trust: Annotated[bool, typer.Option("--trust", help="run plans (code) that are not signed with your key")] = False,
) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from bench.latency import TimingPlan
    from bench.measure import Options, measure, open_all
    from bench.record import write_records
    from bench.systems import EngineSystem
    from distill.corpus.store import Corpus

    if not engines and not eager:
        raise BadInput("nothing to measure: name engine folders, or run folders with --eager")
    check_target(target)
    check_writable(out)  # now, not after minutes of measuring
    options = Options(
        split=split,
        threads=threads or available_threads(),
        target=target,
        against=against,
        limit_clips=limit_clips,
        timing=TimingPlan(seconds=seconds),
    )
    opened = Corpus(corpus)
    systems, folders = open_all(engines or [], eager or [], runs or [], options.threads, trust)
    for system in systems:
        if isinstance(system, EngineSystem) and system.engine.signed.changed:
            typer.echo(f"warning: {system.opener.path}: {system.engine.signed.why}", err=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("measuring", total=None)
        records = measure(
            systems,
            opened,
            options,
            runs=folders,
            progress=lambda stage, done, total: bar.update(
                task, description=stage, completed=done, total=total or None
            ),
        )
    write_records(out, records)
    typer.echo(f"{len(records)} records of {len(systems)} systems in {out}")


def check_target(target: str) -> None:
    """Raise `BadInput` for an unknown target and `Refused` for one that this machine is not."""
    if not profile.resolve(target).at_hand:
        mine = ", ".join(item.name for item in profile.here()) or f"no known target ({detect().machine})"
        raise Refused(f"this machine is not {target}, it is {mine}: measure there")
