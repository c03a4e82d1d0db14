"""2DCNN+1DCNN, the RGB teacher: residual 2D CNN a frame, then VAC's K5,P2,K5,P2 over time and a linear classifier."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from distill.models.base import Output, Recogniser, Spec
from distill.models.layers import ConvBn, SpatialKind, SpatialPool, Stage, TemporalConv, conv_out, initialise
from distill.models.timeline import Timeline
from runtime.contract import Padding, RgbInput


class StemSpec(Spec):
    """First convolution; `pool` adds a max-pool 3x3 of stride 2. Its width is that of the first stage."""

    kernel: PositiveInt = 3
    stride: PositiveInt = 2
    pool: bool = False


class Cnn2d1dSpec(Spec):
    """The 2D part is a ResNet of basic blocks: the first stage keeps the size, each further one halves it."""

    name: Literal["cnn2d1d"] = "cnn2d1d"
    stem: StemSpec = StemSpec()
    widths: tuple[PositiveInt, ...] = Field(min_length=1)
    blocks: tuple[PositiveInt, ...] = Field(min_length=1)
    spatial: SpatialKind = "mean"
    spatial_width: PositiveInt = 128  # of the frame feature, if spatial is "grid"
    temporal: PositiveInt  # D, width of the 1D convolutions and of the clip features
    frame_map: int = Field(-1, description="stage whose output is the frame-level map for distillation")
    dropout: float = Field(0.0, ge=0, lt=1)  # in front of the classifier

    @model_validator(mode="after")
    def _consistent(self) -> Cnn2d1dSpec:
        if len(self.widths) != len(self.blocks):
            raise ValueError("widths and blocks need one entry a stage each")
        if not -len(self.widths) <= self.frame_map < len(self.widths):
            raise ValueError(f"frame_map {self.frame_map} is not one of the {len(self.widths)} stages")
        return self


class Cnn2d1d(Recogniser):
    """TRKD's second teacher, "2DCNN+1DCNN", in the form of VAC's network (Min et al., ICCV 2021) without its BiLSTM."""

    padding = Padding(6, 6, 4)
    lookahead = 6

    def __init__(self, spec: Cnn2d1dSpec, classes: int, source: RgbInput) -> None:
        super().__init__()
        self.stem = ConvBn(3, spec.widths[0], spec.stem.kernel, spec.stem.stride)
        self.stem_pool: nn.Module = nn.MaxPool2d(3, 2, 1) if spec.stem.pool else nn.Identity()
        height, width = (conv_out(size, spec.stem.stride) for size in (source.height, source.width))
        if spec.stem.pool:
            height, width = conv_out(height, 2), conv_out(width, 2)

        self.stages = nn.ModuleList()
        shapes: list[tuple[int, int, int]] = []
        channels = spec.widths[0]
        for i, (wide, blocks) in enumerate(zip(spec.widths, spec.blocks, strict=True)):
            stride = 2 if i else 1
            self.stages.append(Stage(channels, wide, blocks, stride))
            channels, height, width = wide, conv_out(height, stride), conv_out(width, stride)
            shapes.append((channels, height, width))
        self.frame_map = spec.frame_map % len(shapes)
        self.frame_map_shape = shapes[self.frame_map]

        self.spatial = SpatialPool(spec.spatial, shapes[-1], spec.spatial_width)
        self.temporal = TemporalConv(self.spatial.dim, spec.temporal)
        self.dropout = nn.Dropout(spec.dropout)
        self.classifier = nn.Linear(spec.temporal, classes)
        self.feature_dim = spec.temporal
        initialise(self)

    def run(self, rows: Tensor, time: Timeline) -> Output:
        """Rows (P,3,H,W) -> scores a step."""
        rows = self.stem_pool(torch.relu(self.stem(rows)))
        maps = None
        for i, stage in enumerate(self.stages):
            rows = stage(rows, time)
            maps = rows if i == self.frame_map else maps
        features, time = self.temporal(self.spatial(rows), time)
        return Output(self.classifier(self.dropout(features)), time.lengths, features, maps)

    def drop_training_parts(self) -> None:
        """It has none."""
