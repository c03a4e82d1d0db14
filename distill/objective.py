"""What a training minimises: CTC on every head, and the distillation terms that the recipe asks for."""

from __future__ import annotations

from torch import Tensor, nn

from distill.alignment import pseudo_labels
from distill.data import Batch
from distill.losses.crd import ClipContrast
from distill.losses.crkd import FrameFeature
from distill.losses.ctc import ctc_loss
from distill.losses.kd import logit_kd
from distill.losses.trkd import TemporalRelation
from distill.models.base import Output, Recogniser
from distill.models.timeline import trim
from distill.recipe import Distillation
from distill.teacher_cache import Knowledge
from runtime.errors import BadInput


class Objective(nn.Module):
    """Weighted terms. Its own parameters (embeddings, relation heads, adaptor) are trained along and then dropped."""

    def __init__(
        self,
        settings: Distillation,
        auxiliary_weight: float,
        student: Recogniser,
        teacher: Recogniser | None = None,
    ) -> None:
        super().__init__()
        self.settings, self.auxiliary_weight, self.padding = settings, auxiliary_weight, student.padding
        crd, relation = settings.crd, settings.relation
        self.contrast: ClipContrast | None = None
        self.relation: TemporalRelation | None = None
        self.frames: FrameFeature | None = None
        if teacher is None:
            return
        dims = student.feature_dim, teacher.feature_dim
        if crd:
            self.contrast = ClipContrast(*dims, crd.embed, crd.queue, crd.temperature, crd.margin)
        if relation:
            self.relation = TemporalRelation(
                *dims,
                hidden=relation.hidden,
                embed=relation.embed,
                layers=relation.layers,
                band=relation.band,
                adjacency=relation.adjacency,
                queue=relation.queue,
                temperature=relation.temperature,
                margin=relation.margin,
            )
        if settings.feature:
            ours, theirs = student.frame_map_shape, teacher.frame_map_shape
            if ours is None or theirs is None or ours[1:] != theirs[1:]:
                raise BadInput(
                    f"distillation.feature needs frame maps of one height and width; the student's are {ours} (C,h,w), "
                    f"the teacher's {theirs}: change model.frame_map, strides or input.size"
                )
            self.frames = FrameFeature(ours[0], theirs[0])

    @property
    def wants_maps(self) -> bool:
        """Whether the teacher's frame maps are needed."""
        return self.frames is not None

    def forward(
        self, output: Output, batch: Batch, teacher: Knowledge | None = None, ramp: float = 1.0
    ) -> dict[str, Tensor]:
        """Weighted terms by name, scalars; their sum is minimised. `ramp` (0..1) scales the contrastive terms."""
        terms = {"ctc": ctc_loss(output.logits, output.lengths, batch.targets, batch.target_lengths)}
        if output.auxiliary and self.auxiliary_weight:
            heads = [
                ctc_loss(logits, lengths, batch.targets, batch.target_lengths) for logits, lengths in output.auxiliary
            ]
            terms["auxiliary"] = self.auxiliary_weight * sum(heads[1:], heads[0])
        if teacher is not None:
            terms |= self._knowledge(output, batch, teacher, ramp)
        return terms

    def _knowledge(self, output: Output, batch: Batch, teacher: Knowledge, ramp: float) -> dict[str, Tensor]:
        settings = self.settings
        terms: dict[str, Tensor] = {}
        if settings.kd:
            loss = logit_kd(
                output.logits, teacher.logits, output.lengths, settings.kd.temperature, settings.kd.drop_blank
            )
            terms["kd"] = settings.kd.weight * loss
        labels = self._labels(batch, teacher) if self.contrast or self.relation else None
        if self.contrast and settings.crd:
            loss = self.contrast(output.features, teacher.features, output.lengths, labels)
            terms["crd"] = ramp * settings.crd.weight * loss
        if self.relation and settings.relation:
            loss = self.relation(output.features, teacher.features, output.lengths, labels)
            terms["relation"] = ramp * settings.relation.weight * loss
        if self.frames and settings.feature:
            assert output.frame_maps is not None and teacher.frame_maps is not None
            maps = trim(output.frame_maps, batch.lengths, self.padding.left, self.padding.right)
            terms["feature"] = settings.feature.weight * self.frames(maps, teacher.frame_maps)
        return terms

    def _labels(self, batch: Batch, teacher: Knowledge) -> Tensor | None:
        if not self.settings.pseudo_labels:
            return None
        return pseudo_labels(teacher.logits, teacher.lengths, batch.targets, batch.target_lengths)
