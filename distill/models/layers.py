"""Building blocks that the recognisers share: residual blocks, spatial pooling, the temporal K5,P2,K5,P2, attention."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from distill.models.timeline import Timeline, pool_columns

SpatialKind = Literal["mean", "grid"]


def initialise(network: nn.Module) -> None:
    """Kaiming (fan out, ReLU) for convolutions, so that a network with batch normalisation trains from scratch."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv1d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def conv_out(size: int, stride: int) -> int:
    """Side of the output of a convolution or pool with odd kernel k and padding k // 2."""
    return -(-size // stride)


class ConvBn(nn.Sequential):
    """Convolution without bias, padded to keep the size at stride 1, and batch normalisation."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
        )


class ResidualBlock(nn.Module):
    """Basic residual block on rows (P,C,h,w); with `crossover`, TSCM stands in front of both of its convolutions.

    The shortcut is not shifted.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, crossover: bool = False) -> None:
        super().__init__()
        self.crossover = crossover
        self.first = ConvBn(inputs, outputs, 3, stride)
        self.second = ConvBn(outputs, outputs, 3)
        same = inputs == outputs and stride == 1
        self.shortcut: nn.Module = nn.Identity() if same else ConvBn(inputs, outputs, 1, stride)

    def forward(self, rows: Tensor, time: Timeline) -> Tensor:
        """Rows (P,C,h,w) -> (P,C',h',w')."""
        inner = torch.relu(self.first(time.shift(rows) if self.crossover else rows))
        inner = self.second(time.shift(inner) if self.crossover else inner)
        return torch.relu(inner + self.shortcut(rows))


class Stage(nn.Module):
    """Residual blocks of one width, the first of which strides."""

    def __init__(self, inputs: int, width: int, blocks: int, stride: int, crossover: bool = False) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ResidualBlock(width if i else inputs, width, 1 if i else stride, crossover) for i in range(blocks)
        )

    def forward(self, rows: Tensor, time: Timeline) -> Tensor:
        """Rows (P,C,h,w) -> (P,C',h',w')."""
        for block in self.blocks:
            rows = block(rows, time)
        return rows


class SpatialPool(nn.Module):
    """Frame maps (P,C,h,w) -> frame features (P,`dim`).

    `mean` averages over positions (the papers' way). `grid` keeps them: flatten, linear, batch normalisation, ReLU;
    networks trained from scratch on little data learn where the hands are far sooner with it.
    """

    def __init__(self, kind: SpatialKind, shape: tuple[int, int, int], width: int) -> None:
        super().__init__()
        channels, height, _ = shape
        self.dim = channels if kind == "mean" else width
        self.grid: nn.Module | None = None
        if kind == "grid":
            cells = channels * height * shape[2]
            self.grid = nn.Sequential(nn.Linear(cells, width, bias=False), nn.BatchNorm1d(width), nn.ReLU())

    def forward(self, rows: Tensor) -> Tensor:
        """(P,C,h,w) -> (P,dim)."""
        return rows.mean((2, 3)) if self.grid is None else self.grid(rows.flatten(1))


class TemporalConv(nn.Module):
    """K5,P2,K5,P2 of VAC (Min et al., ICCV 2021): unpadded Conv1d, BN, ReLU, max-pool 2, twice; 4 frames a step.

    With the input padding (6, 6, 4) the number of steps is exactly ceil(T / 4).
    """

    kernel = 5

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv1d(channels, width, self.kernel, bias=False) for channels in (inputs, width))
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(2))

    def forward(self, rows: Tensor, time: Timeline) -> tuple[Tensor, Timeline]:
        """Rows (P,C) -> clip features (B,N,width) and the timeline of the steps."""
        return self.on_columns(time.columns(rows), time)

    def on_columns(self, columns: Tensor, time: Timeline) -> tuple[Tensor, Timeline]:
        """The same on columns (clips or 1,C,T)."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            columns, time = time.after_conv(conv(columns), self.kernel)
            columns, time = pool_columns(torch.relu(norm(columns))), time.after_pool()
        return time.batch(columns), time


class Attention(nn.Module):
    """Multi-head self-attention written out as matrix products and a softmax, which quantise and export plainly."""

    def __init__(self, width: int, heads: int, radius: int | None = None) -> None:
        """`radius`: adds a learned bias by relative position, distances clipped to it; None: no notion of order."""
        super().__init__()
        self.heads, self.radius = heads, radius
        self.scale = (width // heads) ** -0.5
        self.query_key_value = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.relative = None if radius is None else nn.Parameter(torch.zeros(heads, 2 * radius + 1))

    def forward(self, x: Tensor, key_mask: Tensor | None = None) -> Tensor:
        """x (B,N,width); key_mask (B,1,1,N) bool, True where a key is real -> (B,N,width)."""
        tokens = x.shape[1]
        query, key, value = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.query_key_value(x).chunk(3, -1)
        )
        scores = (query * self.scale) @ key.transpose(2, 3)
        if self.relative is not None and self.radius is not None:
            position = torch.arange(tokens, device=x.device)
            distance = (position[None] - position[:, None]).clamp(-self.radius, self.radius) + self.radius
            scores = scores + self.relative[:, distance]
        if key_mask is not None:
            scores = scores.masked_fill(~key_mask, float("-inf"))
        return self.project((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))


class TransformerLayer(nn.Module):
    """Pre-norm transformer layer: attention and a two-layer network, each on a residual branch."""

    def __init__(self, width: int, heads: int, expansion: float, dropout: float, radius: int | None = None) -> None:
        super().__init__()
        inner = int(width * expansion)
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads, radius)
        self.feed_norm = nn.LayerNorm(width)
        self.feed = nn.Sequential(nn.Linear(width, inner), nn.ReLU(), nn.Dropout(dropout), nn.Linear(inner, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, key_mask: Tensor | None = None) -> Tensor:
        """(B,N,width) -> (B,N,width)."""
        x = x + self.dropout(self.attention(self.attention_norm(x), key_mask))
        return x + self.dropout(self.feed(self.feed_norm(x)))
