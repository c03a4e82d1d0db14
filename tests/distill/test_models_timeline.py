"""Packed and equal-length clips: what crosses frames never crosses clips, and both forms agree."""

from __future__ import annotations

import pytest
import torch

from distill.models.timeline import Equal, Packed, pack, pool_columns, thirds, trim, unpack

LENGTHS = torch.tensor([4, 12, 8])


def frames(channels: int = 7, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(int(LENGTHS.sum()), channels, 2, 3, generator=generator, dtype=dtype)


def slow_crossover(clip: torch.Tensor, source: list[int]) -> torch.Tensor:
    """TSCM word for word: channel c reads the frame source[c] = -1, 0, 1 away, the edge frame where there is none."""
    out = torch.empty_like(clip)
    for t in range(len(clip)):
        for c, offset in enumerate(source):
            out[t, c] = clip[min(max(t + offset, 0), len(clip) - 1), c]
    return out


def block_sources(channels: int) -> list[int]:
    a, b = thirds(channels)
    return [-1] * a + [0] * (b - a) + [1] * (channels - b)


def test_unpack_and_pack_are_inverse() -> None:
    rows = frames()
    batch = unpack(rows, LENGTHS)
    assert batch.shape == (3, 12, 7, 2, 3)
    assert not batch[0, 4:].any()
    assert torch.equal(batch[2, :8], rows[16:])
    assert torch.equal(pack(batch, LENGTHS), rows)


def test_trim_drops_the_edges_of_every_clip() -> None:
    rows = torch.arange(24)
    assert trim(rows, LENGTHS, 1, 2).tolist() == [1, *range(5, 14), *range(17, 22)]


@pytest.mark.parametrize("channels", [3, 7, 8, 24])
def test_crossover_matches_the_slow_reference_clip_by_clip(channels: int) -> None:
    rows = frames(channels)
    expected = torch.cat([slow_crossover(clip, block_sources(channels)) for clip in rows.split(LENGTHS.tolist())])
    assert torch.equal(Packed(LENGTHS).shift(rows), expected)


@pytest.mark.parametrize("channels", [7, 8, 9])
def test_blocks_are_the_papers_comb_under_a_permutation_of_channels(channels: int) -> None:
    comb = sorted(range(channels), key=lambda c: (c % 3, c))  # block position -> channel of the comb
    rows = frames(channels)[:4]
    combed = slow_crossover(rows, [c % 3 - 1 for c in range(channels)])
    assert torch.equal(Packed(torch.tensor([4])).shift(rows[:, comb]), combed[:, comb])


def test_crossover_gradient() -> None:
    lengths = torch.tensor([1, 4, 3])
    rows = torch.randn(8, 5, 1, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: Packed(lengths).shift(x), (rows,))


def test_crossover_keeps_channels_last() -> None:
    rows = frames(8).contiguous(memory_format=torch.channels_last)
    assert Packed(LENGTHS).shift(rows).is_contiguous(memory_format=torch.channels_last)


def test_equal_length_form_agrees_with_the_packed_form() -> None:
    rows = frames()
    packed, equal = Packed(torch.tensor([8, 8, 8])), Equal(3, 8)
    assert torch.equal(packed.shift(rows), equal.shift(rows))
    ours, after = packed.pool(rows)
    theirs, after_equal = equal.pool(rows)
    assert torch.equal(ours, theirs)
    assert after.lengths.tolist() == after_equal.lengths.tolist() == [4, 4, 4]
    vectors = rows.flatten(1)
    assert torch.equal(packed.batch_rows(vectors), equal.batch_rows(vectors))
    assert torch.equal(packed.batch(packed.columns(vectors)), equal.batch(equal.columns(vectors)))


def test_pool_never_mixes_clips() -> None:
    rows = frames()
    pooled, after = Packed(LENGTHS).pool(rows)
    expected = [clip.unflatten(0, (-1, 2)).amax(1) for clip in rows.split(LENGTHS.tolist())]
    assert torch.equal(pooled, torch.cat(expected))
    assert after.lengths.tolist() == [2, 6, 4]


def test_unpadded_convolution_on_packed_columns_equals_one_a_clip() -> None:
    rows, conv = frames().flatten(1), torch.nn.Conv1d(42, 5, 3)
    time = Packed(LENGTHS)
    columns, after = time.after_conv(conv(time.columns(rows)), 3)
    alone = [conv(clip.t()[None]) for clip in rows.split(LENGTHS.tolist())]
    torch.testing.assert_close(columns, torch.cat(alone, 2))
    assert after.lengths.tolist() == [2, 10, 6]
    pooled = after.after_pool().batch(pool_columns(columns))
    torch.testing.assert_close(pooled[1, :5], pool_columns(alone[1])[0].t())


def test_key_mask_marks_real_steps() -> None:
    mask = Packed(torch.tensor([1, 3])).key_mask()
    assert mask is not None
    assert mask[:, 0, 0].tolist() == [[True, False, False], [True, True, True]]
    assert Equal(2, 3).key_mask() is None
