"""What every recogniser is: packed clips in, class scores a step out, and an inference form for export."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from distill.models.timeline import Equal, Packed, Timeline
from runtime.contract import Padding


class Spec(BaseModel):
    """Base of the specs that describe a network: unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass
class Output:
    """What a recogniser computes for a batch of B clips; steps at or after `lengths[i]` are meaningless."""

    logits: Tensor  # (B,N,K) raw class scores
    lengths: Tensor  # (B,) int64 valid output steps, ceil(T_i / 4)
    features: Tensor  # (B,N,D) clip-level features in front of the classifier
    frame_maps: Tensor | None = None  # (P,C,h,w) frame-level maps of all packed frames; None for skeleton networks
    auxiliary: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # training: (logits (B,N',K), lengths (B,))


class Recogniser(nn.Module, ABC):
    """A network from clips to class scores a step; class 0 is the CTC blank."""

    padding: Padding  # what its input needs
    feature_dim: int  # D of Output.features
    frame_map_shape: tuple[int, int, int] | None = None  # (C,h,w) of Output.frame_maps
    lookahead: int = -1  # frames after a step's own four that it depends on; -1: the whole clip

    @abstractmethod
    def run(self, rows: Tensor, time: Timeline) -> Output:
        """The network on rows (P,...) arranged by `time`; one definition for training and inference."""

    @abstractmethod
    def drop_training_parts(self) -> None:
        """Remove what only training needs (auxiliary heads), in place."""

    def forward(self, x: Tensor, lengths: Tensor) -> Output:
        """Packed frames x (P,3,H,W) or (P,V,5) float32, P = sum(lengths); lengths (B,) int64 of the padded clips."""
        if x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        return self.run(x, Packed(lengths))

    def inference(self) -> nn.Module:
        """A copy in evaluation mode: x (B,T',...) of equal lengths -> log-probabilities (B,N,K), no training parts."""
        network = copy.deepcopy(self)
        network.drop_training_parts()
        return Inference(network).eval()


class Inference(nn.Module):
    """The form of a recogniser that is exported: clips of one length in, log-probabilities out."""

    def __init__(self, network: Recogniser) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """x (B,T',3,H,W) or (B,T',V,5) float32 -> (B,N,K) float32."""
        out = self.network.run(x.flatten(0, 1), Equal(x.shape[0], x.shape[1]))
        return out.logits.log_softmax(-1)

    def train(self, mode: bool = True) -> Any:
        """Always in evaluation mode."""
        return super().train(False)
