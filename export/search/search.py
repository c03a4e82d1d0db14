"""The search: the fastest assignment of precisions whose WER rise stays within the budget, for as long as one may look.

Nodes are narrowed in the order of what they harm per time they save. How many of them the budget bears is found by
halving; then the ones left out are tried one by one. What was tried is kept, and not tried again when a search that was
stopped goes on. The plain precisions (all FP32, all FP16, INT8 by the rules) are tried first and timed with the rest,
so that what is found is never slower than the best of them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.errors import BadInput, CriterionFailed
from runtime.hashing import sha256_bytes

Assignment = Mapping[str, str]  # node -> precision, of every node that has a choice
TIE = 0.01  # of the time; within it, the smaller rise is the better one


@dataclass(frozen=True)
class Judged:
    """WER of one assignment, and its rise over FP32 with the bounds of the paired bootstrap, in points."""

    wer: float
    rise: float
    low: float
    high: float


@dataclass(frozen=True)
class Candidate:
    """A node that may be narrowed: to what, how much harm that does alone, and how much time it saves (ms)."""

    node: str
    precision: str
    harm: float
    gain: float


@dataclass(frozen=True)
class Trial:
    """One assignment that was built and read. `ms` is None where it was not timed."""

    name: str
    assignment: Assignment
    judged: Judged
    ms: float | None = None


@dataclass(frozen=True)
class Found:
    """The outcome: all trials, the chosen one, and whether the search came to its end or its time did."""

    trials: list[Trial]
    chosen: Trial
    complete: bool


def by_harm_per_gain(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that save time, the ones that cost least harm for it first; equal ones in the given order."""
    return sorted((item for item in candidates if item.gain > 0), key=lambda item: item.harm / item.gain)


class Tried:
    """What was judged already, one JSON line each. `key` is the hash of all that decides a judgement."""

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key
        self._known: dict[str, Judged] = {}
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"cannot read {path}, which keeps what a search has tried: {error}") from error
        for line in lines:
            row = _row(line)
            if row is not None and row["key"] == key:
                self._known[row["assignment"]] = Judged(**row["judged"])

    def __len__(self) -> int:
        return len(self._known)

    def get(self, assignment: Assignment) -> Judged | None:
        """The judgement of this assignment; None if there is none."""
        return self._known.get(fingerprint(assignment))

    def add(self, name: str, assignment: Assignment, judged: Judged) -> None:
        """Keep a judgement, in memory and on disk."""
        self._known[fingerprint(assignment)] = judged
        values = dataclasses.asdict(judged)
        row = {"key": self._key, "name": name, "assignment": fingerprint(assignment), "judged": values}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise BadInput(f"cannot write {self._path}, which keeps what a search has tried: {error}") from error


def _row(line: str) -> dict[str, Any] | None:
    """A kept judgement; None for half a line, left by a process that was killed, or one of another version."""
    try:
        row = json.loads(line)
        Judged(**row["judged"])
        return row if isinstance(row["key"], str) and isinstance(row["assignment"], str) else None
    except (ValueError, LookupError, TypeError):
        return None


def fingerprint(assignment: Assignment) -> str:
    """Hash of an assignment."""
    return sha256_bytes(json.dumps(dict(assignment), sort_keys=True).encode())


class Search:
    """One search. `judge` builds and reads an assignment; `clock` gives the times (ms) of several, taken together.

    `left()` is the time that is left, s; `tell(name, judged)` hears of every trial.
    """

    def __init__(
        self,
        judge: Callable[[Assignment], Judged],
        clock: Callable[[Sequence[Assignment]], Sequence[float]],
        budget: float,
        tried: Tried,
        left: Callable[[], float],
        tell: Callable[[str, Judged], None] = lambda name, judged: None,
    ) -> None:
        self._judge, self._clock, self._budget = judge, clock, budget
        self._tried, self._left, self._tell = tried, left, tell
        self._trials: list[Trial] = []

    def run(self, anchors: Mapping[str, Assignment], wide: Assignment, candidates: Sequence[Candidate]) -> Found:
        """Search from `wide`. `anchors` are tried whatever the time, and one of them must pass.

        Raises `CriterionFailed` where none does.
        """
        for name, assignment in anchors.items():
            self._try(name, assignment)
        ranked = by_harm_per_gain(candidates)
        complete = self._halve(wide, ranked) and self._add_one_by_one(ranked)
        passed = [trial for trial in self._trials if self._passes(trial.judged)]
        if not passed:
            raise CriterionFailed(
                f"no precision stays within {self._budget:.2f} WER points at the upper bound of the interval; "
                "more development clips would narrow it"
            )
        times = self._clock([trial.assignment for trial in passed])
        timed = [dataclasses.replace(trial, ms=ms) for trial, ms in zip(passed, times, strict=True)]
        least = min(trial.ms for trial in timed if trial.ms is not None)
        near = [trial for trial in timed if trial.ms is not None and trial.ms <= least * (1 + TIE)]
        chosen = min(near, key=lambda trial: (trial.judged.rise, trial.ms))
        known = {id(trial.assignment): trial for trial in timed}
        return Found([known.get(id(trial.assignment), trial) for trial in self._trials], chosen, complete)

    def _passes(self, judged: Judged) -> bool:
        return judged.high <= self._budget + 1e-9

    def _try(self, name: str, assignment: Assignment) -> bool:
        """Judge, unless that was done; whether it passes."""
        print_of_it = fingerprint(assignment)
        for trial in self._trials:
            if fingerprint(trial.assignment) == print_of_it:
                return self._passes(trial.judged)
        judged = self._tried.get(assignment)
        if judged is None:
            judged = self._judge(assignment)
            self._tried.add(name, assignment, judged)
        self._trials.append(Trial(name, dict(assignment), judged))
        self._tell(name, judged)
        return self._passes(judged)

    def _halve(self, wide: Assignment, ranked: Sequence[Candidate]) -> bool:
        """Find how many nodes, in order, the budget bears; whether there was time to. `_best` is that assignment."""
        self._best = dict(wide)
        low, high = 0, len(ranked) + 1  # `low` nodes are borne; `high` are not
        first = len(ranked)
        while high - low > 1:
            if self._left() <= 0:
                return False
            middle = first if high > len(ranked) else (low + high) // 2
            assignment = {**wide, **{item.node: item.precision for item in ranked[:middle]}}
            if self._try(f"{middle} of {len(ranked)} nodes", assignment):
                low, self._best = middle, assignment
            else:
                high = middle
        return True

    def _add_one_by_one(self, ranked: Sequence[Candidate]) -> bool:
        """Narrow each node that was left out, if the budget bears it; whether there was time for all."""
        for item in ranked:
            if self._best.get(item.node) == item.precision:
                continue
            if self._left() <= 0:
                return False
            assignment = {**self._best, item.node: item.precision}
            count = sum(assignment[other.node] == other.precision for other in ranked)
            if self._try(f"{count} of {len(ranked)} nodes, {item.node} among them", assignment):
                self._best = assignment
        return True
