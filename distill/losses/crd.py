"""Contrastive representation distillation (CRD, Tian et al., ICLR 2020) on clip features: TRKD's beta term."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from distill.losses.contrast import StepContrast


class ClipContrast(nn.Module):
    """Reconstruction of TRKD's feature-contrastive term: CRD between student and teacher clip features.

        u = l2norm(W_s f_s),  v = l2norm(W_t f_t)          W to `embed` dimensions
        L = NCE(u -> v) + NCE(v -> u)                      see `contrast.info_nce`

    As in CRD both directions are summed and both embeddings are learned. Unlike CRD the loss is InfoNCE (softmax over
    one positive and the negatives, which needs no normaliser), and negatives come from the batch and, if asked for,
    a queue, since a memory bank indexed by step does not fit clips of varying length.
    """

    def __init__(
        self,
        student_dim: int,
        teacher_dim: int,
        embed: int = 128,
        queue: int = 0,
        temperature: float = 0.07,
        margin: int = 2,
    ) -> None:
        super().__init__()
        self.student = nn.Linear(student_dim, embed)
        self.teacher = nn.Linear(teacher_dim, embed)
        self.contrast = StepContrast(embed, queue, temperature, margin)

    def forward(
        self, student_features: Tensor, teacher_features: Tensor, lengths: Tensor, labels: Tensor | None = None
    ) -> Tensor:
        """(B,N,D_s), (B,N,D_t), lengths (B,), optional pseudo labels (B,N) int64 -> scalar in nats.

        No gradient reaches the teacher's features; its embedding learns.
        """
        ours = F.normalize(self.student(student_features.float()), dim=-1)
        theirs = F.normalize(self.teacher(teacher_features.detach().float()), dim=-1)
        forth, back = self.contrast(ours, theirs, lengths, labels)
        return forth + back
