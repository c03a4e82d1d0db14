"""Latency: the logic of warm-up, rounds and percentiles under a clock that the tests wind themselves."""

from __future__ import annotations

import gc
from types import SimpleNamespace

import numpy as np
import pytest

from bench.latency import Timing, TimingPlan, minimum_samples, ratio, time_systems, warm_up
from runtime.errors import BadInput

MS = 1_000_000


class Clock:
    """Time that passes only when a system says so, in ns."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


class Slow:
    """Takes `cost(call number, frames)` ms a call."""

    def __init__(self, name, clock, cost, log=None):
        self.name, self.clock, self.cost, self.calls, self.log = name, clock, cost, 0, log

    def prepare(self, clip):
        self.clock.now += 2 * MS
        return np.zeros((1, len(clip.keypoints), 3, 5), np.float32)

    def log_probs(self, x):
        self.clock.now += int(self.cost(self.calls, x.shape[1]) * MS)
        self.calls += 1
        if self.log is not None:
            self.log.append(self.name)
        return x


def clips(*lengths, fps=10.0):
    return [SimpleNamespace(frames=None, keypoints=np.zeros((n, 49, 3), np.float32), fps=fps) for n in lengths]


def run(systems, some, clock, **plan):
    plan = {"min_samples": 8, "max_samples": 8, **plan}
    return time_systems(systems, some, 1, TimingPlan(**plan), clock, pause=lambda seconds: None)


def test_samples_needed_are_those_of_the_binomial_bound():
    assert (minimum_samples(90), minimum_samples(99)) == (64, 662)  # MLPerf LoadGen's figures
    assert (minimum_samples(90, discarded=0), minimum_samples(99, discarded=0)) == (44, 459)


def test_figures_of_a_steady_system():
    clock = Clock()
    timing = run([Slow("a", clock, lambda call, frames: frames * 0.5)], clips(10, 20, 40), clock)["a"]
    latency = timing.latency()
    assert latency.median_ms == 10 and latency.per_frame_ms == pytest.approx(0.5)
    assert latency.real_time_factor == pytest.approx(0.005)  # 0.5 ms of work for a frame of 100 ms
    assert latency.preprocess_ms == 2 and latency.clips == 3 and latency.threads == 1
    assert latency.frames_per_clip == pytest.approx(70 / 3)
    assert latency.samples == 12  # two rounds of three clips, two calls each: the first count that is not below 8
    assert timing.drift == 0


def test_percentiles_are_not_stated_without_enough_samples():
    def latency(samples):
        times = np.arange(samples).reshape(1, 1, samples) * MS
        return Timing("a", [10], [10.0], times, np.ones(1), 3, True, 1).latency()

    assert latency(63).p90_ms is None
    assert latency(64).p90_ms == pytest.approx(np.percentile(np.arange(64), 90)) and latency(64).p99_ms is None
    assert latency(661).p99_ms is None and latency(662).p99_ms is not None


def test_warm_up_ends_when_the_median_has_settled():
    clock = Clock()
    system = Slow("a", clock, lambda call, frames: 30 - call if call < 20 else 10)
    calls, stable = warm_up(system, np.zeros((1, 4, 3, 5)), TimingPlan(window=4, tolerance=0.05), clock)
    assert stable and 20 < calls <= 20 + 8


def test_warm_up_is_bounded_and_says_that_times_did_not_settle():
    clock = Clock()
    system = Slow("a", clock, lambda call, frames: 1.1**call)
    plan = TimingPlan(window=4, tolerance=0.05, max_warmup=30)
    assert warm_up(system, np.zeros((1, 4, 3, 5)), plan, clock) == (30, False)


def test_rounds_stop_at_the_most_samples_or_when_time_is_up():
    clock = Clock()
    quick = run(
        [Slow("a", clock, lambda call, frames: 1)], clips(10, 20), clock, min_samples=4, max_samples=40, seconds=1e9
    )
    assert quick["a"].times.size == 40
    long = run(
        [Slow("a", clock, lambda call, frames: 1000)], clips(10, 20), clock, min_samples=4, max_samples=40, seconds=20
    )
    assert long["a"].times.size == 16  # a round takes 6 s; the fourth is the last that starts within 20 s


def test_systems_are_interleaved_and_take_turns_at_being_first():
    clock, log = Clock(), []
    systems = [Slow(name, clock, lambda call, frames: 1, log) for name in "ab"]
    run(systems, clips(10, 20), clock, window=1, repeats=2, min_samples=4, max_samples=4)
    timed = "".join(log)[-12:]  # one round of two clips, after the warm-up
    assert timed == "aaabbbbbbaaa"


def test_a_drift_of_the_machine_cancels_in_the_ratio():
    clock = Clock()

    def drifting(factor):
        return lambda call, frames: factor * frames * (1 + clock.now / 1e10)

    systems = [Slow("slow", clock, drifting(8)), Slow("fast", clock, drifting(1))]
    timings = run(systems, clips(10, 20, 30), clock, min_samples=60, max_samples=60)
    assert ratio(timings["fast"], timings["slow"]) == pytest.approx(8, rel=0.02)
    assert timings["slow"].drift > 0.2  # yet each by itself is known to have drifted


def test_ratio_is_the_median_over_clips():
    def timing(times):
        return Timing("x", [10] * 3, [10.0] * 3, np.array(times).reshape(1, 3, 1), np.ones(3), 1, True, 1)

    assert ratio(timing([1, 1, 1]), timing([2, 3, 100])) == 3


def test_garbage_collection_is_off_inside_the_clock_and_on_again_after():
    clock = Clock()
    seen = []

    class Watch(Slow):
        def log_probs(self, x):
            seen.append(gc.isenabled())
            self.clock.now += MS
            return x

    plan = TimingPlan(window=1, repeats=1, min_samples=1, max_samples=1)
    time_systems([Watch("a", clock, None)], clips(8), 1, plan, clock, pause=lambda seconds: None)
    assert seen[-1] is False and gc.isenabled()


def test_nothing_to_time_is_an_error():
    with pytest.raises(BadInput, match="nothing to time"):
        time_systems([], clips(10), 1)
    with pytest.raises(BadInput, match="nothing to time"):
        time_systems([Slow("a", Clock(), None)], [], 1)
