"""`signedge demo`: the whole way on generated signing, from no clips to a report; a stopped one goes on."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import queue
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Annotated, Any

import typer

from runtime.atomic import atomic_file, unwinding_on_sigterm
from runtime.engine import MANIFEST, available_threads
from runtime.errors import BadInput, CriterionFailed, SignedgeError

app = typer.Typer(add_completion=False)

TARGET = "x86-cpu"
THREADS = 1  # of every measured system: one core is what a light recogniser is for, and the steadiest to time
MADE_BY = ("signedge", "onnxruntime")  # packages of which another version may make another engine
Tell = Callable[[str, int, int], None]  # (what is being done, done, total)


@dataclass(frozen=True)
class Way:
    """One network's way from recipe to engines."""

    recipe: str
    teacher: str | None = None  # name of the way that must be finished first
    precisions: tuple[str, ...] = ("fp32", "int8")

    @property
    def name(self) -> str:
        """Name of run, ONNX file and engines."""
        return self.recipe.rpartition("/")[2]


WAYS = (
    Way("demo/teacher"),
    Way("demo/stgt"),
    Way("demo/lrinet"),
    Way("demo/stgt-long", precisions=("fp32",)),
    Way("demo/stgt-trkd", teacher="teacher"),
    Way("demo/lrinet-crkd", teacher="teacher"),
)


@dataclass(frozen=True)
class Plan:
    """Size of a demo: what differs from the defaults of generator and recipes."""

    corpus: dict[str, Any] = field(default_factory=dict)
    changes: tuple[str, ...] = ()  # as for `signedge distill --set`
    budget: float = 0.5  # WER points that an INT8 engine may lose
    timing_seconds: float = 45.0


# Shows that every stage works, in about two minutes. Nothing is learnt in so little time: its figures mean nothing.
QUICK = Plan(
    corpus={"train": 24, "dev": 6, "test": 6, "size": 64, "longest": 4},
    changes=("training.epochs=1", "training.batch_size=8", "training.evaluate_every=1"),
    budget=99.0,
    timing_seconds=2.0,
)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="folder of the demo; one that was stopped goes on")] = Path("out/demo"),
    seed: Annotated[int, typer.Option(min=0, help="of generator and trainings")] = 1,
    quick: Annotated[bool, typer.Option(help="only show that every stage works: the figures mean nothing")] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="trainings at once; default: one a core")] = None,
) -> None:
    """Generate a corpus, train a teacher and its students, compile, measure, and write the report."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console()
    started = time.monotonic()
    who, what = TextColumn("{task.fields[who]:<13}"), TextColumn("{task.description}")
    columns = (who, BarColumn(30), what, TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        report = run(out, seed, QUICK if quick else Plan(), jobs or available_threads(), _Show(bars, console))
    console.print(f"done in {(time.monotonic() - started) / 60:.1f} minutes: {report}", highlight=False, soft_wrap=True)


def run(out: Path, seed: int, plan: Plan, jobs: int, show: Callable[[str, str, int, int], None]) -> Path:
    """The whole demo in folder `out`; returns the path of the report's page.

    `show(who, what, done, total)` is told of progress: of the corpus, of each network, of the measurement.
    """
    corpus = _make_corpus(out / "corpus", seed, plan, lambda *progress: show("corpus", *progress))
    _make_engines(out, seed, plan, jobs, show)
    results = _measure(out, corpus, plan, lambda *progress: show("measurement", *progress))
    from bench.report.write import write_report

    return write_report(results, out / "report")


def _make_corpus(folder: Path, seed: int, plan: Plan, tell: Tell) -> Path:
    from distill.corpus.store import METADATA, Corpus
    from distill.corpus.synth.generate import VERSION, SynthConfig, generate

    config = SynthConfig(seed=seed, **plan.corpus)
    if (folder / METADATA).exists():
        made = Corpus(folder).metadata.generator
        if (made.get("version"), made.get("config")) != (VERSION, config.model_dump()):
            raise BadInput(f"{folder} is of another demo; choose another --out, or remove {folder.parent}")
        tell("there already", 1, 1)
        return folder
    return generate(folder, config, lambda done, total: tell("generating clips", done, total))


def _make_engines(out: Path, seed: int, plan: Plan, jobs: int, show: Callable[[str, str, int, int], None]) -> None:
    """Train, export and compile every network, `jobs` at once, each in a process of its own on one thread."""
    context = multiprocessing.get_context("spawn")
    waiting, finished = list(WAYS), set()
    running: dict[SpawnProcess, Way] = {}
    with context.Manager() as manager, _ending(running):
        news, errors = manager.Queue(), manager.dict()
        while waiting or running:
            ready = [way for way in waiting if way.teacher is None or way.teacher in finished]
            for way in ready[: jobs - len(running)]:
                waiting.remove(way)
                process = context.Process(target=_work, args=(way, out, seed, plan, news, errors))
                process.start()
                running[process] = way
            connection.wait([process.sentinel for process in running], timeout=0.2)
            _pass_on(news, show)
            for process in [process for process in running if not process.is_alive()]:
                way = running.pop(process)
                if process.exitcode:
                    raise errors.get(way.name) or CriterionFailed(
                        f"{way.name}: its process was ended from outside (status {process.exitcode}); where memory is "
                        "short, give fewer --jobs. What was finished is kept"
                    )
                finished.add(way.name)


@contextlib.contextmanager
def _ending(running: Iterable[SpawnProcess]) -> Iterator[None]:
    """On an error end the processes that run, rather than wait for them: each network goes on next time."""
    try:
        yield
    except BaseException:
        for process in running:
            process.terminate()
        for process in running:
            process.join()
        raise


def _pass_on(news: Any, show: Callable[[str, str, int, int], None]) -> None:
    while True:
        try:
            show(*news.get_nowait())
        except queue.Empty:
            return


def _work(way: Way, out: Path, seed: int, plan: Plan, news: Any, errors: Any) -> None:
    """In a process of its own: `_go`, its error left in `errors`. An interrupt is told by the process that started it.

    No pool of processes does this: one that is ended while it holds the pool's lock leaves all others waiting for it.
    """
    try:
        _go(way, out, seed, plan, news)
    except Exception as error:
        if not isinstance(error, SignedgeError):
            error.add_note(traceback.format_exc())
        errors[way.name] = error
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _go(way: Way, out: Path, seed: int, plan: Plan, news: Any) -> None:
    """One network from recipe to engines."""
    import torch

    torch.set_num_threads(1)

    def tell(what: str, done: int, total: int) -> None:
        news.put((way.name, what, done, total))

    with unwinding_on_sigterm():
        run_folder = _train(way, out, seed, plan, tell)
        model = _export(run_folder, out / "onnx" / f"{way.name}.onnx", tell)
        for precision in way.precisions:
            _compile(way, model, precision, out, plan, tell)
        tell("ready", 1, 1)


def _train(way: Way, out: Path, seed: int, plan: Plan, tell: Tell) -> Path:
    from distill.corpus.store import Corpus
    from distill.recipe import load_recipe
    from distill.train import train

    recipe = load_recipe(way.recipe, [f"seed={seed}", "training.threads=1", *plan.changes])
    epochs, wer = recipe.training.epochs, ""

    def follow(event: dict[str, Any]) -> None:
        nonlocal wer
        stage = event["stage"]
        if stage == "step":
            done = (event["epoch"] - 1) * event["total"] + event["done"]
            tell(f"training, epoch {event['epoch']} of {epochs}{wer}", done, event["total"] * epochs)
        elif stage == "teacher":
            tell("asking the teacher", event["done"], event["total"])
        elif stage == "epoch" and event["dev_wer"] is not None:
            wer = f", dev WER {event['dev_wer']:.1f} %"

    return train(recipe, Corpus(out / "corpus", strict=False), out / "runs" / way.name, progress=follow)


def _export(run_folder: Path, path: Path, tell: Tell) -> Path:
    from distill.run import load_run
    from export.engine import read_exported
    from export.onnx_graph import EXPORT_KEY, TOOLS, export_onnx, metadata, training_only, versions

    trained = load_run(run_folder)
    if path.exists():
        graph, contract = read_exported(path)
        made_by = json.loads(metadata(graph).get(EXPORT_KEY, "{}")).get("versions")
        if (contract.sources.get("checkpoint"), made_by) == (trained.checkpoint_hash, versions(TOOLS)):
            return path
    tell("exporting to ONNX", 0, 1)
    inference = trained.model.inference()
    export_onnx(inference, trained.contract, path, training_only(trained.model, inference))
    return path


def _compile(way: Way, model: Path, precision: str, out: Path, plan: Plan, tell: Tell) -> None:
    """Build one engine, unless it was built or refused from the same; a refusal is noted beside the engines."""
    from distill.corpus.store import Corpus
    from export.engine import build

    name = f"{way.name}-{precision}"
    folder, refused = out / "engines" / name, out / "engines" / f"{name}.refused.json"
    wanted = _ingredients(model, precision, plan)
    if wanted in (_made_from(folder / MANIFEST, precision), _made_from(refused, precision)):
        return
    shutil.rmtree(folder, ignore_errors=True)
    refused.unlink(missing_ok=True)
    tell(f"compiling {precision}", 0, 1)
    try:
        build(model, TARGET, precision, Corpus(out / "corpus"), folder, plan.budget)
    except CriterionFailed as error:
        record = {"system": name, "run": way.name, "precision": precision, "reason": str(error), "budget": plan.budget}
        note = {
            "chain": {"onnx": wanted["onnx"]},
            "versions": wanted["versions"],
            "plan": wanted["plan"],
            "gate": {"budget": plan.budget},
            "record": record,
        }
        with atomic_file(refused) as temporary:
            temporary.write_text(json.dumps(note), encoding="utf-8")


def _ingredients(model: Path, precision: str, plan: Plan) -> dict[str, Any]:
    """All that decides what an engine is, or whether it is refused. What is fp32 depends on neither plan nor budget."""
    from dataclasses import asdict

    from devices.profile import resolve
    from export.onnx_graph import versions
    from export.precision import Int8Plan
    from export.tailor import fitted
    from runtime.hashing import sha256_file

    int8 = precision == "int8"
    return {
        "onnx": sha256_file(model),
        "versions": versions(MADE_BY),
        "plan": asdict(fitted(Int8Plan(), resolve(TARGET))) if int8 else None,
        "budget": plan.budget if int8 else None,
    }


def _made_from(path: Path, precision: str) -> dict[str, Any] | None:
    """The ingredients that an engine's manifest or the note of a refusal tells; None if it tells none."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return {
            "onnx": told["chain"]["onnx"],
            "versions": {name: told["versions"][name] for name in MADE_BY},
            "plan": told.get("plan"),
            "budget": told["gate"]["budget"] if precision == "int8" else None,
        }
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _measure(out: Path, corpus: Path, plan: Plan, tell: Tell) -> Path:
    from bench.latency import TimingPlan
    from bench.measure import Options, measure, open_all
    from bench.provenance import provenance
    from bench.record import NoteRecord, RefusalRecord, write_records
    from distill.corpus.store import Corpus

    engines = [out / "engines" / f"{way.name}-{precision}" for way in WAYS for precision in way.precisions]
    runs = [out / "runs" / way.name for way in WAYS]
    systems, opened = open_all([path for path in engines if path.is_dir()], [runs[0]], runs, THREADS)
    options = Options(split="test", threads=THREADS, target=TARGET, timing=TimingPlan(seconds=plan.timing_seconds))
    command = f"signedge demo --seed {opened[0].summary['seed']}" + (" --quick" if plan is QUICK else "")
    clips = Corpus(corpus)  # opened once: it remembers its hash, and hashing reads every frame
    records = measure(systems, clips, options, runs=opened, command=command, progress=tell)
    origin = provenance(command, corpus=clips.fingerprint())
    for note in sorted((out / "engines").glob("*.refused.json")):
        told = json.loads(note.read_text(encoding="utf-8"))
        onnx = origin.model_copy(update={"onnx": told["chain"]["onnx"]})
        records.append(RefusalRecord(**told["record"], target=TARGET, provenance=onnx))
    if plan is QUICK:
        text = "A quick demo: nothing is learnt in one epoch on 24 clips, and none of these figures means anything."
        records.append(NoteRecord(level="warning", text=text, provenance=origin))
    results = out / "results.jsonl"
    write_records(results, records)
    return results


class _Show:
    """Progress for a person: a bar for corpus, each network and the measurement; plain lines without a terminal."""

    def __init__(self, bars: Any, console: Any) -> None:
        self._bars, self._console = bars, console
        self._tasks: dict[str, Any] = {}
        self._said: dict[str, str] = {}

    def __call__(self, who: str, what: str, done: int, total: int) -> None:
        if who not in self._tasks:
            self._tasks[who] = self._bars.add_task(what, total=total, who=who)
        self._bars.update(self._tasks[who], description=what, completed=done, total=total)
        if self._said.get(who) != what and not self._console.is_terminal:
            self._console.print(f"{who}: {what}", highlight=False, markup=False, soft_wrap=True)
        self._said[who] = what
