"""The search: the fastest assignment of precisions whose WER rise stays within the budget, for as long as one may look.

The plain precisions (all FP32, all FP16, INT8 by the rules) are judged first, whatever the time. Then nodes are
narrowed in the order of what they harm per time they save. How many of them the budget bears is found by halving, and
then from above; the ones left out are tried one by one. All that passed is timed together, the plain ones among it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from export.backends.race import Ratio
from runtime.errors import CriterionFailed

Assignment = Mapping[str, str]  # node -> precision, of every node that has a choice
TIE = 0.01  # of the time; within it, the smaller rise is the better one


@dataclass(frozen=True)
class Judged:
    """WER of one assignment, and its rise over FP32 with the bounds of the paired bootstrap, in points."""

    wer: float
    rise: float
    low: float
    high: float
    unsound: str = ""  # which tensor does not survive eight bits, whatever the WER says


@dataclass(frozen=True)
class Candidate:
    """A node that may be narrowed: how much harm that does alone, and how much time it saves (ms)."""

    node: str
    harm: float
    gain: float


@dataclass(frozen=True)
class Timed:
    """Time of a clip, ms, and how many times that of the fastest it is."""

    ms: float
    ratio: Ratio


@dataclass(frozen=True)
class Trial:
    """One assignment that was built and read. `timed` is None where it was not timed."""

    name: str
    assignment: Assignment
    judged: Judged
    timed: Timed | None = None


@dataclass(frozen=True)
class Found:
    """The outcome: all trials, the chosen one, and whether the search came to its end or its time did."""

    trials: list[Trial]
    chosen: Trial
    complete: bool


def by_harm_per_gain(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that save time, the ones that cost least harm for it first; equal ones in the given order."""
    return sorted((item for item in candidates if item.gain > 0), key=lambda item: item.harm / item.gain)


class Search:
    """One search. `judge` builds and reads an assignment, None where that cannot be; `clock` times several together.

    `left()` is the time that is left, s; `tell(name, judged)` hears of every trial.
    """

    def __init__(
        self,
        judge: Callable[[Assignment], Judged | None],
        clock: Callable[[Sequence[Assignment]], Sequence[Timed]],
        budget: float,
        left: Callable[[], float],
        tell: Callable[[str, Judged], None] = lambda name, judged: None,
    ) -> None:
        self._judge, self._clock, self._budget = judge, clock, budget
        self._left, self._tell = left, tell
        self._trials: list[Trial] = []

    def run(
        self,
        anchors: Mapping[str, Assignment],
        wide: Assignment,
        rank: Callable[[], tuple[Sequence[Candidate], bool]],
    ) -> Found:
        """Search from `wide`. `anchors` are tried whatever the time. `rank` gives candidates and whether all of them.

        Raises `CriterionFailed` where nothing passes.
        """
        for name, assignment in anchors.items():
            self._try(name, assignment)
        candidates, complete = rank()
        ranked = by_harm_per_gain(candidates)
        searched = self._halve(wide, ranked) and self._come_down(wide, ranked) and self._add_one_by_one(ranked)
        complete = searched and complete
        passed = [index for index, trial in enumerate(self._trials) if self.passes(trial.judged)]
        if not passed:
            raise CriterionFailed(
                f"no precision stays within {self._budget:.2f} WER points at the upper bound of the interval; "
                "more development clips would narrow it, a longer --frames, if there is one, lower it"
            )
        times = self._clock([self._trials[index].assignment for index in passed])
        trials = list(self._trials)
        for index, timed in zip(passed, times, strict=True):
            trials[index] = dataclasses.replace(trials[index], timed=timed)
        near = [item for item in trials if item.timed is not None and item.timed.ratio.value <= 1 + TIE]
        chosen = min(near, key=lambda item: (item.judged.rise, item.timed.ratio.value if item.timed else 0))
        return Found(trials, chosen, complete)

    def passes(self, judged: Judged | None) -> bool:
        """Whether there is a judgement, within the budget at its upper bound, and no tensor is lost."""
        return judged is not None and judged.high <= self._budget + 1e-9 and not judged.unsound

    def _try(self, name: str, assignment: Assignment) -> bool:
        """Judge, unless that was done; whether it passes."""
        for trial in self._trials:
            if trial.assignment == assignment:
                return self.passes(trial.judged)
        judged = self._judge(assignment)
        if judged is None:
            return False
        self._trials.append(Trial(name, assignment, judged))
        self._tell(name, judged)
        return self.passes(judged)

    def _halve(self, wide: Assignment, ranked: Sequence[Candidate]) -> bool:
        """Find how many nodes, in order, the budget bears; whether there was time to. `_best` is that assignment."""
        self._best = dict(wide)
        low, high = 0, len(ranked) + 1  # `low` nodes are borne; `high` are not
        first = len(ranked)
        while high - low > 1:
            if self._left() <= 0:
                return False
            middle = first if high > len(ranked) else (low + high) // 2
            assignment = {**wide, **{item.node: "int8" for item in ranked[:middle]}}
            if self._try(f"{middle} of {len(ranked)} nodes", assignment):
                low, self._best = middle, assignment
            else:
                high = middle
        return True

    def _come_down(self, wide: Assignment, ranked: Sequence[Candidate]) -> bool:
        """Try what halving passed over, the most nodes first; whether there was time to.

        The bound of few clips jumps as nodes are narrowed, so what halving takes for too many may yet be borne.
        """
        for count in range(len(ranked) - 1, sum(kind == "int8" for kind in self._best.values()), -1):
            if self._left() <= 0:
                return False
            assignment = {**wide, **{item.node: "int8" for item in ranked[:count]}}
            if self._try(f"{count} of {len(ranked)} nodes", assignment):
                self._best = assignment
                break
        return True

    def _add_one_by_one(self, ranked: Sequence[Candidate]) -> bool:
        """Narrow each node that was left out, if the budget bears it; whether there was time for all."""
        for item in ranked:
            if self._best.get(item.node) == "int8":
                continue
            if self._left() <= 0:
                return False
            assignment = {**self._best, item.node: "int8"}
            count = sum(assignment[other.node] == "int8" for other in ranked)
            if self._try(f"{count} of {len(ranked)} nodes, {item.node} among them", assignment):
                self._best = assignment
        return True
