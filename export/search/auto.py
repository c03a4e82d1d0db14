"""`--precision auto`: judges and ranks what a job's graph may be, searches, chooses, and says what was tried.

Everything is judged on the development split, so what is chosen was also chosen for how it reads these very clips:
`signedge bench` tells how it reads others.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from devices.host import detect
from devices.load import load_average
from export.backends.choice import choose
from export.backends.race import Ratio, ratio
from export.gate import Reading, compare, read
from export.onnx_graph import versions
from export.search.kept import Kept
from export.search.places import SECONDS, THREADS, Elsewhere, Here, Place, name_of, readable, typical_ms
from export.search.predict import machine_of
from export.search.search import Assignment, Candidate, Found, Judged, Search, Trial
from export.search.sensitivity import Harm, harm
from export.search.space import Space
from export.tailor import Cut, audited, precisions_of
from runtime.engine import INPUT, Engine, open_session
from runtime.errors import BadInput, CriterionFailed, MissingExtra, Refused
from runtime.hashing import sha256_bytes, sha256_file
from runtime.windows import joined, one_by_one

if TYPE_CHECKING:
    from distill.corpus.store import Corpus
    from export.engine import Job

FILE = "tried.jsonl"
JUDGED, HARMS, GAINS = "judged", "harm", "gain"  # kinds of what is kept
RANKED_ON = 16  # clips on which the harm of a single node is measured
TOOLS = ("signedge", "numpy", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx")
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Auto:
    """What a search came to: the graph, the runtime that runs it, and the record for the manifest."""

    cut: Cut
    runtime: str
    record: dict[str, Any]


@dataclass(frozen=True)
class Final:
    """The choice among the search's and the plain precisions, in every runtime that is open."""

    trial: Trial
    runtime: str
    ms: float
    against: dict[str, Ratio]  # the others: how many times its time they take
    left_out: list[str]


def find(job: Job, work: Path, tell: Tell = lambda words: None) -> Auto:
    """Search the precision of a job's graph. `work` keeps what was found out: a search that was stopped goes on.

    Ranking, search and races share the order's minutes; the plain precisions are judged and timed whatever these are.
    Raises `CriterionFailed` where not even they can be kept.
    """
    if job.corpus is None or job.calibration is None:
        raise BadInput("auto needs --corpus: clips to calibrate on, and a development split to judge by")
    began, spared = time.monotonic(), 0 if job.elsewhere else 2 * SECONDS  # for the races at the end

    def left() -> float:
        return began + 60 * job.order.minutes - spared - time.monotonic()

    def told(name: str, judged: Judged) -> None:
        lost = f"; {judged.unsound}" if judged.unsound else ""
        tell(f"{name}: WER {judged.wer:.2f} %, rise {judged.rise:+.2f} (to {judged.high:+.2f}){lost}")

    with tempfile.TemporaryDirectory(prefix="signedge.") as scratch:
        kinds = _kinds(job, tell)
        space = Space(job, job.calibration, kinds, Path(scratch))
        place: Place = (Elsewhere if job.elsewhere else Here)(job, space, Path(scratch))
        kept = Kept(work / FILE, _key(job, job.corpus))
        known = len(kept)
        bench = _Bench(job, job.corpus, space, place, kept, tell)
        search = Search(bench.judge, bench.clock, job.order.max_wer_rise, left, told)
        found = search.run(space.anchors(), space.wide(), lambda: bench.ranked(left))
        final = bench.final(found, search.passes)
        record = {
            "chosen": final.trial.name,
            "runtime": final.runtime,
            "ms": final.ms,
            "times": place.times,
            "against": {name: found._asdict() for name, found in final.against.items()},
            "left_out": final.left_out,
            "load": load_average(),
            "complete": found.complete,
            "known_before": known,
            "seconds": round(time.monotonic() - began, 1),
            "budget_minutes": job.order.minutes,
            "ranking": bench.ranking(),
            "trials": [_told(trial, len(space.products)) for trial in found.trials],
        }
        cut = space.cut(final.trial.assignment)
        return Auto(dataclasses.replace(cut, facts={**cut.facts, "search": record}), final.runtime, record)


def _kinds(job: Job, tell: Tell) -> list[str]:
    """The precisions to choose among: all that the target has, or those whose times can be predicted there."""
    kinds = list(precisions_of(job.target))
    if job.elsewhere:
        machine = machine_of(job.target)
        for kind in [item for item in kinds if item not in machine.peaks]:
            tell(f"{kind} is left out: its peak on {job.target.profile.name} is not known, so no time can be predicted")
            kinds.remove(kind)
    return kinds


class _Bench:
    """Judges, ranks and times the assignments of one job, and keeps what it learns."""

    def __init__(self, job: Job, corpus: Corpus, space: Space, place: Place, kept: Kept, tell: Tell) -> None:
        self.job, self.corpus, self.space, self.place = job, corpus, space, place
        self.kept, self.tell = kept, tell
        self.gains: dict[str, float] = {}
        self.harms: dict[str, Harm] = {}
        self._baseline: Reading | None = None

    # What it reads.

    def judge(self, assignment: Assignment, runtime: str = "") -> Judged | None:
        """Read the development split, and see that every tensor of eight bits still carries its signal.

        None, told aloud, where the assignment does not fit the target or its runtime does not build it.
        """
        try:
            cut = self.space.cut(assignment)
            engine = self.place.engine(cut, runtime)
        except (BadInput, Refused) as error:
            self.tell(f"left out: {error}")
            return None
        name = f"{name_of(cut)} {runtime or self.place.runtime}"
        known = self.kept.get(JUDGED, name)
        if known is not None:
            return Judged(**known)
        if self._baseline is None:
            self._baseline = read(Engine.from_onnx(self.job.model, THREADS), self.corpus)
        result = compare(read(engine, self.corpus), self._baseline, self.job.order.max_wer_rise)
        unsound = ""
        try:
            if cut.facts["ranges"]:
                audited(self.space.graph, cut.complete, self.space.inputs)
        except CriterionFailed as error:
            unsound = str(error)
        judged = Judged(result.wer, result.rise, result.low, result.high, unsound)
        self.kept.add(JUDGED, name, dataclasses.asdict(judged))
        return judged

    # What is worth trying.

    def ranked(self, left: Callable[[], float]) -> tuple[list[Candidate], bool]:
        """The products that save time when narrow, with the harm that each does alone; and whether these are all."""
        if not self.space.products or left() <= 0:
            return [], not self.space.products
        every = name_of(self.space.cut(self.space.narrow()))
        self.gains = self.kept.get(GAINS, every)
        if self.gains is None:
            self.tell(f"finding what each of {len(self.space.products)} nodes saves in eight bits")
            self.gains = self.place.gains(left())
            self.kept.add(GAINS, every, self.gains)
        names = [name for name in self.space.products if self.gains[name] > 0]
        self.tell(f"ranking {len(names)} nodes by what they do to the glosses")
        reference: list[np.ndarray] = []
        for number, name in enumerate(names):
            if left() <= 0:
                self.tell(f"the time is over after {number} of {len(names)} nodes")
                break
            cut = self.space.cut({**self.space.wide(), name: "int8"})
            known = self.kept.get(HARMS, name_of(cut))
            if known is None:
                reference = reference or self._log_probs(self.space.cut(self.space.wide()))
                known = dataclasses.asdict(harm(reference, self._log_probs(cut)))
                self.kept.add(HARMS, name_of(cut), known)
            self.harms[name] = Harm(**known)
        candidates = [Candidate(name, found.total, self.gains[name]) for name, found in self.harms.items()]
        return candidates, len(self.harms) == len(names)

    def ranking(self) -> dict[str, dict[str, float | None]]:
        """What was found of each node, for the record; what is not finite is None there."""
        found = {
            name: {**dataclasses.asdict(item), "total": item.total, "gain_ms": self.gains[name]}
            for name, item in self.harms.items()
        }
        return {
            name: {key: value if math.isfinite(value) else None for key, value in row.items()}
            for name, row in found.items()
        }

    def _log_probs(self, cut: Cut) -> list[np.ndarray]:
        with tempfile.NamedTemporaryFile(prefix="signedge.", suffix=".onnx") as file:
            file.write(readable(cut).SerializeToString())
            file.flush()
            session = open_session(file.name, THREADS)
        assert self.job.calibration is not None
        read = [
            one_by_one(lambda x: session.run(None, {INPUT: x})[0], clip)
            for clip in self.space.clips[:RANKED_ON]
        ]
        rows = self.job.calibration.rows
        return [joined(self.job.contract, windows, row.frames) for windows, row in zip(read, rows, strict=False)]

    # How long it takes.

    def clock(self, assignments: Sequence[Assignment]) -> Any:
        """What the place's clock says."""
        self.tell(f"timing {len(assignments)} that passed")
        return self.place.clock(assignments)

    def final(self, found: Found, passes: Callable[[Judged | None], bool]) -> Final:
        """What was chosen, once more against the plain precisions that passed, in every runtime that is open.

        The choice among many by time is partly one by luck; this race, of few, is what the record tells. What was
        chosen stays chosen unless another is faster beyond the interval of its ratio, and passes in its runtime.
        """
        plain = [trial for trial in found.trials if trial.timed is not None and trial.name in ("fp32", "fp16", "int8")]
        trials = {trial.name: trial for trial in (found.chosen, *plain)}
        names, left_out = self.place.runtimes()
        several = len(names) > 1
        entries = {
            f"{name} in {runtime}" if several else name: (trial, runtime)
            for runtime in names
            for name, trial in trials.items()
        }
        engines = {}
        for label, (trial, runtime) in entries.items():
            try:
                engines[label] = self.place.engine(self.space.cut(trial.assignment), runtime)
                engines[label].log_probs(self.space.clips[0])
            except (BadInput, MissingExtra) as error:
                left_out.append(f"{label} cannot be run: {error}")
                engines.pop(label, None)
        times = self.place.race(engines)
        if not times:
            assert found.chosen.timed is not None
            ms = found.chosen.timed.ms
            others = {trial.name: trial.timed.ms / ms for trial in plain if trial.timed and trial is not found.chosen}
            return Final(found.chosen, names[0], ms, {n: Ratio(r, r, r, 0) for n, r in others.items()}, left_out)
        first = next(iter(entries))
        label = choose(times, first)
        while not passes(self.judge(entries[label][0].assignment, entries[label][1])):
            left_out.append(f"{label} was faster, and does not read as well there")
            times = {name: taken for name, taken in times.items() if name != label}
            label = choose(times, first)
        against = {name: ratio(taken, times[label]) for name, taken in times.items() if name != label}
        return Final(*entries[label], typical_ms(times[label]), against, left_out)


def _told(trial: Trial, products: int) -> dict[str, Any]:
    """A trial as plain data."""
    timed = {"ms": trial.timed.ms, "ratio": trial.timed.ratio._asdict()} if trial.timed else {"ms": None, "ratio": None}
    narrow = sum(kind == "int8" for kind in trial.assignment.values())
    return {"name": trial.name, "int8": narrow, "of": products, **dataclasses.asdict(trial.judged), **timed}


def _key(job: Job, corpus: Corpus) -> str:
    """Hash of all that decides what is kept, beside the graph that it is kept of: corpus, judges, machine."""
    host = detect()
    told: Mapping[str, Any] = {
        "onnx": sha256_file(job.model),
        "corpus": corpus.fingerprint(),
        "target": [job.target.profile.name, job.target.software.key, job.elsewhere == ""],
        "host": [host.cpu, host.machine, *host.flags],
        "versions": versions(TOOLS),
    }
    return sha256_bytes(repr(sorted(told.items())).encode())
