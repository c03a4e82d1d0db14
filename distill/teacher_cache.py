"""What a frozen teacher says of a batch: run live on its view, or looked up from one run over fixed views."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from distill.data import Augmenter, Batch, ClipSet, Side, features, pack
from distill.models.timeline import trim
from runtime.contract import FRAME_STRIDE
from runtime.preprocess import pad_clip


@dataclass
class Knowledge:
    """Teacher outputs of a batch: `logits` (B,N,K), `features` (B,N,D), `lengths` (B,), without gradient.

    `frame_maps` (sum of 4N,C,h,w) are the packed maps without the edge padding, so that they meet those of a student
    with another padding frame by frame; None where no loss asks for them.
    """

    logits: Tensor
    features: Tensor
    lengths: Tensor
    frame_maps: Tensor | None = None


class Teacher(Protocol):
    """Something that knows what the teacher says of a batch."""

    def __call__(self, batch: Batch) -> Knowledge:
        """Knowledge of each clip of the batch, on the device of `batch.x`."""
        ...


class LiveTeacher:
    """Runs the teacher in evaluation mode and full precision: neither batch mates, dropout nor the student's precision
    change what it says."""

    def __init__(self, model: nn.Module, side: Side, maps: bool) -> None:
        self._model, self._side, self._maps = model.eval().requires_grad_(False), side, maps

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Knowledge:
        """Run it on `teacher_x`."""
        assert batch.teacher_x is not None and batch.teacher_lengths is not None
        return self.run(batch.teacher_x, batch.teacher_lengths)

    @torch.no_grad()
    def run(self, x: Tensor, lengths: Tensor) -> Knowledge:
        """Run it on packed clips."""
        model = self._model.to(x.device)
        with torch.autocast(x.device.type, enabled=False):
            output = model(x, lengths)
        padding = self._side.padding
        maps = trim(output.frame_maps, lengths, padding.left, padding.right) if self._maps else None
        return Knowledge(output.logits, output.features, output.lengths, maps)


class CachedTeacher:
    """Outputs of a teacher over the fixed views of every clip, in memory: logits float32, features and maps float16."""

    def __init__(
        self,
        teacher: LiveTeacher,
        clips: ClipSet,
        augmenter: Augmenter,
        progress: Callable[[int, int], None] | None = None,
        device: torch.device | str = "cpu",
        batch_size: int = 8,
    ) -> None:
        self._entries: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor | None]] = {}
        assert clips.teacher is not None
        order = sorted(range(len(clips)), key=lambda i: clips.lengths[i])
        total = len(order) * augmenter.cached_views
        for view in range(augmenter.cached_views):
            for at in range(0, len(order), batch_size):
                self._add(teacher, clips, augmenter, order[at : at + batch_size], view, device)
                if progress:
                    progress(len(self._entries), total)

    def _add(
        self,
        teacher: LiveTeacher,
        clips: ClipSet,
        augmenter: Augmenter,
        members: list[int],
        view: int,
        device: torch.device | str,
    ) -> None:
        side = clips.teacher
        assert side is not None
        inputs = [features(augmenter.fixed(clips.clip(i), i, view), side) for i in members]
        padded = [pad_clip(clip, side.padding) for clip in inputs]
        lengths = torch.tensor([len(clip) for clip in padded])
        said = teacher.run(pack(padded).to(device), lengths.to(device))
        cores = [FRAME_STRIDE * int(steps) for steps in said.lengths]
        maps = said.frame_maps.half().cpu().split(cores) if said.frame_maps is not None else None
        for place, clip in enumerate(members):
            steps = int(said.lengths[place])
            logits, vectors = said.logits[place, :steps].cpu(), said.features[place, :steps].half().cpu()
            own = maps[place].clone() if maps is not None else None
            self._entries[clip, view] = (logits.clone(), vectors.clone(), own)

    @property
    def nbytes(self) -> int:
        """Memory taken."""
        return sum(part.nbytes for entry in self._entries.values() for part in entry if part is not None)

    def __call__(self, batch: Batch) -> Knowledge:
        """Look the clips up."""
        found = [
            self._entries[clip, view] for clip, view in zip(batch.clips.tolist(), batch.views.tolist(), strict=True)
        ]
        device = batch.x.device
        maps = [entry[2] for entry in found if entry[2] is not None]
        return Knowledge(
            pad_sequence([entry[0] for entry in found], batch_first=True).to(device),
            pad_sequence([entry[1] for entry in found], batch_first=True).to(device).float(),
            torch.tensor([len(entry[0]) for entry in found], device=device),
            torch.cat(maps).to(device).float() if maps else None,
        )
