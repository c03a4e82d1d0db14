"""Train what a recipe says on a corpus and leave a run folder; killed at any moment, it goes on when called again."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import platform
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch

from distill.corpus import ClipRow, Corpus
from distill.corpus.check import usable_rows
from distill.data import Augmenter, ClipSet, Side
from distill.loop import Job, Progress, check_devices, fit, precision
from distill.models import build, resolve
from distill.models.base import Recogniser
from distill.objective import Objective
from distill.recipe import Recipe, differences, input_spec
from distill.run import (
    CONTRACT,
    CURVE,
    RECIPE,
    RESUME,
    SUMMARY,
    WEIGHTS,
    Run,
    load_run,
    read_recipe,
    read_summary,
    write,
)  # fmt: skip
from runtime.contract import BLANK, FRAME_STRIDE, MOST_FRAMES, Contract
from runtime.errors import BadInput
from runtime.hashing import sha256_bytes


def train(
    recipe: Recipe, corpus: Corpus, out: str | Path, skip_bad: bool = False, progress: Progress | None = None
) -> Path:
    """Train and leave a run folder at `out`; returns it.

    An unfinished run of the same recipe, corpus and teacher goes on after its last whole epoch and ends with the same
    weights as an uninterrupted one (same machine, same number of threads); a finished run is left as it is.

    `progress` is called with dictionaries whose "stage" is: "skip" (fault), "warning" (text: the corpus is not what the
    recipe is meant for), "resume" (epoch), "clips" and "teacher" (done, total) while they are prepared, "step" (done,
    total, epoch), "epoch" (epochs, and the line of metrics.jsonl), "complete". Raises `BadInput` for what cannot be
    used of recipe, corpus, teacher or folder, and `CriterionFailed` if a loss is no longer a number.
    """
    tell = progress or (lambda event: None)
    out = Path(out)
    recipe = recipe.model_copy(update={"model": resolve(recipe.model)})
    check_devices(recipe.training)
    rows, skipped = usable_rows(corpus, skip_bad)
    for fault in skipped:
        tell({"stage": "skip", "fault": str(fault)})
    doubts = recipe.doubts(corpus.metadata)
    for doubt in doubts:
        tell({"stage": "warning", "text": doubt})
    teacher = _open_teacher(recipe, corpus, out)
    ancestor = _open_run(recipe.start_from, "starts from", "start_from", recipe, out)
    identity: dict[str, Any] = {
        "recipe": recipe.fingerprint(),
        "corpus": corpus.fingerprint(),
        "teacher": teacher.checkpoint_hash if teacher else None,
        "start_from": ancestor.checkpoint_hash if ancestor else None,
        "skipped": [{"line": fault.line, "clip": fault.clip, "why": fault.message} for fault in skipped],
    }
    if _already_complete(out, identity, recipe):
        tell({"stage": "complete"})
        return out
    if recipe.training.threads:
        torch.set_num_threads(recipe.training.threads)
    job = _prepare(recipe, corpus, rows, teacher, {name: identity[name] for name in ("corpus", "recipe")})
    if ancestor:
        _inherit(job.student, ancestor)
    summary = {
        "name": recipe.name,
        "status": "running",
        **identity,
        "corpus_path": str(corpus.folder.resolve()),
        "seed": recipe.seed,
        "warnings": doubts,
    }
    with _alone(out):
        if _already_complete(out, identity, recipe):  # by another process, since we looked
            tell({"stage": "complete"})
            return out
        if _is_writer():
            for leftover in out.glob(".*.tmp"):  # of a process that was killed while it wrote
                leftover.unlink()
            write(out / RECIPE, recipe.text())
            write(out / SUMMARY, _json(summary))
        fit(job, out, tell)
        if _is_writer():
            _finish(job, out, summary)
    tell({"stage": "complete"})
    return out


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the run folder; `BadInput` if another training does. The lock is on the folder itself and leaves no file."""
    if not _is_writer():
        yield
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        folder = os.open(out, os.O_RDONLY)
    except OSError as error:
        raise BadInput(f"cannot create folder {out}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BadInput(f"another process is training into {out}; wait for it, or choose another --out") from error
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(folder)  # and with it the lock goes


def _open_teacher(recipe: Recipe, corpus: Corpus, out: Path) -> Run | None:
    teacher = _open_run(recipe.teacher, "learns from", "teacher", recipe, out)
    if teacher is None:
        return None
    folder = teacher.folder
    if teacher.contract.glosses[1:] != tuple(corpus.metadata.glosses):
        raise BadInput(
            f"the teacher in {folder} knows other glosses than corpus {corpus.folder}; train a teacher on this corpus"
        )
    return teacher


def _open_run(name: str | None, what: str, field: str, recipe: Recipe, out: Path) -> Run | None:
    """The run that a recipe names in `field`: by path, or by the name of a folder beside `out`."""
    if name is None:
        return None
    named = Path(name)
    folder = out.parent / named if len(named.parts) == 1 and not named.is_absolute() else named
    if not folder.is_dir():
        raise BadInput(
            f"recipe '{recipe.name}' {what} the run '{name}', but there is no folder {folder}; "
            f"train it first, or say where it is with --set {field}=PATH"
        )
    return load_run(folder)


def _inherit(student: Recogniser, ancestor: Run) -> None:
    """Copy weights of equal name and shape, as others start from ImageNet; what differs in shape stays fresh."""
    own, theirs = student.state_dict(), ancestor.model.state_dict()
    shared = {name: value for name, value in theirs.items() if name in own and own[name].shape == value.shape}
    if len(shared) < len(own) / 2:
        raise BadInput(f"few weights of {ancestor.folder} fit this model; start_from wants the same architecture")
    student.load_state_dict(own | shared)


def _already_complete(out: Path, identity: dict[str, Any], recipe: Recipe) -> bool:
    """Whether `out` holds this very run, finished. `BadInput` if it holds something else that has an epoch or more."""
    if out.is_file():
        raise BadInput(f"{out} is a file; a run folder was to be written there")
    before = read_summary(out)
    if before is None:
        if out.exists() and any(not path.name.startswith(".") for path in out.iterdir()):
            raise BadInput(f"{out} exists and is not a run folder; choose another --out")
        return False
    if before.get("status") != "complete" and not (out / RESUME).exists():
        return False
    for what in identity:
        if before.get(what) != identity[what]:
            name = {"skipped": "choice of clips"}.get(what, what) + (_changed(out, recipe) if what == "recipe" else "")
            raise BadInput(f"{out} holds a run with another {name}; choose another --out, or remove that folder")
    return before.get("status") == "complete"


def _changed(out: Path, recipe: Recipe, most: int = 3) -> str:
    """In brackets the first fields in which `recipe` differs from that of the run in `out`, if that can be read."""
    try:
        found = differences(read_recipe(out), recipe)
    except BadInput:
        return ""
    more = [f"{len(found) - most} more"] if len(found) > most else []
    return f" ({', '.join([*found[:most], *more])})" if found else ""


def _prepare(recipe: Recipe, corpus: Corpus, rows: list[ClipRow], teacher: Run | None, sources: dict[str, str]) -> Job:
    split = {name: [row for row in rows if row.split == name] for name in ("train", "dev")}
    if not split["train"]:
        raise BadInput(f"corpus {corpus.folder} has no usable clip in the split train")
    metadata = corpus.metadata
    spec = input_spec(recipe.input, metadata.keypoint_layout)
    torch.manual_seed(recipe.seed)
    student = build(recipe.model, len(metadata.glosses) + 1, spec)
    objective = Objective(
        recipe.distillation, recipe.training.auxiliary_weight, student, teacher.model if teacher else None
    )
    settings = recipe.training
    memory = settings.memory_gib * 2**30
    side = Side(spec, student.padding)
    other = Side(teacher.contract.input, teacher.contract.padding) if teacher else None
    contract = Contract(
        name=recipe.name,
        input=spec,
        glosses=(BLANK, *metadata.glosses),
        fps=Counter(row.fps for row in split["train"]).most_common(1)[0][0],
        padding=student.padding,
        lookahead=student.lookahead,
        **_window(split["train"]),
        sources=sources,
    )
    views = recipe.distillation.cache_views if teacher and recipe.distillation.cache_teacher else 0
    return Job(
        recipe,
        student,
        objective,
        ClipSet(corpus, split["train"], side, other, memory),
        ClipSet(corpus, split["dev"], side, None, memory / 4),
        Augmenter(settings.augment, recipe.seed, views),
        contract,
        teacher,
    )


def _window(clips: list[ClipRow]) -> dict[str, int]:
    """Chunk and shift with which the network may read a stream.

    The window is as long as the longest training clip: beyond that the network has never been seen to read, and in
    less it would lack the context that it was taught to use. It moves on by four steps, which at 25 frames a second is
    two thirds of one: about a sign, so captions are a sign late at most. A shorter shift would read every frame more
    often for little, and two shifts must fit into the window so that no sign is cut at both of its ends.
    """
    shift = 4 * FRAME_STRIDE
    longest = max(row.frames for row in clips)
    chunk = -(-max(longest, 2 * shift) // FRAME_STRIDE) * FRAME_STRIDE
    return {"chunk": min(chunk, MOST_FRAMES), "shift": shift}


def _finish(job: Job, out: Path, summary: dict[str, Any]) -> None:
    """Write weights, contract and the final summary; only then is the run complete and the resume point removed."""
    model = job.student.cpu().eval()
    stored = {
        "model": job.recipe.model,
        "classes": len(job.contract.glosses),
        "state_dict": {name: value.contiguous() for name, value in model.state_dict().items()},
    }
    buffer = io.BytesIO()
    torch.save(stored, buffer)
    weights = buffer.getvalue()
    write(out / WEIGHTS, weights)
    sources = {**job.contract.sources, "checkpoint": sha256_bytes(weights)}
    contract = Contract(**{**vars(job.contract), "sources": sources})
    write(out / CONTRACT, contract.to_json() + "\n")
    curve = [json.loads(line) for line in (out / CURVE).read_text(encoding="utf-8").splitlines()]
    summary |= {
        "status": "complete",
        "checkpoint": sources["checkpoint"],
        "epochs": len(curve),
        "seconds": round(sum(line["seconds"] for line in curve), 3),
        "dev_wer": curve[-1]["dev_wer"],
        "parameters": sum(p.numel() for p in model.inference().parameters()),
        "parameters_trained": sum(p.numel() for part in (model, job.objective) for p in part.parameters()),
        "clips": {"train": len(job.training), "dev": len(job.development)},
        "threads": torch.get_num_threads(),
        "precision": precision(job.recipe.training),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "lightning": lightning.__version__,
            "numpy": np.__version__,
        },
    }
    write(out / SUMMARY, _json(summary))
    with contextlib.suppress(OSError):
        (out / RESUME).unlink()


def _is_writer() -> bool:
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", 0))) == 0  # Lightning's own children: no RANK


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
