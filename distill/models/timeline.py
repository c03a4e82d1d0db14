"""How the rows of a network (frames, later steps) are arranged into clips, and the operations that must respect it.

A network works on rows: every frame of every clip, one after the other, on the first axis. What crosses rows (shift,
temporal convolution, pooling, attention) asks the timeline. `Packed` is the training form: clips of different
lengths without any padding between them, so batch statistics see real frames only. `Equal` is the inference form:
clips of one length, written as slices and reshapes that export with a dynamic number of frames.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor


def valid_steps(lengths: Tensor, steps: int) -> Tensor:
    """(B,) lengths -> (B,steps) bool, True where a step belongs to its clip."""
    return torch.arange(steps, device=lengths.device) < lengths[:, None]


def unpack(rows: Tensor, lengths: Tensor) -> Tensor:
    """Packed rows (P,...) -> (B,max(lengths),...), zeros after each clip's end."""
    valid = valid_steps(lengths, int(lengths.max()))
    batch = rows.new_zeros((*valid.shape, *rows.shape[1:]))
    batch[valid] = rows
    return batch


def pack(batch: Tensor, lengths: Tensor) -> Tensor:
    """(B,N,...) -> packed rows (sum(lengths),...): the inverse of `unpack`."""
    return batch[valid_steps(lengths, batch.shape[1])]


def trim(rows: Tensor, lengths: Tensor, left: int, right: int) -> Tensor:
    """Drop the first `left` and last `right` rows of every packed clip.

    Aligns the frames of a network with edge padding to those of one without: (6, 6) on a teacher's frame maps.
    """
    ends = lengths.cumsum(0)
    position = torch.arange(rows.shape[0], device=rows.device)
    clip = torch.repeat_interleave(torch.arange(len(lengths), device=rows.device), lengths)
    return rows[(position >= (ends - lengths)[clip] + left) & (position < ends[clip] - right)]


def thirds(channels: int) -> tuple[int, int]:
    """Where the block of the previous frame ends and that of the next frame begins: as many channels as c mod 3 = 0, 1, 2 have."""
    previous = (channels + 2) // 3
    return previous, previous + (channels + 1) // 3


def pool_columns(columns: Tensor) -> Tensor:
    """Max over pairs of steps, (B,C,T) -> (B,C,T//2). 2D on purpose: the exporter freezes T in MaxPool1d."""
    return F.max_pool2d(columns.unsqueeze(-1), (2, 1)).squeeze(-1)


class Timeline(ABC):
    """The arrangement of rows into clips. `lengths` (B,) int64 counts the rows of each clip."""

    lengths: Tensor

    @abstractmethod
    def shift(self, rows: Tensor) -> Tensor:
        """TSCM, the temporal superimposed crossover (arXiv 2211.03387): rows (P,C,h,w) -> (P,C,h,w).

        A third of the channels comes from the previous frame, a third stays, a third comes from the next frame; the
        first and last frame of a clip stand in for the missing neighbour. The paper interleaves the thirds (channel
        mod 3); here they are contiguous blocks of the same sizes. That is the same map under a fixed permutation of
        channels, which the convolutions on both sides absorb, and slices are cheaper than a comb everywhere.
        """

    @abstractmethod
    def pool(self, rows: Tensor) -> tuple[Tensor, Timeline]:
        """Max over pairs of rows of the same clip, (P,C,h,w) -> (P/2,C,h,w), and the timeline afterwards."""

    @abstractmethod
    def columns(self, rows: Tensor) -> Tensor:
        """Rows (P,C) -> the layout of Conv1d, (clips or 1,C,T)."""

    @abstractmethod
    def after_conv(self, columns: Tensor, kernel: int) -> tuple[Tensor, Timeline]:
        """Keep what an unpadded convolution of odd `kernel` computed inside one clip, and the timeline afterwards."""

    @abstractmethod
    def after_pool(self) -> Timeline:
        """The timeline after `pool_columns`."""

    @abstractmethod
    def batch(self, columns: Tensor) -> Tensor:
        """The layout of Conv1d -> (B,N,C), zeros after each clip's end."""

    @abstractmethod
    def batch_rows(self, rows: Tensor) -> Tensor:
        """Rows (P,C) -> (B,N,C), zeros after each clip's end."""

    @abstractmethod
    def key_mask(self) -> Tensor | None:
        """(B,1,1,N) bool, True where a key of attention is real; None if all are."""


class Packed(Timeline):
    """Clips of different lengths one after the other with nothing between them; lengths are even wherever `pool` is called."""

    def __init__(self, lengths: Tensor) -> None:
        self.lengths = lengths
        self._edges: tuple[Tensor, Tensor] | None = None

    def _first_and_last(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        if self._edges is None:
            ends = self.lengths.cumsum(0)
            first = torch.zeros(rows.shape[0], dtype=torch.bool, device=rows.device)
            last = first.clone()
            first[ends - self.lengths] = True
            last[ends - 1] = True
            self._edges = first.view(-1, 1, 1, 1), last.view(-1, 1, 1, 1)
        return self._edges

    def shift(self, rows: Tensor) -> Tensor:
        first, last = self._first_and_last(rows)
        a, b = thirds(rows.shape[1])
        past, present, future = rows[:, :a], rows[:, a:b], rows[:, b:]
        past = torch.where(first, past, past.roll(1, 0))
        future = torch.where(last, future, future.roll(-1, 0))
        return torch.cat([past, present, future], 1)

    def pool(self, rows: Tensor) -> tuple[Tensor, Timeline]:
        return torch.maximum(rows[0::2], rows[1::2]), self.after_pool()

    def columns(self, rows: Tensor) -> Tensor:
        return rows.t().unsqueeze(0)

    def after_conv(self, columns: Tensor, kernel: int) -> tuple[Tensor, Timeline]:
        clip = torch.repeat_interleave(torch.arange(len(self.lengths), device=columns.device), self.lengths)
        inside = clip[: -(kernel - 1)] == clip[kernel - 1 :]
        return columns[..., inside], Packed(self.lengths - (kernel - 1))

    def after_pool(self) -> Timeline:
        return Packed(self.lengths // 2)

    def batch(self, columns: Tensor) -> Tensor:
        return self.batch_rows(columns.squeeze(0).t())

    def batch_rows(self, rows: Tensor) -> Tensor:
        return unpack(rows, self.lengths)

    def key_mask(self) -> Tensor | None:
        return valid_steps(self.lengths, int(self.lengths.max()))[:, None, None]


class Equal(Timeline):
    """`clips` clips of `steps` rows each, the batch in front of time."""

    def __init__(self, clips: int, steps: int) -> None:
        self.clips, self.steps = clips, steps

    @property
    def lengths(self) -> Tensor:  # type: ignore[override]
        return torch.full((self.clips,), self.steps, dtype=torch.int64)

    def shift(self, rows: Tensor) -> Tensor:
        a, b = thirds(rows.shape[1])
        clips = rows.unflatten(0, (self.clips, self.steps))
        past = torch.cat([clips[:, :1, :a], clips[:, :-1, :a]], 1)
        future = torch.cat([clips[:, 1:, b:], clips[:, -1:, b:]], 1)
        return torch.cat([past, clips[:, :, a:b], future], 2).flatten(0, 1)

    def pool(self, rows: Tensor) -> tuple[Tensor, Timeline]:
        after = Equal(self.clips, self.steps // 2)
        flat = rows.reshape(self.clips, 1, self.steps, rows.shape[1] * rows.shape[2] * rows.shape[3])
        pooled = F.max_pool2d(flat, (2, 1))
        return pooled.reshape(after.clips * after.steps, *rows.shape[1:]), after

    def columns(self, rows: Tensor) -> Tensor:
        return rows.unflatten(0, (self.clips, self.steps)).transpose(1, 2)

    def after_conv(self, columns: Tensor, kernel: int) -> tuple[Tensor, Timeline]:
        return columns, Equal(self.clips, self.steps - (kernel - 1))

    def after_pool(self) -> Timeline:
        return Equal(self.clips, self.steps // 2)

    def batch(self, columns: Tensor) -> Tensor:
        return columns.transpose(1, 2)

    def batch_rows(self, rows: Tensor) -> Tensor:
        return rows.unflatten(0, (self.clips, self.steps))

    def key_mask(self) -> Tensor | None:
        return None
