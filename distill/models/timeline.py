"""How the rows of a network (frames, later steps) are arranged into clips, and the operations that must respect it.

A network works on rows: every frame of every clip, one after the other, on the first axis. What crosses rows (shift,
temporal convolution, pooling, attention) asks the timeline. `Packed` is the training form: clips of different
lengths without any padding between them, so batch statistics see real frames only. `Equal` is the inference form:
clips of one length, written as slices and reshapes that export with a dynamic number of frames.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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
    """Where the previous frame's block of channels ends and the next frame's begins.

    The three blocks have as many channels as there are c with c mod 3 = 0, 1 and 2.
    """
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
        """Rows (P,...) -> time as the last axis, (clips or 1,...,T): the layout of Conv1d for rows (P,C)."""

    @abstractmethod
    def convolve(self, conv: nn.Conv2d, columns: Tensor) -> Tensor:
        """A convolution over time that keeps the number of steps, (clips or 1,C,V,T) -> (clips or 1,C',V,T).

        `conv` has an odd kernel (1,k) and pads k // 2 zeros: what it reads beyond the ends of a clip is zero.
        """

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


class PackedShift(torch.autograd.Function):
    """`Timeline.shift` on packed rows, its gradient by hand: block copies, 2 to 4 times as fast as roll or gather.

    first, last: (B,) row numbers of each clip's first and last frame.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, first: Tensor, last: Tensor) -> Tensor:
        ctx.save_for_backward(first, last)
        a, b = thirds(rows.shape[1])
        shifted = torch.empty_like(rows)
        shifted[1:, :a] = rows[:-1, :a]
        shifted[:, a:b] = rows[:, a:b]
        shifted[:-1, b:] = rows[1:, b:]
        shifted[first, :a] = rows[first, :a]
        shifted[last, b:] = rows[last, b:]
        return shifted

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        first, last = ctx.saved_tensors
        a, b = thirds(gradient.shape[1])
        back = torch.empty_like(gradient)
        back[:-1, :a] = gradient[1:, :a]
        back[:, a:b] = gradient[:, a:b]
        back[1:, b:] = gradient[:-1, b:]
        # A clip's last frame is nobody's past and its first nobody's future; both are their own missing neighbour.
        back[last, :a] = 0
        back[first, b:] = 0
        back[first, :a] += gradient[first, :a]
        back[last, b:] += gradient[last, b:]
        return back, None, None


class Packed(Timeline):
    """Clips of different lengths one after the other with nothing between them. `pool` needs even lengths."""

    def __init__(self, lengths: Tensor) -> None:
        self.lengths = lengths

    def shift(self, rows: Tensor) -> Tensor:
        ends = self.lengths.cumsum(0)
        shifted: Tensor = PackedShift.apply(rows, ends - self.lengths, ends - 1)
        return shifted

    def pool(self, rows: Tensor) -> tuple[Tensor, Timeline]:
        return torch.maximum(rows[0::2], rows[1::2]), self.after_pool()

    def columns(self, rows: Tensor) -> Tensor:
        return rows.movedim(0, -1).unsqueeze(0)

    def convolve(self, conv: nn.Conv2d, columns: Tensor) -> Tensor:
        apart = conv.kernel_size[1] // 2  # as many zeros as that between two clips, and neither reads the other
        clip = torch.repeat_interleave(torch.arange(len(self.lengths), device=columns.device), self.lengths)
        place = torch.arange(columns.shape[-1], device=columns.device) + apart * clip
        spaced = columns.new_zeros((*columns.shape[:-1], columns.shape[-1] + apart * (len(self.lengths) - 1)))
        kept: Tensor = conv(spaced.index_copy(-1, place, columns)).index_select(-1, place)
        return kept

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
        past, present, future = clips[:, :, :a], clips[:, :, a:b], clips[:, :, b:]
        past = torch.cat([past[:, :1], past[:, :-1]], 1)
        future = torch.cat([future[:, 1:], future[:, -1:]], 1)
        return torch.cat([past, present, future], 2).flatten(0, 1)

    def pool(self, rows: Tensor) -> tuple[Tensor, Timeline]:
        after = Equal(self.clips, self.steps // 2)
        flat = rows.reshape(self.clips, 1, self.steps, rows.shape[1] * rows.shape[2] * rows.shape[3])
        pooled = F.max_pool2d(flat, (2, 1))
        return pooled.reshape(after.clips * after.steps, *rows.shape[1:]), after

    def columns(self, rows: Tensor) -> Tensor:
        return rows.unflatten(0, (self.clips, self.steps)).movedim(1, -1)

    def convolve(self, conv: nn.Conv2d, columns: Tensor) -> Tensor:
        kept: Tensor = conv(columns)
        return kept

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
