"""InfoNCE between the clips' embeddings of two networks, with a queue of earlier embeddings as further negatives."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.models.timeline import pack, valid_steps

UNKNOWN = -1  # label of a step without pseudo label; equals no other


def info_nce(
    anchors: Tensor, targets: Tensor, excluded: Tensor, queue: Tensor, queue_excluded: Tensor, temperature: float
) -> Tensor:
    """-mean_i log( exp(a_i.b_i / t) / (exp(a_i.b_i / t) + sum over negatives of exp(a_i.b_j / t)) ); scalar in nats.

    anchors, targets (M,E) unit vectors, row i of both the same step; queue (Q,E) further targets. Negatives of i are
    the targets j != i without excluded (M,M) and the queue's without queue_excluded (M,Q).
    """
    itself = torch.eye(len(anchors), dtype=torch.bool, device=anchors.device)
    scores = (anchors @ targets.t()).masked_fill(excluded & ~itself, float("-inf"))
    further = (anchors @ queue.t()).masked_fill(queue_excluded, float("-inf"))
    positive = torch.arange(len(anchors), device=anchors.device)
    return F.cross_entropy(torch.cat([scores, further], 1) / temperature, positive)


class EmbeddingQueue(nn.Module):
    """The last `size` embeddings of both networks and their labels, first in first out; part of the checkpoint."""

    student: Tensor
    teacher: Tensor
    labels: Tensor
    written: Tensor

    def __init__(self, size: int, embed: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("student", torch.zeros(size, embed))
        self.register_buffer("teacher", torch.zeros(size, embed))
        self.register_buffer("labels", torch.full((size,), UNKNOWN))
        self.register_buffer("written", torch.zeros((), dtype=torch.int64))  # in all; the next slot is written % size

    def __len__(self) -> int:
        return min(int(self.written), self.size)

    def filled(self) -> tuple[Tensor, Tensor, Tensor]:
        """Student (Q,E), teacher (Q,E) and labels (Q,) held now; Q grows up to `size`."""
        held = len(self)
        # Copies: autograd needs them unchanged after the next push.
        return self.student[:held].clone(), self.teacher[:held].clone(), self.labels[:held].clone()

    @torch.no_grad()
    def push(self, student: Tensor, teacher: Tensor, labels: Tensor) -> None:
        """Add rows (M,E), (M,E), (M,); the oldest leave."""
        fits = slice(max(len(student) - self.size, 0), None)
        slots = (self.written + torch.arange(len(student[fits]), device=self.written.device)) % max(self.size, 1)
        self.student[slots] = student[fits].to(self.student.dtype)
        self.teacher[slots] = teacher[fits].to(self.teacher.dtype)
        self.labels[slots] = labels[fits]
        self.written += len(slots)


class StepContrast(nn.Module):
    """Symmetric InfoNCE between unit embeddings of the same output step in two networks.

    Positives: the same step of the same clip. Negatives: steps of the other clips of the batch, steps of the same
    clip more than `margin` apart (nearer ones overlap in what they see), and the queue. With pseudo labels, a step
    whose label equals the anchor's is no negative: it may well show the same gloss.

    A queue holds what earlier heads made. Heads that still learn can push old embeddings away without telling steps
    apart: on the demo, with 4096 of them at a learning rate of 0.002, the relation term ended at chance, ln(4096), and
    the student was worse for it; without a queue it fell below 0.2 nats. So the default is none.
    """

    def __init__(self, embed: int, queue: int, temperature: float, margin: int) -> None:
        super().__init__()
        self.temperature, self.margin = temperature, margin
        self.queue = EmbeddingQueue(queue, embed)

    def forward(
        self, student: Tensor, teacher: Tensor, lengths: Tensor, labels: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """NCE(student -> teacher) and NCE(teacher -> student), scalars in nats; fills the queue while training.

        student, teacher (B,N,E) unit vectors; lengths (B,) valid steps; labels (B,N) class numbers, -1 unknown.
        """
        valid = valid_steps(lengths, student.shape[1])
        clip, step = valid.nonzero(as_tuple=True)
        ours, theirs = pack(student, lengths), pack(teacher, lengths)
        known = torch.full_like(clip, UNKNOWN) if labels is None else pack(labels, lengths)
        queue_ours, queue_theirs, queue_labels = self.queue.filled()

        near = (clip[:, None] == clip) & ((step[:, None] - step).abs() <= self.margin)
        excluded = near | _same_gloss(known, known)
        queue_excluded = _same_gloss(known, queue_labels)
        forth = info_nce(ours, theirs, excluded, queue_theirs, queue_excluded, self.temperature)
        back = info_nce(theirs, ours, excluded, queue_ours, queue_excluded, self.temperature)
        if self.training:
            self.queue.push(ours.detach(), theirs.detach(), known)
        return forth, back


def _same_gloss(anchors: Tensor, others: Tensor) -> Tensor:
    return (anchors[:, None] == others) & (anchors[:, None] != UNKNOWN)
