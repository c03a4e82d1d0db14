"""Where assignments are read and timed: on this machine, if it is the target, or in the target's place."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from export.backends.base import backend
from export.backends.choice import usable
from export.backends.race import FEWEST_ROUNDS, Ratio, race, ratio
from export.precision.nearness import has_float16, widened
from export.search.predict import machine_of, predicted_ms, work_of
from export.search.search import Assignment, Timed
from export.search.space import REST, Space
from runtime.engine import Engine
from runtime.hashing import sha256_bytes

if TYPE_CHECKING:
    from onnx import ModelProto

    from export.engine import Job
    from export.tailor import Cut

TIMED_ON = 8  # clips that assignments race on
SECONDS = 8.0  # of a race
THREADS = 1
LEAST_GAIN = 1e-6  # ms, of a node of which no time can be predicted: it is tried after all others


class Place(Protocol):
    """One of the two."""

    runtime: str  # that reads
    times: str  # how the times come about, for records

    def engine(self, cut: Cut, runtime: str = "") -> Engine:
        """What reads a cut, by `runtime` or the target's own. Raises `BadInput` or `Refused` where nothing does."""
        ...

    def gains(self, seconds: float) -> dict[str, float]:
        """Time that each product saves when it is narrow, ms; what saves none is 0 or less. `seconds` are left."""
        ...

    def clock(self, assignments: Sequence[Assignment]) -> list[Timed]:
        """Times of a clip, taken together."""
        ...

    def runtimes(self) -> tuple[list[str], list[str]]:
        """The runtimes that the engine may be for, the target's own first; and why others may not."""
        ...

    def race(self, engines: Mapping[str, Engine]) -> dict[str, np.ndarray]:
        """(rounds, clips) ns of each, in turns; nothing where nothing can be timed."""
        ...


class Here:
    """The target is this machine: engines are built and raced as they will run."""

    def __init__(self, job: Job, space: Space, scratch: Path) -> None:
        self.runtime = job.target.software.runtime
        self._job, self._space, self._scratch = job, space, scratch
        self._clips = space.clips[:TIMED_ON]
        self._built: set[Path] = set()
        self.times = f"measured here in turns on clips of the corpus ({len(self._clips)} at most), {THREADS} thread"
        if job.target.profile.kind != "cpu":
            self.times += "; what single nodes save, by which they are ranked, is predicted"

    def engine(self, cut: Cut, runtime: str = "") -> Engine:
        """Built once for each runtime. Raises as `Backend.build` does."""
        runtime = runtime or self.runtime
        engines, request = backend(runtime), self._job.request(cut.flags)
        folder = self._scratch / f"{name_of(cut)}.{runtime}"
        if folder not in self._built:
            folder.mkdir(exist_ok=True)
            engines.build(cut.graph, self._job.contract, folder, request)
            self._built.add(folder)
        return engines.load(folder, THREADS, request)

    def gains(self, seconds: float) -> dict[str, float]:
        """On a CPU by a race: all products narrow, against all but one. As much as its interval leaves open counts.

        What a node costs depends on its neighbours (a wide one between narrow ones converts twice), so neither its own
        time nor a rule would tell. Where building takes minutes (GPUs) it is predicted; where the race would take more
        than a third of the time, shares of the arithmetic must do.
        """
        if self._job.target.profile.kind != "cpu":
            return predicted_gains(self._job, self._space)
        every = self._space.narrow()
        wide = self._space.wide()
        left_out = {name: {**every, name: wide[name]} for name in self._space.products}
        engines = {name: self.engine(self._space.cut(item)) for name, item in {"": every, **left_out}.items()}
        turn = self._turn(engines)
        if 2 * FEWEST_ROUNDS * turn > seconds / 3:
            work = work_of(self._space.graph, usual_length(self._space))
            macs = {name: work[name].macs if name in work else 0.0 for name in self._space.products}
            saved = 1e3 * turn / len(engines) / max(sum(macs.values()), 1.0)
            return {name: max(LEAST_GAIN, count * saved) for name, count in macs.items()}
        times = self.race(engines)
        whole = typical_ms(times[""])
        return {name: (ratio(times[name], times[""]).high - 1) * whole for name in left_out}

    def clock(self, assignments: Sequence[Assignment]) -> list[Timed]:
        """One race of all."""
        engines = {str(number): self.engine(self._space.cut(item)) for number, item in enumerate(assignments)}
        return list(timed(self.race(engines)).values())

    def runtimes(self) -> tuple[list[str], list[str]]:
        """On a CPU each that is installed, unless the order names one."""
        if self._job.target.profile.kind != "cpu" or "@" in self._job.order.target:
            return [self.runtime], []
        names, missing = usable(self._job.target.profile)
        return names, [f"{name} was not asked: {why}" for name, why in missing.items()]

    def race(self, engines: Mapping[str, Engine]) -> dict[str, np.ndarray]:
        """On as many clips of the corpus as there is time for."""
        calls: dict[str, Callable[[np.ndarray], np.ndarray]] = {name: item.log_probs for name, item in engines.items()}
        fitting = int(SECONDS / (FEWEST_ROUNDS * self._turn(engines)))
        return race(calls, self._clips[: max(fitting, 1)], SECONDS)

    def _turn(self, engines: Mapping[str, Engine]) -> float:
        """Seconds that one clip takes in all of them."""
        began = time.perf_counter()
        for engine in engines.values():
            engine.log_probs(self._clips[0])
        return time.perf_counter() - began


class Elsewhere:
    """The target is another machine: ONNX Runtime reads in its place, and times are predicted."""

    times = "predicted by a roofline a node from the target's figures; fit to rank, not to quote"
    runtime = "onnxruntime"

    def __init__(self, job: Job, space: Space, scratch: Path) -> None:
        self._job, self._space, self._scratch = job, space, scratch

    def engine(self, cut: Cut, runtime: str = "") -> Engine:
        """The graph with every rounding in it."""
        folder = self._scratch / name_of(cut)
        if not folder.is_dir():
            folder.mkdir()
            backend(self.runtime).build(readable(cut), self._job.contract, folder)
        return backend(self.runtime).load(folder, THREADS)

    def gains(self, seconds: float) -> dict[str, float]:
        """Predicted."""
        return predicted_gains(self._job, self._space)

    def clock(self, assignments: Sequence[Assignment]) -> list[Timed]:
        """Predicted."""
        work, machine = work_of(self._space.graph, usual_length(self._space)), machine_of(self._job.target)
        runs = usual_runs(self._space)
        times = [
            runs * predicted_ms(work, self._space.plan(item).assignment, machine, item[REST]) for item in assignments
        ]
        return [Timed(ms, exactly(ms / min(times))) for ms in times]

    def runtimes(self) -> tuple[list[str], list[str]]:
        """The target's own."""
        return [self._job.target.software.runtime], []

    def race(self, engines: Mapping[str, Engine]) -> dict[str, np.ndarray]:
        """Nothing: it is another machine."""
        return {}


def predicted_gains(job: Job, space: Space) -> dict[str, float]:
    """Time that each product saves when narrow, ms, by the roofline."""
    work, machine = work_of(space.graph, usual_length(space)), machine_of(job.target)
    wide, runs = space.wide(), usual_runs(space)

    def gain(name: str) -> float:
        if name not in work or "int8" not in machine.peaks:
            return LEAST_GAIN
        return runs * 1e3 * (machine.seconds(work[name], wide[name]) - machine.seconds(work[name], "int8"))

    return {name: gain(name) for name in space.products}


def usual_length(space: Space) -> int:
    """Padded frames of the median clip."""
    lengths = sorted(x.shape[1] for x in space.inputs)
    return lengths[len(lengths) // 2]


def usual_runs(space: Space) -> int:
    """Windows over the median clip."""
    return sorted(len(clip) for clip in space.clips)[len(space.clips) // 2]


def timed(times: Mapping[str, np.ndarray]) -> dict[str, Timed]:
    """What a race says: the time of a clip, and the paired ratio to the fastest."""
    first = next(iter(times.values()))
    fastest = min(times.values(), key=lambda taken: ratio(taken, first).value)
    return {name: Timed(typical_ms(taken), _against(taken, fastest)) for name, taken in times.items()}


def _against(taken: np.ndarray, fastest: np.ndarray) -> Ratio:
    return exactly(1.0) if taken is fastest else ratio(taken, fastest)


def typical_ms(times: np.ndarray) -> float:
    """Time of a clip: each one's median over the rounds, averaged over the clips."""
    return float(np.median(times, axis=0).mean() / 1e6)


def exactly(value: float) -> Ratio:
    """A ratio without doubt: of predictions, or of something to itself."""
    return Ratio(value, value, value, 0)


def readable(cut: Cut) -> ModelProto:
    """The graph of a cut as ONNX Runtime is to read it in the target's place."""
    return widened(cut.complete) if has_float16(cut.complete) else cut.complete


def name_of(cut: Cut) -> str:
    """A name for what decides how a cut reads: its graph, and the one with all precision in it."""
    return sha256_bytes(b"".join(item.SerializeToString(deterministic=True) for item in (cut.graph, cut.complete)))[:32]
