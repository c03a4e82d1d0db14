"""`signedge corpus`: make, build, read and judge a corpus folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runtime.errors import BadInput, CriterionFailed

if TYPE_CHECKING:
    from distill.corpus.store import Corpus

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Make, build, read and judge a corpus folder.")

Out = Annotated[Path, typer.Option(help="the corpus folder to write; must not exist yet")]
Seed = Annotated[int, typer.Option(min=0, help="the same seed gives the same bytes")]
Counts = Annotated[str, typer.Option(metavar="TRAIN,DEV,TEST", help="how many sentences each split gets")]


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="the corpus folder")],
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Name every bad row of a corpus with its line. Exit status 1 if there is one, 2 if the folder is no corpus."""
    from distill.corpus.check import check as find_faults
    from distill.corpus.check import summary, warnings
    from distill.corpus.store import Corpus

    corpus = Corpus(folder, strict=False)
    faults, notes = find_faults(corpus, _bar("checking")), warnings(corpus)
    if as_json:
        found = [{"line": fault.line, "clip": fault.clip, "message": fault.message} for fault in faults]
        result = {"corpus": corpus.metadata.name, "faults": found, "warnings": notes, "splits": summary(corpus)}
        typer.echo(json.dumps(result, ensure_ascii=False))
    else:
        for fault in faults:
            typer.echo(str(fault))
        for note in notes:
            typer.echo(f"warning: {note}")
        _describe(corpus)
    if faults:
        rows = len({fault.line for fault in faults if fault.line})
        raise CriterionFailed(f"{folder}: {_count(len(faults), 'fault')}, in {_count(rows, 'row')}")


def _describe(corpus: Corpus) -> None:
    """Print what the corpus holds, what it is, and what it takes on disk."""
    from distill.corpus.check import summary

    metadata = corpus.metadata
    typer.echo(f"{metadata.name}, vocabulary of {len(metadata.glosses)}: {metadata.description}".removesuffix(": "))
    for split, row in summary(corpus).items():
        clips, glosses = _count(row["clips"], "clip"), _count(row["glosses"], "gloss")
        typer.echo(f"  {split:<5} {clips}, {glosses}, {row['minutes']} min")
    size = sum(path.stat().st_size for path in corpus.folder.rglob("*") if path.is_file())
    typer.echo(f"  {size / 1e6:.1f} MB in {corpus.folder}{f', {metadata.track} track' if metadata.track else ''}")


def _count(number: float, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 'es' if what.endswith('s') else 's'}"


@app.command("import")
def import_videos(
    manifest: Annotated[
        Path, typer.Argument(help="a .csv, .tsv or .jsonl: path, glosses, split (id, signer, fps, keypoints)")
    ],
    out: Out,
    size: Annotated[int, typer.Option(help="side of the stored square frames; smaller videos stay as they are")] = 256,
    name: Annotated[str, typer.Option(help="name of the corpus; the manifest's, if none is given")] = "",
    layout: Annotated[
        Path | None, typer.Option(help="joint names of the keypoints, one a line; else body and hands, 49")
    ] = None,
    description: Annotated[str, typer.Option(help="one sentence for the report: what these clips are")] = "",
    licence: Annotated[str, typer.Option(help="the licence of the videos")] = "",
) -> None:
    """Import one's own videos: any container that PyAV reads, or folders of images, with a gloss string for each."""
    from distill.corpus.manifest import ManifestFaults, import_manifest, read_layout
    from distill.corpus.store import Corpus

    joints = read_layout(layout) if layout else ()
    try:
        import_manifest(manifest, out, size, name, joints, description, licence, _bar("importing"))
    except ManifestFaults as error:
        for fault in error.faults:
            typer.echo(fault, err=True)
        raise
    _describe(Corpus(out))


@app.command()
def compose(
    recordings: Annotated[Path, typer.Argument(help="an .npz of isolated recordings: q, offsets, label, uid, scale")],
    out: Out,
    seed: Seed = 1,
    sentences: Counts = "600,100,200",
    track: Annotated[
        str, typer.Option(help="stored keypoints: full, or hard (wrists and finger tips, poorly tracked)")
    ] = "full",
    noise: Annotated[float, typer.Option(help="hard track: deviation of a point, in hand lengths")] = 0.12,
    lost: Annotated[float, typer.Option(help="hard track: share of the time that a hand is lost")] = 0.15,
    size: Annotated[int, typer.Option(help="side of the rendered frames in pixels")] = 64,
    frames: Annotated[bool, typer.Option("--frames/--no-frames", help="render pixels as well")] = True,
    tempo: Annotated[float, typer.Option(help="how much faster than the isolated signs the sentences are")] = 1.5,
    held_out: Annotated[float, typer.Option(help="share of each gloss' recordings kept for dev and test")] = 0.2,
    aspect: Annotated[float, typer.Option(help="height / width of the recording cameras' picture")] = 0.75,
    name: Annotated[str, typer.Option(help="name of the corpus; the file's, if none is given")] = "",
    language: Annotated[str, typer.Option(help="the sign language of the recordings, for the description")] = "",
    licence: Annotated[str, typer.Option(help="source and licence of the recordings")] = "",
    workers: Annotated[int, typer.Option(min=1, help="processes")] = 1,
) -> None:
    """Compose continuous sentences from isolated real recordings, split by recording; pixels are rendered."""
    from distill.corpus.compose import ComposeConfig
    from distill.corpus.compose import compose as make
    from distill.corpus.fingertips import Handicap
    from distill.corpus.store import Corpus

    config = ComposeConfig(
        seed=seed,
        sentences=_counts(sentences),
        track=track,
        handicap=Handicap(noise, lost),
        size=size,
        frames=frames,
        tempo=tempo,
        held_out=held_out,
        aspect=aspect,
        workers=workers,
    )
    make(recordings, out, config, name, licence, language, _bar("composing"))
    _describe(Corpus(out))


def _counts(text: str) -> tuple[int, int, int]:
    try:
        train, dev, test = (int(part) for part in text.split(","))
    except ValueError as error:
        raise BadInput(f"--sentences {text}: three counts are needed, as in 600,100,200") from error
    return train, dev, test


def _bar(what: str) -> Callable[[Iterable[Any], int], Iterable[Any]]:
    """A wrapper of iterables that shows a bar on the terminal's error stream."""

    def watch(items: Iterable[Any], total: int) -> Iterator[Any]:
        with _progress(what, total) as advance:
            for item in items:
                yield item
                advance()

    return watch


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)


@app.command()
def synth(
    out: Out,
    seed: Seed = 1,
    sentences: Counts = "900,150,300",
    size: Annotated[int, typer.Option(help="side of the rendered frames in pixels")] = 64,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="any other parameter: glosses=30; may be repeated"),
    ] = None,
) -> None:
    """Generate continuous signing with a controlled gap between what pixels show and what a skeleton tracker sees."""
    import yaml
    from pydantic import ValidationError

    from distill.corpus.store import Corpus
    from distill.corpus.synth.generate import SynthConfig, generate
    from distill.explain import explain

    train, dev, test = _counts(sentences)
    values: dict[str, Any] = {"seed": seed, "train": train, "dev": dev, "test": test, "size": size}
    for change in changes or []:
        key, equals, value = change.partition("=")
        if not equals:
            raise BadInput(f"--set {change}: KEY=VALUE is needed")
        try:
            values[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise BadInput(f"--set {change}: the value is not YAML") from error
    try:
        config = SynthConfig.model_validate(values)
    except ValidationError as error:
        raise BadInput(f"synth: {explain(error, SynthConfig, 'settings')}") from error
    with _progress("generating", train + dev + test) as advance:
        generate(out, config, lambda done, total: advance())
    _describe(Corpus(out))
