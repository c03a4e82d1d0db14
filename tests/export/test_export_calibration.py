"""Calibration: the clips drawn and the ranges found."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from distill.corpus.schema import ClipRow
from export.calibration import choose_clips, fingerprint, least_error, minmax, percentile, ranges
from export.onnx_graph import ExportReport, read_model
from runtime.errors import BadInput


def rows(count: int, signers: int = 3, seed: int = 0) -> list[ClipRow]:
    rng = np.random.default_rng(seed)
    return [
        ClipRow(
            id=f"c{i}", split="train", signer=f"s{rng.integers(signers)}", glosses=["A"], fps=25,
            frames=int(rng.gamma(4, 20)) + 8, video=f"c{i}.npy",
        )
        for i in range(count)
    ]  # fmt: skip


def test_lengths_and_signers_follow_the_corpus() -> None:
    everything = rows(600)
    chosen = choose_clips(everything, 48, seed=1)
    assert len({row.id for row in chosen}) == 48
    for share in (0.1, 0.5, 0.9):
        wanted = np.quantile([row.frames for row in everything], share)
        assert np.quantile([row.frames for row in chosen], share) == pytest.approx(wanted, rel=0.1)
    shares, wanted_shares = Counter(row.signer for row in chosen), Counter(row.signer for row in everything)
    for signer, number in wanted_shares.items():
        assert shares[signer] / 48 == pytest.approx(number / 600, abs=0.03)


def test_same_seed_draws_the_same_clips_and_another_seed_others() -> None:
    everything = rows(200)
    first = fingerprint(choose_clips(everything, 20, seed=1))
    assert fingerprint(choose_clips(everything, 20, seed=1)) == first
    assert fingerprint(choose_clips(everything, 20, seed=2)) != first


def test_few_clips_are_all_taken_and_none_is_an_error() -> None:
    assert [row.id for row in choose_clips(rows(3), 48, seed=0)] == ["c0", "c1", "c2"]
    with pytest.raises(BadInput, match="no training clips"):
        choose_clips([], 48, seed=0)
    with pytest.raises(BadInput, match="one clip at least"):
        choose_clips(rows(3), 0, seed=0)


def test_methods_differ_as_they_promise() -> None:
    sample = np.random.default_rng(0).normal(size=200_000).astype(np.float32)
    sample[0] = 1000.0  # one outlier
    low, high = float(sample.min()), float(sample.max())
    assert minmax(sample, low, high) == (low, high)
    assert percentile(sample, low, high)[1] < 10
    inner = least_error(sample, low, high)
    assert inner[0] >= low and inner[1] <= high
    sample = np.abs(np.random.default_rng(1).standard_t(4, 100_000)).astype(np.float32)
    low, high = 0.0, float(sample.max())
    assert least_error(sample, low, high)[1] < high  # clipping the tail pays


def test_ranges_are_those_of_the_tensors(exported: ExportReport, tmp_path: Path) -> None:
    clips = [np.full((1, 8, 3, 8, 8), value, np.float32) for value in (-0.25, 0.75)]
    model = read_model(exported.path)
    found = ranges(model, ["input"], clips, "minmax", tmp_path)
    assert found == {"input": (-0.25, 0.75)}
    found = ranges(model, ["input"], clips[1:], "minmax", tmp_path)
    assert found == {"input": (0.0, 0.75)}  # zero is always inside
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 7, -1])
def test_one_value_that_is_not_finite_is_seen(
    strange: float, place: int, exported: ExportReport, tmp_path: Path
) -> None:
    clips = [np.zeros((1, 8, 3, 8, 8), np.float32) for _ in range(2)]
    clips[0].reshape(-1)[place] = strange
    with pytest.raises(BadInput, match="tensor input is not finite"):
        ranges(read_model(exported.path), ["input"], clips, "minmax", tmp_path)


def test_bad_requests_are_told(exported: ExportReport, tmp_path: Path) -> None:
    model, clip = read_model(exported.path), np.zeros((1, 8, 3, 8, 8), np.float32)
    with pytest.raises(BadInput, match="no clips"):
        ranges(model, ["input"], [], "minmax", tmp_path)
    with pytest.raises(BadInput, match="no calibration method 'magic'"):
        ranges(model, ["input"], [clip], "magic", tmp_path)
