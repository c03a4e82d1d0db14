"""LRINet, CRKD's low-resolution RGB student (arXiv 2303.06820); a reconstruction, its layers are not public."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from distill.models.base import Output, Recogniser, Spec
from distill.models.layers import ConvBn, SpatialKind, SpatialPool, Stage, conv_out, initialise
from distill.models.timeline import Timeline
from runtime.contract import Padding, RgbInput

Shape = tuple[int, int, int]  # channels, height, width


class StageSpec(Spec):
    """Residual blocks of one width; the first one strides."""

    width: PositiveInt
    blocks: PositiveInt = 1
    stride: PositiveInt = 1


class StemSpec(Spec):
    """First convolution. Stride 1 and no pool keep the scale that the low resolution already lost."""

    width: PositiveInt
    kernel: PositiveInt = 3
    stride: PositiveInt = 1


class LrinetSpec(Spec):
    """`stages` see single frames and end in the frame-level map; `middle` and `top` are TSCM stages at T and T/2."""

    name: Literal["lrinet"] = "lrinet"
    stem: StemSpec
    stages: tuple[StageSpec, ...] = Field(min_length=1)
    middle: StageSpec
    top: StageSpec
    spatial: SpatialKind = "mean"
    spatial_width: PositiveInt = 128  # of the features, if spatial is "grid"
    auxiliary: bool = True  # CTC heads at T and T/2 while training
    dropout: float = Field(0.0, ge=0, lt=1)  # in front of the classifier


class AuxiliaryHead(nn.Module):
    """CTC head on frame maps, for training only."""

    def __init__(self, spec: LrinetSpec, shape: Shape, classes: int) -> None:
        super().__init__()
        self.spatial = SpatialPool(spec.spatial, shape, spec.spatial_width)
        self.classifier = nn.Linear(self.spatial.dim, classes)

    def forward(self, rows: Tensor, time: Timeline) -> tuple[Tensor, Tensor]:
        """Rows (P,C,h,w) -> logits (B,N',K) and lengths (B,)."""
        return self.classifier(time.batch_rows(self.spatial(rows))), time.lengths


class Lrinet(Recogniser):
    """Reconstruction of LRINet: small frames, a frame map of the teacher's spatial size, hybrid convolutions, no RNN.

    Known of the original: low-resolution input, frame-level maps at the teacher's scale (so that they can be
    distilled without upsampling), "TSCM + 2D hybrid convolution". Depth, widths and heads are ours.
    """

    padding = Padding(0, 0, 4)

    def __init__(self, spec: LrinetSpec, classes: int, source: RgbInput) -> None:
        super().__init__()
        height, width = (conv_out(size, spec.stem.stride) for size in (source.height, source.width))
        shape = (spec.stem.width, height, width)

        def stage(part: StageSpec, before: Shape, crossover: bool) -> tuple[Stage, Shape]:
            after = (part.width, conv_out(before[1], part.stride), conv_out(before[2], part.stride))
            return Stage(before[0], part.width, part.blocks, part.stride, crossover), after

        self.stem = ConvBn(3, spec.stem.width, spec.stem.kernel, spec.stem.stride)
        self.stages = nn.ModuleList()
        for part in spec.stages:
            made, shape = stage(part, shape, crossover=False)
            self.stages.append(made)
        self.frame_map_shape = frame_shape = shape
        self.middle, middle_shape = stage(spec.middle, frame_shape, crossover=True)
        self.top, top_shape = stage(spec.top, middle_shape, crossover=True)

        self.spatial = SpatialPool(spec.spatial, top_shape, spec.spatial_width)
        self.dropout = nn.Dropout(spec.dropout)
        self.feature_dim = self.spatial.dim
        self.classifier = nn.Linear(self.feature_dim, classes)
        self.auxiliary: nn.ModuleList | None = None
        if spec.auxiliary:
            shapes = (frame_shape, middle_shape)
            self.auxiliary = nn.ModuleList(AuxiliaryHead(spec, shape, classes) for shape in shapes)
        # Each block looks ahead twice, one frame in `middle` and two in `top`; pooling only merges a step's own frames.
        self.lookahead = 2 * spec.middle.blocks + 4 * spec.top.blocks
        initialise(self)

    def run(self, rows: Tensor, time: Timeline) -> Output:
        """Rows (P,3,H,W) -> scores a step."""
        rows = torch.relu(self.stem(rows))
        for stage in self.stages:
            rows = stage(rows, time)
        frame_maps, frame_time = rows, time
        middle_maps, middle_time = time.pool(self.middle(rows, time))
        rows, time = middle_time.pool(self.top(middle_maps, middle_time))
        features = time.batch_rows(self.spatial(rows))

        auxiliary = []
        if self.training and self.auxiliary is not None:
            heads = zip(self.auxiliary, (frame_maps, middle_maps), (frame_time, middle_time), strict=True)
            auxiliary = [head(maps, at) for head, maps, at in heads]
        return Output(self.classifier(self.dropout(features)), time.lengths, features, frame_maps, auxiliary)

    def drop_training_parts(self) -> None:
        """Remove the auxiliary CTC heads."""
        self.auxiliary = None
