"""Time of one call over one clip, batch 1. Systems are interleaved, so that a drift of the machine hits all alike."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol

import numpy as np

from bench.record import Latency
from devices.load import OtherWork
from export.backends.race import no_garbage_collection
from runtime.errors import BadInput

CONFIDENCE = 0.99


class Timed(Protocol):
    """What can be timed: it prepares a clip outside the clock, then computes log-probabilities inside it."""

    @property
    def name(self) -> str: ...

    def prepare(self, clip: Any) -> np.ndarray: ...

    def log_probs(self, x: np.ndarray) -> np.ndarray: ...


def minimum_samples(percentile: float, confidence: float = CONFIDENCE, discarded: int = 1) -> int:
    """Samples needed before a percentile may be stated: 64 for p90, 662 for p99.

    The smallest n at which at most `discarded` samples lie above the true percentile with a chance of no more than
    1 - `confidence` (binomial tail, without any assumption on the distribution). MLPerf LoadGen's early stopping rests
    on the same bound. With fewer samples the largest one could as well be typical, so nothing is stated.
    """
    above = 1 - percentile / 100

    def chance(count: int) -> float:
        return sum(math.comb(count, k) * above**k * (1 - above) ** (count - k) for k in range(discarded + 1))

    return next(count for count in itertools.count(discarded + 1) if chance(count) <= 1 - confidence)


@dataclass(frozen=True)
class TimingPlan:
    """How long to warm up and how often to measure.

    Warm-up of a system calls it on the clip of median length until the medians of the last `window` calls and of the
    `window` before them differ by no more than `tolerance`, for `max_warmup` calls at most. Then every clip is visited
    in rounds; in each, every system is called `repeats` times in the clock after one call outside it, which takes the
    caches back from the system before. Rounds end when each system has `min_samples`, and go on to `max_samples` while
    `seconds` last. `drift` is the change between the first and the last half of the rounds above which the figures
    count as not settled.
    """

    window: int = 6
    tolerance: float = 0.05
    max_warmup: int = 60
    repeats: int = 2
    min_samples: int = minimum_samples(90)
    max_samples: int = minimum_samples(99)
    seconds: float = 60.0
    drift: float = 0.15
    pause: float = 0.002  # s before the call outside the clock: worker threads of the system before stop spinning


@dataclass
class Timing:
    """What the clock said of one system. `times` (rounds, clips, repeats) and `prepare` (clips,) in ns."""

    name: str
    frames: list[int]
    fps: list[float]
    times: np.ndarray
    prepare: np.ndarray
    warmup: int
    stable: bool
    threads: int
    other_work: float | None = None  # cores that other processes kept busy meanwhile

    @property
    def per_clip(self) -> np.ndarray:
        """(clips,) median time of each clip, ns."""
        return np.median(self.times, axis=(0, 2))

    @property
    def drift(self) -> float:
        """How much slower (above 0) or faster the last half of the rounds was than the first, as a share."""
        half = len(self.times) // 2
        if not half:
            return 0.0
        first, last = (np.median(part, axis=(0, 2)) for part in (self.times[:half], self.times[-half:]))
        return float(np.median(last / first) - 1)

    def latency(self) -> Latency:
        """The figures of the record, in ms."""
        samples = self.times.reshape(-1) / 1e6
        frames, seconds = np.array(self.frames), np.array(self.frames) / np.array(self.fps)
        return Latency(
            clips=len(self.frames),
            samples=samples.size,
            warmup=self.warmup,
            stable=self.stable,
            threads=self.threads,
            frames_per_clip=float(frames.mean()),
            mean_ms=float(samples.mean()),
            median_ms=float(np.median(samples)),
            p90_ms=_percentile(samples, 90),
            p99_ms=_percentile(samples, 99),
            per_frame_ms=float(np.median(self.per_clip / 1e6 / frames)),
            real_time_factor=float(np.median(self.per_clip / 1e9 / seconds)),
            preprocess_ms=float(np.median(self.prepare) / 1e6),
            other_work=self.other_work,
        )


def _percentile(samples: np.ndarray, percentile: float) -> float | None:
    return float(np.percentile(samples, percentile)) if samples.size >= minimum_samples(percentile) else None


def ratio(system: Timing, against: Timing) -> float:
    """How many times faster `system` is than `against`: median over clips of the ratio of their times on that clip."""
    return float(np.median(against.per_clip / system.per_clip))


def time_systems(
    systems: Sequence[Timed],
    clips: Sequence[Any],
    threads: int,
    plan: TimingPlan | None = None,
    clock: Callable[[], int] = time.perf_counter_ns,
    pause: Callable[[float], None] = time.sleep,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Timing]:
    """Time all systems on the same clips in one interleaved run; returns their timings by name.

    clips: anything with `frames` or `keypoints` of T frames and `fps` (SignClip). threads: what the systems were opened
    with, for the record. clock: ns, monotonic. Within a round the order of systems turns by one from clip to clip, so
    that none always follows the same neighbour. Garbage collection is off inside the clock. Raises `BadInput` if there
    is nothing to time.
    """
    plan = plan or TimingPlan()
    if not systems or not clips:
        raise BadInput("nothing to time: at least one system and one clip are needed")
    lengths = [_length(clip) for clip in clips]
    typical = clips[sorted(range(len(clips)), key=lambda i: lengths[i])[len(clips) // 2]]
    warmups = {}
    for system in systems:
        progress(f"warm-up {system.name}")
        warmups[system.name] = warm_up(system, system.prepare(typical), plan, clock)

    rounds: dict[str, list[list[list[int]]]] = {system.name: [] for system in systems}
    prepared: dict[str, list[int]] = {system.name: [] for system in systems}
    others = OtherWork()
    started = clock()
    while _more(len(rounds[systems[0].name]) * len(clips) * plan.repeats, started, plan, clock):
        progress(f"timing round {len(rounds[systems[0].name]) + 1}")
        this: dict[str, list[list[int]]] = {system.name: [] for system in systems}
        for i, clip in enumerate(clips):
            for system in (*systems[i % len(systems) :], *systems[: i % len(systems)]):
                before = clock()
                x = system.prepare(clip)
                prepared[system.name].append(clock() - before)
                pause(plan.pause)
                system.log_probs(x)
                this[system.name].append(_timed(system, x, plan.repeats, clock))
        for name, times in this.items():
            rounds[name].append(times)
    other_work = others.cores()
    fps = [float(clip.fps) for clip in clips]
    return {
        name: Timing(
            name,
            lengths,
            fps,
            np.array(times, dtype=np.int64),
            np.median(np.array(prepared[name]).reshape(len(times), len(clips)), axis=0),
            *warmups[name],
            threads,
            other_work,
        )
        for name, times in rounds.items()
    }


def warm_up(system: Timed, x: np.ndarray, plan: TimingPlan, clock: Callable[[], int]) -> tuple[int, bool]:
    """Call until the running median has settled; returns the number of calls and whether it did."""
    times: list[int] = []
    while len(times) < plan.max_warmup:
        times.extend(_timed(system, x, 1, clock))
        if len(times) >= 2 * plan.window:
            last, before = median(times[-plan.window :]), median(times[-2 * plan.window : -plan.window])
            if abs(last - before) <= plan.tolerance * before:
                return len(times), True
    return len(times), False


def _more(samples: int, started: int, plan: TimingPlan, clock: Callable[[], int]) -> bool:
    if samples < plan.min_samples:
        return True
    return samples < plan.max_samples and (clock() - started) / 1e9 < plan.seconds


def _timed(system: Timed, x: np.ndarray, repeats: int, clock: Callable[[], int]) -> list[int]:
    """Durations of `repeats` calls in ns, with garbage collection off."""
    times = []
    with no_garbage_collection():
        for _ in range(repeats):
            before = clock()
            system.log_probs(x)
            times.append(clock() - before)
    return times


def _length(clip: Any) -> int:
    return len(clip.frames if clip.frames is not None else clip.keypoints)
