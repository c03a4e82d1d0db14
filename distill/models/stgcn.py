"""ST-GCN, TRKD's other skeleton student: convolutions over the graph of the joints and over time, in turn."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field, PositiveInt, field_validator
from torch import Tensor, nn

from distill.models.base import Output, Recogniser, Spec
from distill.models.layers import TemporalConv, initialise
from distill.models.skeleton import Partition, body_and_hands_bones, partitions
from distill.models.timeline import Timeline
from runtime.contract import KeypointInput, Padding

CHANNELS = 5  # of a joint, see runtime.contract.KeypointInput
# Added to the variance of an input channel, in squared widths of the shoulders. Some channels hardly vary in training
# (the shoulders' own place); the usual 1e-5 would blow up, and nothing below would bound, what they do elsewhere.
STILL = 1e-2


class StgcnSpec(Spec):
    """`widths` has one entry a block."""

    name: Literal["stgcn"] = "stgcn"
    widths: tuple[PositiveInt, ...] = Field(min_length=1)
    kernel: PositiveInt = 9  # of the convolutions over time, in frames
    partition: Partition = "spatial"
    free: bool = False  # learn edges that the skeleton has not, too (B of 2s-AGCN)
    pool: Literal["mean", "flatten"] = "mean"
    frame_width: PositiveInt = 128  # of the frame feature, if pool is "flatten"
    temporal: PositiveInt  # D, width of the 1D convolutions and of the clip features
    dropout: float = Field(0.1, ge=0, lt=1)  # in front of the classifier
    bones: tuple[tuple[str, str], ...] | None = None  # of the skeleton; none: those of this project's 49 joints

    @field_validator("kernel")
    @classmethod
    def _odd(cls, kernel: int) -> int:
        if kernel % 2 == 0:
            raise ValueError("must be odd, so that a frame has as many before it as after it")
        return kernel


class GraphConv(nn.Module):
    """Every joint hears its neighbours, each subset of them through weights of its own.

    Columns are multiplied by the graph first, then mixed over subsets and channels by one 1 x 1 convolution. That is
    the paper's sum over subsets in the other order: with time on the last axis nothing has to be transposed, and the
    graph product is taken on the fewer channels (in ONNX Runtime a third faster than mixing first; measured).
    """

    def __init__(self, inputs: int, outputs: int, graph: Tensor, free: bool) -> None:
        """graph: (K,V,V), as `distill.models.skeleton.partitions` makes it."""
        super().__init__()
        self.subsets = len(graph)
        self.register_buffer("graph", graph.clone())
        self.added = nn.Parameter(torch.zeros_like(graph)) if free else None
        self.edges = nn.Parameter(torch.ones_like(graph))  # importance of each edge; once folded, its weight
        self.mix = nn.Conv2d(inputs * self.subsets, outputs, 1, bias=False)

    def weights(self) -> Tensor:
        """The weights of all edges, (K,V,V)."""
        if self.graph is None:
            return self.edges
        return self.edges * (self.graph if self.added is None else self.graph + self.added)

    @torch.no_grad()
    def fold(self) -> None:
        """Let `edges` be the weights themselves, in place: what training takes apart is one constant afterwards."""
        self.edges.copy_(self.weights())
        self.graph = self.added = None

    def forward(self, columns: Tensor) -> Tensor:
        """(clips,C,V,T) -> (clips,C',V,T)."""
        heard = self.weights().flatten(0, 1) @ columns
        return self.mix(heard.unflatten(2, (self.subsets, -1)).flatten(1, 2))


class StgcnBlock(nn.Module):
    """Convolution over the graph, then over time, batch normalisation after each, on a residual branch.

    The temporal convolution keeps the number of frames: like the paper's it reads zeros beyond the ends of a clip.
    (Repeating the edge frames instead cost ONNX Runtime 6 to 12 % more time and in two trainings moved WER by 0.3
    points at most; measured.)
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, graph: Tensor, free: bool, residual: bool) -> None:
        super().__init__()
        self.spatial = GraphConv(inputs, outputs, graph, free)
        self.spatial_norm = nn.BatchNorm2d(outputs)
        self.over_time = nn.Conv2d(outputs, outputs, (1, kernel), padding=(0, kernel // 2), bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.residual = residual
        self.shortcut: nn.Module = nn.Identity()
        if residual and inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, columns: Tensor, time: Timeline) -> Tensor:
        """(clips,C,V,T) -> (clips,C',V,T)."""
        inner = torch.relu(self.spatial_norm(self.spatial(columns)))
        inner = self.norm(time.convolve(self.over_time, inner))
        return torch.relu(inner + self.shortcut(columns) if self.residual else inner)


class Stgcn(Recogniser):
    """ST-GCN (Yan, Xiong, Lin, AAAI 2018) at the full frame rate, with the K5,P2,K5,P2 and CTC of this project.

    As published: batch normalisation of the input a joint and channel, a first block without residual, an importance
    of each edge learnt in each block, the mean over joints. Ours: no stride over time (the poolings follow), dropout
    in front of the classifier and not in the blocks, a larger floor of the input's variance (`STILL`), and
    `pool: flatten`, which keeps the joints apart up to a linear layer. It sees a limited future, unlike STGT.
    """

    padding = Padding(6, 6, 4)

    def __init__(self, spec: StgcnSpec, classes: int, source: KeypointInput) -> None:
        super().__init__()
        joints = len(source.joints)
        bones = body_and_hands_bones() if spec.bones is None else spec.bones
        graph = torch.tensor(partitions(spec.partition, source.joints, source.origin, bones))
        self.normalise = nn.BatchNorm1d(joints * CHANNELS, eps=STILL)
        self.blocks = nn.ModuleList(
            StgcnBlock(inputs, outputs, spec.kernel, graph, spec.free, bool(i))
            for i, (inputs, outputs) in enumerate(pairwise((CHANNELS, *spec.widths)))
        )
        width = spec.widths[-1]
        self.frame: nn.Module | None = None
        if spec.pool == "flatten":
            self.frame = nn.Sequential(
                nn.Conv1d(width * joints, spec.frame_width, 1, bias=False), nn.BatchNorm1d(spec.frame_width), nn.ReLU()
            )
        self.temporal = TemporalConv(width if self.frame is None else spec.frame_width, spec.temporal)
        self.dropout = nn.Dropout(spec.dropout)
        self.classifier = nn.Linear(spec.temporal, classes)
        self.feature_dim = spec.temporal
        self.lookahead = len(spec.widths) * (spec.kernel // 2) + 6
        initialise(self)

    def run(self, rows: Tensor, time: Timeline) -> Output:
        """Rows (P,V,5) -> scores a step."""
        normal = self.normalise(rows.flatten(1)).unflatten(1, rows.shape[1:])
        columns = time.columns(normal.transpose(1, 2))
        for block in self.blocks:
            columns = block(columns, time)
        frames = columns.mean(2) if self.frame is None else self.frame(columns.flatten(1, 2))
        features, time = self.temporal.on_columns(frames, time)
        return Output(self.classifier(self.dropout(features)), time.lengths, features)

    def drop_training_parts(self) -> None:
        """Fold what is learnt of the edges into one matrix a block."""
        for module in self.modules():
            if isinstance(module, GraphConv):
                module.fold()
