"""Train what a recipe says on a corpus, on Lightning; can be killed at any moment and goes on when called again."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import os
import platform
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill.corpus import ClipRow, Corpus
from distill.corpus.check import usable_rows
from distill.data import Augmenter, Batch, ClipSet, EpochBatches, Side, batches_a_epoch, collate, plan
from distill.models import build, resolve
from distill.models.base import Recogniser
from distill.objective import Objective
from distill.recipe import Recipe, Training, input_spec
from distill.run import CONTRACT, CURVE, RECIPE, RESUME, SUMMARY, WEIGHTS, Run, load_run, read_summary
from distill.teacher_cache import CachedTeacher, LiveTeacher, Teacher
from runtime.atomic import atomic_file
from runtime.contract import BLANK, Contract
from runtime.decode import greedy, to_glosses
from runtime.errors import BadInput, CriterionFailed, MissingExtra
from runtime.hashing import sha256_bytes
from runtime.wer import Counts, align

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lightning.pytorch as pl
        from lightning.pytorch.callbacks import Checkpoint
except ImportError as error:
    raise MissingExtra("lightning", "train") from error

Progress = Callable[[dict[str, Any]], None]


def train(
    recipe: Recipe, corpus: Corpus, out: str | Path, skip_bad: bool = False, progress: Progress | None = None
) -> Path:
    """Train and leave a run folder at `out`; returns it.

    An unfinished run of the same recipe, corpus and teacher goes on after its last whole epoch and ends with the same
    weights as an uninterrupted one; a finished run is left as it is. `progress` is called with a dictionary: {"stage":
    "clips" | "teacher", "done", "total"} while preparing, {"stage": "skip", "fault"}, {"stage": "resume", "epoch"}, {"stage": "step", "done",
    "total", "epoch"}, {"stage": "epoch", "epochs", **metrics line}, and {"stage": "complete"}. Raises `BadInput` for anything in recipe, corpus, teacher or folder that cannot be used, and
    `CriterionFailed` if the loss is no longer a number.
    """
    tell = progress or (lambda event: None)
    out = Path(out)
    recipe = recipe.model_copy(update={"model": resolve(recipe.model)})
    rows, skipped = usable_rows(corpus, skip_bad)
    for fault in skipped:
        tell({"stage": "skip", "fault": str(fault)})
    teacher = _open_teacher(recipe, corpus, out)
    identity = {
        "recipe": recipe.fingerprint(),
        "corpus": corpus.fingerprint(),
        "teacher": teacher.checkpoint_hash if teacher else None,
        "skipped": [{"line": fault.line, "clip": fault.clip, "why": fault.message} for fault in skipped],
    }
    if _already_complete(out, identity):
        tell({"stage": "complete"})
        return out
    if recipe.training.threads:
        torch.set_num_threads(recipe.training.threads)
    job = _prepare(recipe, corpus, rows, teacher, {name: identity[name] for name in ("corpus", "recipe")})
    summary = {"name": recipe.name, "status": "running", **identity, "corpus_path": str(corpus.folder.resolve()), "seed": recipe.seed}
    if _is_writer():
        _write(out / RECIPE, recipe.text())
        _write(out / SUMMARY, _json(summary))
    _fit(job, out, tell)
    if _is_writer():
        _finish(job, out, summary)
    tell({"stage": "complete"})
    return out


def _open_teacher(recipe: Recipe, corpus: Corpus, out: Path) -> Run | None:
    if recipe.teacher is None:
        return None
    named = Path(recipe.teacher)
    folder = out.parent / named if len(named.parts) == 1 and not named.is_absolute() else named
    if not folder.is_dir():
        raise BadInput(f"recipe '{recipe.name}' learns from the run '{recipe.teacher}', but there is no folder {folder}; train it first, or --set teacher=PATH")
    teacher = load_run(folder)
    if teacher.contract.glosses[1:] != tuple(corpus.metadata.glosses):
        raise BadInput(f"the teacher in {folder} knows other glosses than corpus {corpus.folder}; train a teacher on this corpus")
    return teacher


def _already_complete(out: Path, identity: dict[str, Any]) -> bool:
    """Whether `out` holds this very run, finished. `BadInput` if it holds something else."""
    if out.is_file():
        raise BadInput(f"{out} is a file; a run folder was to be written there")
    before = read_summary(out)
    if before is None:
        if out.exists() and any(not path.name.startswith(".") for path in out.iterdir()):
            raise BadInput(f"{out} exists and is not a run folder; choose another --out")
        return False
    for what in identity:
        if before.get(what) != identity[what]:
            name = {"skipped": "choice of clips"}.get(what, what)
            raise BadInput(f"{out} holds a run with another {name}; choose another --out, or remove that folder")
    return before.get("status") == "complete"


@dataclass
class Job:
    """Everything that a training needs, in memory."""

    recipe: Recipe
    student: Recogniser
    objective: Objective
    training: ClipSet
    development: ClipSet
    augmenter: Augmenter
    contract: Contract
    teacher: Run | None


def _prepare(recipe: Recipe, corpus: Corpus, rows: list[ClipRow], teacher: Run | None, sources: dict[str, str]) -> Job:
    split = {name: [row for row in rows if row.split == name] for name in ("train", "dev")}
    if not split["train"]:
        raise BadInput(f"corpus {corpus.folder} has no usable clip in the split train")
    metadata = corpus.metadata
    spec = input_spec(recipe.input, metadata.keypoint_layout)
    torch.manual_seed(recipe.seed)
    student = build(recipe.model, len(metadata.glosses) + 1, spec)
    objective = Objective(recipe.distillation, recipe.training.auxiliary_weight, student, teacher.model if teacher else None)
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


def _fit(job: Job, out: Path, tell: Progress) -> None:
    settings = job.recipe.training
    resume = out / RESUME
    state = _readable_checkpoint(resume) if resume.exists() else None
    if state is not None:
        tell({"stage": "resume", "epoch": state["epoch"] + 1})
    for clips in (job.training, job.development):
        clips.preload(lambda done, total: tell({"stage": "clips", "done": done, "total": total}))
    module = _Module(job, out, tell)
    with _quiet():
        trainer = pl.Trainer(
            max_epochs=settings.epochs,
            accelerator="auto",
            devices=int(os.environ["LOCAL_WORLD_SIZE"]) if "LOCAL_WORLD_SIZE" in os.environ else settings.devices,
            num_nodes=int(os.environ.get("GROUP_WORLD_SIZE", 1)),
            precision={"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[settings.precision],  # type: ignore[arg-type]
            gradient_clip_val=settings.gradient_clip or None,
            deterministic="warn" if torch.cuda.is_available() else True,
            sync_batchnorm=int(os.environ.get("WORLD_SIZE", 1)) > 1,
            use_distributed_sampler=False,
            reload_dataloaders_every_n_epochs=1,
            callbacks=[_Keep(out / RESUME)],
            default_root_dir=out,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, ckpt_path=resume if state is not None else None, weights_only=True)


class _Keep(Checkpoint):
    """Writes the state after every epoch, whole or not at all; Lightning calls it last."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self._path)  # takes part in the collective, writes nothing
            return
        with atomic_file(self._path) as temporary:
            trainer.save_checkpoint(temporary)


class _Module(pl.LightningModule):
    """One training as Lightning wants it. All randomness of an epoch follows from seed and epoch."""

    def __init__(self, job: Job, out: Path, tell: Progress) -> None:
        super().__init__()
        self.student, self.objective = job.student, job.objective
        self._job, self._out, self._tell = job, out, tell
        self._settings = job.recipe.training
        self._teacher: Teacher | None = None
        self._curve: list[dict[str, Any]] = []
        self._sums: dict[str, torch.Tensor] = {}
        self._start = 0.0

    def setup(self, stage: str) -> None:
        """Runs the teacher over the clips now if its outputs are to be cached."""
        job = self._job
        if job.teacher is None or self._teacher is not None:
            return
        side = job.training.teacher
        assert side is not None
        live = LiveTeacher(job.teacher.model, side, job.objective.wants_maps)
        self._teacher = live
        if job.augmenter.cached_views:

            def report(done: int, total: int) -> None:
                self._tell({"stage": "teacher", "done": done, "total": total})

            device = self.trainer.strategy.root_device
            self._teacher = CachedTeacher(live, job.training, job.augmenter, report, device)

    def train_dataloader(self) -> torch.utils.data.DataLoader:
        """The batches of the current epoch, in their order."""
        epoch, settings, job = self.current_epoch, self._settings, self._job
        batches = plan(
            job.training.lengths, settings.batch_size, job.recipe.seed, epoch,
            sort=settings.curriculum and epoch == 0, rank=self.global_rank, world=self.trainer.world_size,
        )  # fmt: skip
        live = job.teacher is not None and not job.augmenter.cached_views
        made = EpochBatches(job.training, batches, job.augmenter, epoch, live)
        return torch.utils.data.DataLoader(made, batch_size=None, shuffle=False, num_workers=settings.workers)

    def on_train_epoch_start(self) -> None:
        """Dropout, too, must not depend on what happened before the epoch."""
        state = np.random.SeedSequence([self._job.recipe.seed, self.current_epoch, self.global_rank]).generate_state(1)
        torch.manual_seed(int(state[0]))
        self._sums, self._start = {}, time.perf_counter()

    def training_step(self, batch: Batch, number: int) -> torch.Tensor:
        """Loss of one batch."""
        output = self.student(batch.x, batch.lengths)
        terms = self.objective(output, batch, self._teacher(batch) if self._teacher else None, self._ramp())
        self._tell({"stage": "step", "done": number + 1, "total": self._steps_an_epoch(), "epoch": self.current_epoch + 1})
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, torch.zeros((), device=value.device)) + value.detach()
        return sum(terms.values(), torch.zeros((), device=batch.x.device))

    def _ramp(self) -> float:
        epochs = self._job.recipe.distillation.ramp_epochs
        if not epochs:
            return 1.0
        return min(1.0, self.global_step / (epochs * self._steps_an_epoch()))

    def _steps_an_epoch(self) -> int:
        return batches_a_epoch(len(self._job.training), self._settings.batch_size, self.trainer.world_size)

    def configure_optimizers(self) -> Any:
        """AdamW, no decay of norms and biases; the schedule is a function of the step."""
        settings = self._settings
        weights = [p for p in self.parameters() if p.requires_grad and p.dim() > 1]
        others = [p for p in self.parameters() if p.requires_grad and p.dim() <= 1]
        groups = [{"params": weights, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=settings.learning_rate)
        steps = settings.epochs * self._steps_an_epoch()
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(settings, step / steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_end(self) -> None:
        """Metrics line of the epoch; the development split is read every few epochs and at the end."""
        settings, epoch = self._settings, self.current_epoch
        losses = {name: float(value) / self._steps_an_epoch() for name, value in self._sums.items()}
        if not all(math.isfinite(value) for value in losses.values()):
            raise CriterionFailed(
                f"training of '{self._job.recipe.name}' diverged in epoch {epoch + 1} (a loss is no longer a number); "
                "lower training.learning_rate or raise training.warmup"
            )
        line: dict[str, Any] = {"epoch": epoch + 1, "seconds": 0.0, "losses": losses, "loss": sum(losses.values()), "dev_wer": None}
        if len(self._job.development) and ((epoch + 1) % settings.evaluate_every == 0 or epoch + 1 == settings.epochs):
            counts = evaluate(self.student, self._job.development, self._job.contract.glosses, settings.batch_size)
            self.student.train()
            line |= {"dev_wer": round(counts.wer, 4), "dev_errors": counts.errors, "dev_words": counts.reference_words}
        line["learning_rate"] = self.trainer.optimizers[0].param_groups[0]["lr"]
        line["seconds"] = round(time.perf_counter() - self._start, 3)
        self._curve.append(line)
        if self.trainer.is_global_zero:
            _write(self._out / CURVE, "".join(f"{json.dumps(entry)}\n" for entry in self._curve))
        self._tell({"stage": "epoch", "epochs": settings.epochs, **line})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The curve goes into the checkpoint, so that both always tell of the same epoch."""
        checkpoint["curve"] = json.dumps(self._curve)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Back to the curve of that epoch."""
        self._curve = json.loads(checkpoint["curve"])


def rate(settings: Training, progress: float) -> float:
    """Factor on the learning rate at `progress` (0..1) of all steps.

    `one-cycle`: cosine from 1/25 up during the warm-up, then cosine down to 1e-3. `cosine`: linear up, cosine down to 0.
    `steps`: linear up, then times `decay` at every milestone (VAC's schedule).
    """
    warm = settings.warmup
    if progress < warm:
        rising = progress / warm
        return 0.04 + 0.96 * (1 - math.cos(math.pi * rising)) / 2 if settings.schedule == "one-cycle" else max(rising, 1e-3)
    if settings.schedule == "steps":
        return settings.decay ** sum(progress >= milestone for milestone in settings.milestones)
    floor = 1e-3 if settings.schedule == "one-cycle" else 0.0
    falling = min((progress - warm) / (1 - warm), 1.0)
    return floor + (1 - floor) * (1 + math.cos(math.pi * falling)) / 2


@torch.no_grad()
def evaluate(model: Recogniser, clips: ClipSet, glosses: tuple[str, ...], batch_size: int = 8) -> Counts:
    """Word errors of greedy decoding over clean clips. Leaves the model in evaluation mode."""
    model.eval()
    device = next(model.parameters()).device
    order = sorted(range(len(clips)), key=lambda i: clips.lengths[i])
    total = Counts()
    for at in range(0, len(order), batch_size):
        members = order[at : at + batch_size]
        batch = collate(clips, members)
        output = model(batch.x.to(device), batch.lengths.to(device))
        for index, scores, steps in zip(members, output.logits.float().cpu().numpy(), output.lengths.tolist(), strict=True):
            total = total + align(clips.rows[index].glosses, to_glosses(greedy(scores[:steps]), glosses))
    return total


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
    _write(out / WEIGHTS, weights)
    sources = {**job.contract.sources, "checkpoint": sha256_bytes(weights)}
    contract = Contract(**{**vars(job.contract), "sources": sources})
    _write(out / CONTRACT, contract.to_json() + "\n")
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
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "lightning": pl.__version__, "numpy": np.__version__},
    }  # fmt: skip
    _write(out / SUMMARY, _json(summary))
    with contextlib.suppress(OSError):
        (out / RESUME).unlink()


def _readable_checkpoint(path: Path) -> dict[str, Any]:
    """The resume point, checked: every byte of the archive against its checksum, then its content."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise ValueError("checksum differs")
        state = torch.load(path, map_location="cpu", weights_only=True)
        if "curve" not in state or "epoch" not in state:
            raise ValueError("not a resume point of signedge")
    except Exception as error:  # unpickling a broken file raises almost anything
        raise BadInput(f"{path} is corrupt; delete it to train again from the first epoch") from error
    return state


def _is_writer() -> bool:
    return int(os.environ.get("RANK", 0)) == 0


def _write(path: Path, content: str | bytes) -> None:
    with atomic_file(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's greetings and advice say nothing that a user of signedge could act on."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings("ignore", message=".*num_workers.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
