"""`signedge distill`: train a teacher, or distil a student from one, as a recipe says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(add_completion=False)


@app.command()
def distill(
    recipe: Annotated[str, typer.Argument(help="a recipe file, or the name of one that comes along (demo/teacher)")],
    corpus: Annotated[Path, typer.Option(help="the corpus folder")],
    out: Annotated[Path, typer.Option(help="the run folder; an unfinished run there goes on")],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="change the recipe: training.epochs=3; may be repeated"),
    ] = None,
    skip_bad_clips: Annotated[
        bool, typer.Option(help="leave out the clips that `signedge corpus check` finds fault with")
    ] = False,
) -> None:
    """Train what RECIPE says on a corpus and leave a run folder."""
    from distill.recipe import load_recipe

    wanted = load_recipe(recipe, changes or [])  # a wrong recipe is told before torch is loaded
    from distill.corpus import Corpus
    from distill.train import train

    with Report() as report:
        train(wanted, Corpus(corpus, strict=False), out, skip_bad_clips, report)
    typer.echo(f"{out}: complete")


class Report:
    """Progress of a training: bars in a terminal, else one line an epoch."""

    def __init__(self) -> None:
        from rich import progress
        from rich.console import Console

        self._console = Console()
        self._bars = progress.Progress(
            progress.TextColumn("{task.description:<8}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Report:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def __call__(self, event: dict[str, Any]) -> None:
        """Show one event of `distill.train.train`."""
        stage = event["stage"]
        if stage in ("clips", "teacher", "step"):
            self._advance({"step": f"epoch {event.get('epoch')}"}.get(stage, stage), event["done"], event["total"])
        elif stage == "skip":
            self._say(f"skipped {event['fault']}")
        elif stage == "warning":
            self._say(f"warning: {event['text']}")
        elif stage == "resume":
            self._say(f"going on after epoch {event['epoch']}")
        elif stage == "epoch":
            self._say(epoch_line(event))

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _advance(self, name: str, done: int, total: int) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total)
        self._bars.update(self._tasks[name], completed=done)
        if done == total:
            self._bars.remove_task(self._tasks.pop(name))


def epoch_line(event: dict[str, Any]) -> str:
    """One epoch in one line."""
    terms = "  ".join(f"{name} {value:.3f}" for name, value in event["losses"].items())
    wer = "" if event["dev_wer"] is None else f"  dev WER {event['dev_wer']:.1f} %"
    return f"epoch {event['epoch']:>3}/{event['epochs']}  {event['seconds']:6.1f} s  {terms}{wer}"
