"""The training loop on Lightning: one step, one epoch, the metrics, the resume point."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import signal
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill.data import Augmenter, Batch, ClipSet, EpochBatches, batches_an_epoch, plan
from distill.evaluate import evaluate
from distill.models.base import Output, Recogniser
from distill.objective import Objective
from distill.recipe import Recipe, Training
from distill.run import CURVE, RESUME, Run, write
from distill.schedule import rate
from distill.teacher_cache import CachedTeacher, LiveTeacher, Teacher
from runtime.atomic import atomic_file
from runtime.contract import Contract
from runtime.errors import BadInput, CriterionFailed, MissingExtra

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lightning.pytorch as pl
        from lightning.pytorch.callbacks import Checkpoint
except ImportError as error:
    raise MissingExtra("lightning", "train") from error

Progress = Callable[[dict[str, Any]], None]


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


def fit(job: Job, out: Path, tell: Progress) -> None:
    """Train `job.student` to the last epoch, going on from the resume point in `out` if there is one."""
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
            precision="bf16-mixed" if precision(settings) == "bf16" else "32-true",
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
        with _interruptible():
            trainer.fit(module, ckpt_path=resume if state is not None else None, weights_only=True)


def check_devices(settings: Training) -> None:
    """Raise `BadInput` if the recipe asks for more devices than there are; under torchrun it is torchrun that decides.

    Lightning would split a training over the cores of one CPU, which is slower than one process, or end in a traceback.
    """
    if "LOCAL_WORLD_SIZE" in os.environ or not isinstance(settings.devices, int):
        return
    available = torch.cuda.device_count() or 1
    if settings.devices > available:
        kind = "GPU" if torch.cuda.is_available() else "CPU"
        raise BadInput(
            f"recipe training.devices: {settings.devices} asked for, found: {available} {kind}; set it to auto"
        )


def precision(settings: Training) -> str:
    """`32` or `bf16`: what the recipe says; `auto` is bf16 where the processor that trains multiplies it natively."""
    if settings.precision != "auto":
        return settings.precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "32"
    able = torch.cpu.get_capabilities()
    return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "32"


def _float(output: Output) -> Output:
    """The same in float32."""
    maps = None if output.frame_maps is None else output.frame_maps.float()
    heads = [(logits.float(), lengths) for logits, lengths in output.auxiliary]
    return Output(output.logits.float(), output.lengths, output.features.float(), maps, heads)


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
        """The epoch's sums and clock."""
        self._sums, self._start = {}, time.perf_counter()

    def training_step(self, batch: Batch, number: int) -> torch.Tensor:
        """Loss of one batch. Its dropout depends on nothing that went before, so a resumed run draws the same."""
        place = [self._job.recipe.seed, self.current_epoch, number, self.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))
        output = self.student(batch.x, batch.lengths)
        known = self._teacher(batch) if self._teacher else None
        with torch.autocast(batch.x.device.type, enabled=False):  # losses are cheap, and need the digits
            terms = self.objective(_float(output), batch, known, self._ramp())
        total, epoch = self._steps_an_epoch(), self.current_epoch + 1
        self._tell({"stage": "step", "done": number + 1, "total": total, "epoch": epoch})
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, torch.zeros((), device=value.device)) + value.detach()
        return sum(terms.values(), torch.zeros((), device=batch.x.device))

    def _ramp(self) -> float:
        epochs = self._job.recipe.distillation.ramp_epochs
        if not epochs:
            return 1.0
        return min(1.0, self.global_step / (epochs * self._steps_an_epoch()))

    def _steps_an_epoch(self) -> int:
        return batches_an_epoch(len(self._job.training), self._settings.batch_size, self.trainer.world_size)

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
        line: dict[str, Any] = {
            "epoch": epoch + 1,
            "seconds": 0.0,
            "losses": losses,
            "loss": sum(losses.values()),
            "dev_wer": None,
        }
        if len(self._job.development) and ((epoch + 1) % settings.evaluate_every == 0 or epoch + 1 == settings.epochs):
            counts = evaluate(self.student, self._job.development, self._job.contract.glosses, settings.batch_size)
            self.student.train()
            line |= {"dev_wer": round(counts.wer, 4), "dev_errors": counts.errors, "dev_words": counts.reference_words}
        line["learning_rate"] = self.trainer.optimizers[0].param_groups[0]["lr"]
        line["seconds"] = round(time.perf_counter() - self._start, 3)
        self._curve.append(line)
        if self.trainer.is_global_zero:
            write(self._out / CURVE, "".join(f"{json.dumps(entry)}\n" for entry in self._curve))
        self._tell({"stage": "epoch", "epochs": settings.epochs, **line})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The curve goes into the checkpoint, so that both always tell of the same epoch."""
        checkpoint["curve"] = json.dumps(self._curve)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Back to the curve of that epoch."""
        self._curve = json.loads(checkpoint["curve"])


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


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C stays a KeyboardInterrupt: Lightning would turn it into an exit and leave the signal ignored."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if error.code != 1:  # not Lightning's, but that of a SIGTERM
            raise
        raise KeyboardInterrupt from error
    finally:
        with contextlib.suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGINT, handler)


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
