"""Calls that race: timed in turns on the same inputs in one run, so that their ratios hold on a busy machine."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from runtime.errors import BadInput

FEWEST_ROUNDS = 5
PAUSE = 0.002  # s before each turn: worker threads of the one before stop spinning
LEVEL, RESAMPLES = 0.95, 2000


class Ratio(NamedTuple):
    """How many times longer one takes than another: median of the paired ratios, with its bootstrap interval."""

    value: float
    low: float
    high: float
    pairs: int


def race(
    calls: Mapping[str, Callable[[np.ndarray], Any]],
    inputs: Sequence[np.ndarray],
    seconds: float = 10.0,
    fewest: int = FEWEST_ROUNDS,
    clock: Callable[[], int] = time.perf_counter_ns,
    progress: Callable[[int], None] = lambda rounds: None,
) -> dict[str, np.ndarray]:
    """Time `calls` on `inputs` in rounds, for `seconds` and at least `fewest` rounds; (rounds, inputs) ns of each.

    Every input meets every call in each round, one call after the other, in an order that is drawn anew, so that none
    suffers from one neighbour alone. Each turn is one call outside the clock, which takes the caches back, and one
    inside. Before the first round every call sees every input once. Raises `BadInput` if there is nothing to time.
    """
    if not calls or not inputs:
        raise BadInput("nothing to time: at least one system and one input are needed")
    names = list(calls)
    for call in calls.values():
        for x in inputs:
            call(x)
    rounds: list[np.ndarray] = []
    order = np.random.default_rng(0)
    started = time.monotonic()
    while len(rounds) < fewest or time.monotonic() - started < seconds:
        times = np.zeros((len(names), len(inputs)))
        for i, x in enumerate(inputs):
            for turn in order.permutation(len(names)):
                time.sleep(PAUSE)
                times[turn, i] = _timed(calls[names[turn]], x, clock)
        rounds.append(times)
        progress(len(rounds))
    taken = np.array(rounds)
    return {name: taken[:, turn] for turn, name in enumerate(names)}


def ratio(slower: np.ndarray, faster: np.ndarray, seed: int = 0) -> Ratio:
    """The times `slower` over the times `faster` of the same race: above 1 where the names are right.

    A pair is what both took on one input in one round, milliseconds apart. The interval (95 %) draws pairs anew.
    """
    pairs = (slower / faster).reshape(-1)
    drawn = np.random.default_rng(seed).integers(0, pairs.size, (RESAMPLES, pairs.size))
    medians = np.median(pairs[drawn], axis=1)
    low, high = np.quantile(medians, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Ratio(float(np.median(pairs)), float(low), float(high), pairs.size)


def _timed(call: Callable[[np.ndarray], Any], x: np.ndarray, clock: Callable[[], int]) -> int:
    with no_garbage_collection():
        call(x)
        before = clock()
        call(x)
        return clock() - before


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """No pause of Python's own inside the clock."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
