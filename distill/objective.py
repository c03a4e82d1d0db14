"""What a training minimises: CTC on every head, and the distillation terms that the recipe asks for."""

from __future__ import annotations

from torch import Tensor, nn

from distill.data import Batch
from distill.losses.ctc import ctc_loss
from distill.losses.kd import logit_kd
from distill.models.base import Output, Recogniser
from distill.models.timeline import trim
from distill.recipe import Distillation
from distill.teacher_cache import Knowledge
from runtime.errors import BadInput


class Objective(nn.Module):
    """Sum of weighted terms. Its own parameters (embeddings, relation heads, adaptor) are trained along and then dropped."""

    def __init__(
        self,
        settings: Distillation,
        auxiliary_weight: float,
        student: Recogniser,
        teacher: Recogniser | None = None,
    ) -> None:
        super().__init__()
        self.settings, self.auxiliary_weight, self.padding = settings, auxiliary_weight, student.padding
        self.contrast: nn.Module | None = None
        self.relation: nn.Module | None = None
        self.adapt: nn.Module | None = None
        if teacher is None:
            return
        if settings.crd:
            from distill.losses.crd import ContrastiveDistillation

            part = settings.crd
            self.contrast = ContrastiveDistillation(
                student.feature_dim, teacher.feature_dim, part.width, part.temperature, part.queue
            )
        if settings.relation:
            from distill.losses.trkd import RelationDistillation

            link = settings.relation
            self.relation = RelationDistillation(student.feature_dim, teacher.feature_dim, adjacency=link.adjacency)
        if settings.feature:
            from distill.losses.crkd import FrameMapDistillation

            ours, theirs = student.frame_map_shape, teacher.frame_map_shape
            if ours is None or theirs is None or ours[1:] != theirs[1:]:
                raise BadInput(f"distillation.feature needs frame maps of equal size: the student's is {ours}, the teacher's {theirs}")
            self.adapt = FrameMapDistillation(ours[0], theirs[0])

    @property
    def wants_maps(self) -> bool:
        """Whether the teacher's frame maps are needed."""
        return self.adapt is not None

    def forward(self, output: Output, batch: Batch, teacher: Knowledge | None = None, ramp: float = 1.0) -> dict[str, Tensor]:
        """Weighted terms by name, scalars; their sum is minimised. `ramp` (0..1) scales the contrastive terms."""
        terms = {"ctc": ctc_loss(output.logits, output.lengths, batch.targets, batch.target_lengths)}
        if output.auxiliary and self.auxiliary_weight:
            heads = [ctc_loss(logits, lengths, batch.targets, batch.target_lengths) for logits, lengths in output.auxiliary]
            terms["auxiliary"] = self.auxiliary_weight * sum(heads[1:], heads[0])
        if teacher is not None:
            terms |= self._knowledge(output, batch, teacher, ramp)
        return terms

    def _knowledge(self, output: Output, batch: Batch, teacher: Knowledge, ramp: float) -> dict[str, Tensor]:
        settings, terms = self.settings, {}
        if settings.kd:
            loss = logit_kd(output.logits, teacher.logits, output.lengths, settings.kd.temperature, settings.kd.drop_blank)
            terms["kd"] = settings.kd.weight * loss
        if self.contrast is not None and settings.crd:
            terms["crd"] = ramp * settings.crd.weight * self.contrast(output.features, teacher.features, output.lengths)
        if self.relation is not None and settings.relation:
            loss = self.relation(output.features, teacher.features, output.lengths)
            terms["relation"] = ramp * settings.relation.weight * loss
        if self.adapt is not None and settings.feature:
            assert output.frame_maps is not None and teacher.frame_maps is not None
            maps = trim(output.frame_maps, batch.lengths, self.padding.left, self.padding.right)
            terms["feature"] = settings.feature.weight * self.adapt(maps, teacher.frame_maps)
        return terms
