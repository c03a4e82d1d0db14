"""TRKD's gamma term: contrast between the temporal relation graphs of student and teacher; a reconstruction."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.losses.contrast import StepContrast
from distill.models.timeline import valid_steps

Adjacency = Literal["prior", "learned", "both"]


def prior_adjacency(valid: Tensor, band: int) -> Tensor:
    """A^P, the fixed relation: steps at most `band` apart, each row summing to 1 over valid steps.

    valid (B,N) bool -> (B,N,N); rows and columns of padding are zero.
    """
    position = torch.arange(valid.shape[1], device=valid.device)
    near = (position[:, None] - position).abs() <= band
    linked = (near & valid[:, :, None] & valid[:, None, :]).float()
    return linked / linked.sum(-1, keepdim=True).clamp(min=1)


class RelationHead(nn.Module):
    """One network's graph over the steps of a clip; gone at inference.

        X   = F W_in                                                   (B,N,hidden)
        A^P = [|i-j| <= band], row-normalised                          (B,N,N)
        A^L = softmax_j( (X W_q)(X W_k)^T / sqrt(key) )                (B,N,N)
        H   = ReLU( (A^P + A^L) X W_g ) + X                            `layers` times
        U   = l2norm( H W_out )                                        (B,N,embed)

    Padding has zero rows and columns in both adjacencies. A^L has the form of attention since the number of steps
    differs from clip to clip.
    """

    def __init__(
        self, dim: int, hidden: int, key: int, embed: int, layers: int, band: int, adjacency: Adjacency
    ) -> None:
        super().__init__()
        self.band, self.kind = band, adjacency
        self.enter = nn.Linear(dim, hidden)
        self.query = nn.Linear(hidden, key, bias=False)
        self.key = nn.Linear(hidden, key, bias=False)
        self.graph = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(layers))
        self.leave = nn.Linear(hidden, embed)

    def adjacencies(self, nodes: Tensor, valid: Tensor) -> list[Tensor]:
        """The relations in use, [A^P] or [A^L] or both, each (B,N,N); nodes (B,N,hidden), valid (B,N) bool."""
        relations = []
        if self.kind in ("prior", "both"):
            relations.append(prior_adjacency(valid, self.band))
        if self.kind in ("learned", "both"):
            query, key = self.query(nodes), self.key(nodes)
            scores = query @ key.transpose(1, 2) * key.shape[-1] ** -0.5
            attention = scores.masked_fill(~valid[:, None, :], float("-inf")).softmax(-1)
            relations.append(attention * valid[:, :, None])
        return relations

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """features (B,N,dim), lengths (B,) -> U (B,N,embed), unit vectors at valid steps."""
        valid = valid_steps(lengths, features.shape[1])
        nodes = self.enter(features)
        for graph in self.graph:
            relation = torch.stack(self.adjacencies(nodes, valid)).sum(0)
            nodes = torch.relu(graph(relation @ nodes)) + nodes
        return F.normalize(self.leave(nodes), dim=-1)


class TemporalRelation(nn.Module):
    """Reconstruction of TRKD's temporal relation distillation.

        L = 1/2 [ NCE(U_s -> U_t) + NCE(U_t -> U_s) ]                  see `contrast.info_nce`

    U_s, U_t come from one `RelationHead` each; nothing is shared, since a shared adjacency would leak the teacher's
    graph into the student. Contrast and not mean squared error: both heads learn, and could agree on a constant.
    """

    def __init__(
        self,
        student_dim: int,
        teacher_dim: int,
        hidden: int = 256,
        key: int = 64,
        embed: int = 128,
        layers: int = 1,
        band: int = 2,
        adjacency: Adjacency = "both",
        queue: int = 0,
        temperature: float = 0.07,
        margin: int = 2,
    ) -> None:
        super().__init__()
        self.student = RelationHead(student_dim, hidden, key, embed, layers, band, adjacency)
        self.teacher = RelationHead(teacher_dim, hidden, key, embed, layers, band, adjacency)
        self.contrast = StepContrast(embed, queue, temperature, margin)

    def forward(
        self, student_features: Tensor, teacher_features: Tensor, lengths: Tensor, labels: Tensor | None = None
    ) -> Tensor:
        """(B,N,D_s), (B,N,D_t), lengths (B,), optional pseudo labels (B,N) int64 -> scalar in nats.

        No gradient reaches the teacher's features; its head learns.
        """
        ours = self.student(student_features.float(), lengths)
        theirs = self.teacher(teacher_features.detach().float(), lengths)
        forth, back = self.contrast(ours, theirs, lengths, labels)
        return (forth + back) / 2
