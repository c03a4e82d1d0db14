"""Bootstrap intervals of word error rates: how far the figure could move had other clips been recorded.

Method: Bisani & Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP 2004. Clips
are drawn with replacement, whole, because the errors inside one clip depend on each other; each draw gives a corpus
WER; the interval is taken from the percentiles of these. Two systems are compared on the same draws.
"""

from __future__ import annotations

from typing import Iterator, NamedTuple, Sequence, Union

import numpy as np

from runtime.errors import BadInput

Numbers = Union[Sequence[int], np.ndarray]


class Interval(NamedTuple):
    """A quantity in WER points (percent of reference words) with its bootstrap percentile interval."""

    value: float
    low: float
    high: float
    level: float
    resamples: int
    pairs: int  # clips that were drawn from


def _column(name: str, numbers: Numbers, clips: int) -> np.ndarray:
    column = np.asarray(numbers, dtype=np.float64)
    if column.shape != (clips,):
        raise BadInput(f"bootstrap: {name} has shape {column.shape}, expected one number for each of {clips} clips")
    if not np.isfinite(column).all() or (column < 0).any():
        raise BadInput(f"bootstrap: {name} holds a negative or non-finite number")
    return column


def _draws(clips: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Index arrays (rows, clips) that are `resamples` rows in all; in blocks, so that memory stays near 16 MB."""
    generator = np.random.default_rng(seed)
    block = max(1, 2**21 // clips)
    for start in range(0, resamples, block):
        yield generator.integers(0, clips, size=(min(block, resamples - start), clips))


def _rate(errors: np.ndarray, words: np.ndarray, level: float, resamples: int, seed: int) -> Interval:
    if words.sum() == 0:
        raise BadInput("bootstrap: the clips have no reference words, so there is no word error rate")
    if not 0 < level < 1 or resamples < 1:
        raise BadInput(f"bootstrap: level must lie between 0 and 1 and resamples be positive, got {level}, {resamples}")
    drawn = [(errors[index].sum(axis=1), words[index].sum(axis=1)) for index in _draws(len(words), resamples, seed)]
    numerators = np.concatenate([pair[0] for pair in drawn])
    denominators = np.concatenate([pair[1] for pair in drawn])
    some = denominators > 0  # a draw of nothing but wordless clips has no rate
    rates = 100.0 * numerators[some] / denominators[some]
    low, high = np.quantile(rates, [(1 - level) / 2, (1 + level) / 2])
    value = 100.0 * errors.sum() / words.sum()
    return Interval(float(value), float(low), float(high), level, resamples, len(words))


def interval(errors: Numbers, words: Numbers, level: float = 0.95, resamples: int = 10_000, seed: int = 0) -> Interval:
    """Percentile interval of the corpus WER of one system, in percent.

    `errors` and `words` hold the errors and the reference words of each clip, (clips,). The same seed gives the same
    numbers. Raises `BadInput` for unequal lengths, negative numbers, or clips without any reference word.
    """
    clips = len(words)
    return _rate(_column("errors", errors, clips), _column("words", words, clips), level, resamples, seed)


def paired_interval(
    errors_a: Numbers,
    errors_b: Numbers,
    words: Numbers,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Percentile interval of WER(a) - WER(b), in points, of two systems that read the same clips.

    Each draw takes the same clips for both, so what makes a clip hard for both cancels. An interval that includes 0
    says that this many clips do not tell the two apart. Arguments and errors as in `interval`.
    """
    clips = len(words)
    difference = _column("errors_a", errors_a, clips) - _column("errors_b", errors_b, clips)
    return _rate(difference, _column("words", words, clips), level, resamples, seed)
