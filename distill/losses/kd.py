"""Logit distillation (Hinton et al., 2015) on the class scores of each output step, with VAC's way of the blank."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from distill.models.timeline import pack


def logit_kd(
    student_logits: Tensor, teacher_logits: Tensor, lengths: Tensor, temperature: float = 8.0, drop_blank: bool = True
) -> Tensor:
    """temperature^2 * KL(teacher || student) of the softened class posteriors, mean over valid steps; scalar in nats.

    Both logits (B,N,K); lengths (B,) valid steps. `drop_blank` leaves the blank (class 0) out before the softmax as
    VAC does: CTC posteriors are mostly blank and would teach little else. No gradient reaches the teacher.
    """
    first = 1 if drop_blank else 0
    student = pack(student_logits, lengths)[:, first:].float() / temperature
    teacher = pack(teacher_logits, lengths)[:, first:].float().detach() / temperature
    divergence = F.kl_div(student.log_softmax(-1), teacher.log_softmax(-1), reduction="batchmean", log_target=True)
    return divergence * temperature**2
