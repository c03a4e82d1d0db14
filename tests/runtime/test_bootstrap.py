"""Bootstrap intervals: right values, honest widths, same seed same numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from runtime.bootstrap import interval, paired_interval
from runtime.errors import BadInput


def test_the_value_is_the_corpus_rate_inside_its_interval() -> None:
    result = interval([1, 0, 2, 0], [10, 5, 5, 20], resamples=500)
    assert result.value == pytest.approx(7.5)
    assert result.low <= result.value <= result.high
    assert (result.level, result.resamples, result.pairs) == (0.95, 500, 4)
    assert all(type(number) is float for number in result[:3])


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others() -> None:
    errors, words = np.arange(40) % 4, np.arange(5, 45)
    assert interval(errors, words, resamples=99, seed=3) == interval(errors, words, resamples=99, seed=3)
    assert interval(errors, words, resamples=99, seed=3) != interval(errors, words, resamples=99, seed=4)


def test_the_interval_has_the_width_that_theory_gives() -> None:
    """Clips of one word that are right or wrong: the corpus rate is binomial with a known deviation."""
    clips, rate = 2000, 0.2
    errors = np.zeros(clips)
    errors[: int(clips * rate)] = 1
    result = interval(errors, np.ones(clips), resamples=4000)
    deviation = 100 * math.sqrt(rate * (1 - rate) / clips)
    assert result.high - result.low == pytest.approx(2 * 1.96 * deviation, rel=0.08)
    assert result.low + result.high == pytest.approx(2 * result.value, abs=0.3 * deviation)
    narrow = interval(errors, np.ones(clips), level=0.5, resamples=4000)
    assert narrow.high - narrow.low == pytest.approx(2 * 0.674 * deviation, rel=0.08)


def test_no_spread_where_every_clip_is_alike() -> None:
    result = interval([1] * 6, [4] * 6, resamples=50)
    assert (result.value, result.low, result.high) == (25.0, 25.0, 25.0)


def test_pairing_finds_a_small_steady_gain_that_the_single_intervals_hide() -> None:
    rng = np.random.default_rng(0)
    words = rng.integers(5, 15, size=300)
    hard = rng.integers(0, 6, size=300)  # what makes a clip hard for both
    better = np.where(rng.random(300) < 0.3, np.maximum(hard - 1, 0), hard)
    difference = paired_interval(better, hard, words, resamples=2000)
    assert difference.value == pytest.approx(100 * (better.sum() - hard.sum()) / words.sum())
    assert difference.high < 0
    first, second = interval(better, words, resamples=2000), interval(hard, words, resamples=2000)
    assert first.high > second.low  # unpaired, the two overlap


def test_equal_systems_differ_by_nothing_and_noise_includes_zero() -> None:
    rng = np.random.default_rng(1)
    words = np.full(100, 8)
    one, other = rng.integers(0, 4, size=100), rng.integers(0, 4, size=100)
    same = paired_interval(one, one, words, resamples=200)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    noise = paired_interval(one, other, words, resamples=2000)
    assert noise.low < 0 < noise.high
    mirrored = paired_interval(other, one, words, resamples=2000)
    assert (mirrored.low, mirrored.high) == pytest.approx((-noise.high, -noise.low))


def test_many_clips_are_drawn_in_blocks() -> None:
    clips = 1_500_000
    result = interval(np.ones(clips, dtype=int), np.full(clips, 2), resamples=3)
    assert (result.low, result.high) == (50.0, 50.0)


def test_a_draw_of_wordless_clips_only_is_left_out() -> None:
    result = interval([1, 1], [0, 4], resamples=200)
    assert result.value == 50.0
    assert math.isfinite(result.low)
    assert math.isfinite(result.high)


@pytest.mark.parametrize(
    ("errors", "words", "options", "message"),
    [
        ([], [], {}, "no reference words"),
        ([0], [0], {}, "no reference words"),
        ([1, 2], [3], {}, "expected one number"),
        ([-1], [3], {}, "negative"),
        ([float("nan")], [3], {}, "non-finite"),
        ([1], [3], {"level": 1.0}, "level"),
        ([1], [3], {"resamples": 0}, "resamples"),
    ],
)
def test_bad_input_is_refused(errors: list[float], words: list[int], options: dict[str, float], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        interval(errors, words, **options)


def test_paired_systems_must_have_read_the_same_clips() -> None:
    with pytest.raises(BadInput, match="errors_b has shape"):
        paired_interval([1, 2], [1], [3, 3])
