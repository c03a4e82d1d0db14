"""The search for a precision a node: what it tries, keeps, and chooses. Judge and clock are arithmetic here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from export.search.search import Assignment, Candidate, Judged, Search, Tried, by_harm_per_gain
from export.search.sensitivity import harm
from runtime.errors import BadInput, CriterionFailed

HARM = {"a": 0.1, "b": 0.2, "c": 0.4, "d": 5.0}
GAIN = {"a": 1.0, "b": 2.0, "c": 1.0, "d": 3.0}
WIDE = dict.fromkeys(HARM, "fp32")
NARROW = dict.fromkeys(HARM, "int8")


class World:
    """A network whose WER rises by what is narrowed, and that takes 10 ms less what is saved."""

    def __init__(self, path: Path, key: str = "key", budget: float = 0.5, patience: int = 100) -> None:
        self.judged: list[Assignment] = []
        self.patience = patience
        self.tried = Tried(path, key)
        self.search = Search(self.judge, self.clock, budget, self.tried, self.left)

    def judge(self, assignment: Assignment) -> Judged:
        self.judged.append(assignment)
        rise = sum(HARM[node] for node, precision in assignment.items() if precision == "int8")
        return Judged(10 + rise, rise, rise, rise)

    def clock(self, assignments: Sequence[Assignment]) -> list[float]:
        return [10 - sum(GAIN[node] for node in item if item[node] == "int8") for item in assignments]

    def left(self) -> float:
        return self.patience - len(self.judged)


def candidates() -> list[Candidate]:
    return [Candidate(node, "int8", HARM[node], GAIN[node]) for node in HARM]


def test_it_finds_the_fastest_that_the_budget_bears(tmp_path: Path) -> None:
    found = World(tmp_path / "tried.jsonl").search.run({"fp32": WIDE, "int8": NARROW}, WIDE, candidates())
    assert found.complete
    assert {node for node, precision in found.chosen.assignment.items() if precision == "int8"} == {"a", "b"}
    assert found.chosen.ms == 7.0
    assert {trial.name: trial.ms for trial in found.trials}["int8"] is None  # what fails the budget is not timed


def test_nothing_left_out_that_the_budget_bears_alone(tmp_path: Path) -> None:
    """`c` harms most for its gain but fits behind `a`, `b`; `d`, before it in order, does not."""
    world = World(tmp_path / "tried.jsonl", budget=0.75)
    ranked = [Candidate(node, "int8", HARM[node], gain) for node, gain in {**GAIN, "d": 30.0}.items()]
    assert [item.node for item in by_harm_per_gain(ranked)] == ["a", "b", "d", "c"]
    found = world.search.run({"fp32": WIDE}, WIDE, ranked)
    assert {node for node in HARM if found.chosen.assignment[node] == "int8"} == {"a", "b", "c"}


def test_a_node_that_saves_nothing_stays_wide(tmp_path: Path) -> None:
    idle = [Candidate("a", "int8", 0.0, 0.0), Candidate("b", "int8", 0.1, -1.0)]
    found = World(tmp_path / "tried.jsonl").search.run({"fp32": WIDE}, WIDE, idle)
    assert found.chosen.name == "fp32" and len(found.trials) == 1


def test_it_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    path = tmp_path / "tried.jsonl"
    first = World(path, patience=3)
    stopped = first.search.run({"fp32": WIDE, "int8": NARROW}, WIDE, candidates())
    assert not stopped.complete and len(first.judged) == 3
    with path.open("a") as file:
        file.write('{"key": "key", "assi')  # killed while writing
    again = World(path)
    found = again.search.run({"fp32": WIDE, "int8": NARROW}, WIDE, candidates())
    whole = World(tmp_path / "other.jsonl")
    assert found.chosen == whole.search.run({"fp32": WIDE, "int8": NARROW}, WIDE, candidates()).chosen
    assert len(again.judged) == len(whole.judged) - len(first.judged)


def test_what_was_tried_for_something_else_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "tried.jsonl"
    World(path).search.run({"fp32": WIDE}, WIDE, candidates())
    assert len(Tried(path, "key")) > 0
    assert len(Tried(path, "another")) == 0


def test_anchors_are_tried_without_any_time(tmp_path: Path) -> None:
    found = World(tmp_path / "tried.jsonl", patience=0).search.run({"fp32": WIDE, "int8": NARROW}, WIDE, candidates())
    assert [trial.name for trial in found.trials] == ["fp32", "int8"]
    assert found.chosen.name == "fp32" and not found.complete


def test_no_way_within_the_budget_is_told(tmp_path: Path) -> None:
    with pytest.raises(CriterionFailed, match="no precision stays within"):
        World(tmp_path / "tried.jsonl").search.run({"int8": NARROW}, WIDE, [])


def test_of_equally_fast_ones_the_more_exact_is_chosen(tmp_path: Path) -> None:
    world = World(tmp_path / "tried.jsonl", budget=9.0)
    world.search._clock = lambda assignments: [5.0 for _ in assignments]
    assert world.search.run({"int8": NARROW, "fp32": WIDE}, WIDE, candidates()).chosen.name == "fp32"


def log_probs(*classes: int, width: int = 4, sure: float = 6.0) -> np.ndarray:
    scores = np.zeros((len(classes), width))
    scores[np.arange(len(classes)), classes] = sure
    return scores - np.log(np.exp(scores).sum(1, keepdims=True))


def test_harm_tells_flips_of_blanks_and_of_labels_apart() -> None:
    reference = [log_probs(0, 1, 1, 0, 2, 0, 0, 0)]
    same = harm(reference, reference)
    assert (same.divergence, same.blank_flips, same.label_flips, same.edits, same.total) == (0, 0, 0, 0, 0)
    one_blank = harm(reference, [log_probs(0, 1, 1, 0, 0, 0, 0, 0)])
    assert (one_blank.blank_flips, one_blank.label_flips, one_blank.edits) == (1 / 8, 0, 1 / 2)
    one_label = harm(reference, [log_probs(0, 1, 1, 0, 3, 0, 0, 0)])
    assert (one_label.blank_flips, one_label.label_flips, one_label.edits) == (0, 1 / 8, 1 / 2)
    longer = harm(reference, [log_probs(0, 1, 1, 1, 2, 0, 0, 0)])  # a gloss held longer is the same gloss
    assert longer.edits == 0 and longer.blank_flips == 1 / 8


def test_below_the_first_flip_the_divergence_ranks() -> None:
    reference = [log_probs(0, 1, 0, 2)]
    near, far = harm(reference, [log_probs(0, 1, 0, 2, sure=5.5)]), harm(reference, [log_probs(0, 1, 0, 2, sure=3.0)])
    assert near.blank_flips == far.blank_flips == 0
    assert 0 < near.total < far.total


def test_what_is_not_finite_is_of_no_use() -> None:
    reference = [log_probs(0, 1)]
    assert harm(reference, [np.full((2, 4), np.nan)]).total == np.inf


def test_other_shapes_are_refused() -> None:
    for found in ([], [log_probs(0)], [log_probs(0, 1), log_probs(0, 1)]):
        with pytest.raises(BadInput, match="equal shapes"):
            harm([log_probs(0, 1)], found)
