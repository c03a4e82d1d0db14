"""STGT, TRKD's skeleton student (spatial-temporal graph transformer): a reconstruction from the abstract."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from distill.models.base import Output, Recogniser, Spec
from distill.models.layers import TemporalConv, TransformerLayer, initialise
from distill.models.timeline import Timeline
from runtime.contract import KeypointInput, Padding

CHANNELS = 5  # of a joint, see runtime.contract.KeypointInput


class AttentionSpec(Spec):
    """A stack of transformer layers."""

    layers: NonNegativeInt = 2
    heads: PositiveInt = 4
    expansion: PositiveFloat = 2.0  # inner width of the feed-forward part


class StgtSpec(Spec):
    """`joints` attends over the joints of a frame, `steps` over the output steps of a clip."""

    name: Literal["stgt"] = "stgt"
    width: PositiveInt  # of a joint's token
    joints: AttentionSpec = AttentionSpec()
    pool: Literal["mean", "flatten"] = "mean"
    frame_width: PositiveInt = 128  # of the frame feature
    temporal: PositiveInt  # D, width of the 1D convolutions and of the clip features
    steps: AttentionSpec = AttentionSpec()
    radius: PositiveInt = 8  # relative positions are told apart up to this many steps
    dropout: float = Field(0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _consistent(self) -> StgtSpec:
        if self.width % self.joints.heads or self.temporal % self.steps.heads:
            raise ValueError("width must be a multiple of joints.heads, and temporal of steps.heads")
        return self


class Stgt(Recogniser):
    """Reconstruction of STGT: joint tokens with a learned embedding a joint, attention over joints, then over time.

    The temporal transformer runs after the K5,P2,K5,P2 (our choice: a sixteenth of the attention's cost), with a bias
    by clipped relative position. `pool: mean` averages the joints; `flatten` keeps them apart up to a linear layer.
    """

    padding = Padding(6, 6, 4)

    def __init__(self, spec: StgtSpec, classes: int, source: KeypointInput) -> None:
        super().__init__()
        joints = len(source.joints)
        self.normalise = nn.BatchNorm1d(joints * CHANNELS)
        self.embed = nn.Linear(CHANNELS, spec.width)
        self.joint_embedding = nn.Parameter(torch.randn(joints, spec.width) * 0.5)
        self.joint_layers = nn.ModuleList(
            TransformerLayer(spec.width, spec.joints.heads, spec.joints.expansion, spec.dropout)
            for _ in range(spec.joints.layers)
        )
        self.pool = spec.pool
        pooled = spec.width * (joints if spec.pool == "flatten" else 1)
        self.frame = nn.Sequential(
            nn.Linear(pooled, spec.frame_width, bias=False), nn.BatchNorm1d(spec.frame_width), nn.ReLU()
        )
        self.temporal = TemporalConv(spec.frame_width, spec.temporal)
        self.step_layers = nn.ModuleList(
            TransformerLayer(spec.temporal, spec.steps.heads, spec.steps.expansion, spec.dropout, spec.radius)
            for _ in range(spec.steps.layers)
        )
        self.dropout = nn.Dropout(spec.dropout)
        self.classifier = nn.Linear(spec.temporal, classes)
        self.feature_dim = spec.temporal
        self.lookahead = -1 if spec.steps.layers else 6
        initialise(self)

    def run(self, rows: Tensor, time: Timeline) -> Output:
        """Rows (P,V,5) -> scores a step."""
        normal = self.normalise(rows.flatten(1)).unflatten(1, rows.shape[1:])
        tokens = self.embed(normal) + self.joint_embedding
        for layer in self.joint_layers:
            tokens = layer(tokens)
        frames = self.frame(tokens.flatten(1) if self.pool == "flatten" else tokens.mean(1))
        features, time = self.temporal(frames, time)
        mask = time.key_mask()
        for layer in self.step_layers:
            features = layer(features, mask)
        return Output(self.classifier(self.dropout(features)), time.lengths, features)

    def drop_training_parts(self) -> None:
        """It has none."""
