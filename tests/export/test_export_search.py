"""The search for a precision a node: what it tries, keeps, and chooses. Judge and clock are arithmetic here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from export.backends.race import Ratio
from export.search.kept import Kept
from export.search.places import timed
from export.search.search import Assignment, Candidate, Judged, Search, Timed, by_harm_per_gain
from export.search.sensitivity import harm
from runtime.errors import BadInput, CriterionFailed

HARM = {"a": 0.1, "b": 0.2, "c": 0.4, "d": 5.0}
GAIN = {"a": 1.0, "b": 2.0, "c": 1.0, "d": 3.0}
WIDE = dict.fromkeys(HARM, "fp32")
NARROW = dict.fromkeys(HARM, "int8")


def narrow(assignment: Assignment) -> set[str]:
    return {node for node, precision in assignment.items() if precision == "int8"}


class World:
    """A network whose WER rises by what is narrowed, and that takes 10 ms less what is saved."""

    def __init__(self, budget: float = 0.5, patience: int = 100) -> None:
        self.judged: list[Assignment] = []
        self.patience = patience
        self.search = Search(self.judge, self.clock, budget, self.left)

    def judge(self, assignment: Assignment) -> Judged:
        self.judged.append(assignment)
        rise = self.rise(narrow(assignment))
        return Judged(10 + rise, rise, rise, rise)

    def rise(self, nodes: set[str]) -> float:
        return sum(HARM[node] for node in nodes)

    def clock(self, assignments: Sequence[Assignment]) -> list[Timed]:
        times = [10 - sum(GAIN[node] for node in narrow(item)) for item in assignments]
        return [Timed(ms, Ratio(ms / min(times), ms / min(times), ms / min(times), 0)) for ms in times]

    def left(self) -> float:
        return self.patience - len(self.judged)


def candidates() -> tuple[list[Candidate], bool]:
    return [Candidate(node, HARM[node], GAIN[node]) for node in HARM], True


def test_it_finds_the_fastest_that_the_budget_bears() -> None:
    found = World().search.run({"fp32": WIDE, "int8": NARROW}, WIDE, candidates)
    assert found.complete
    assert narrow(found.chosen.assignment) == {"a", "b"}
    assert found.chosen.timed is not None and found.chosen.timed.ms == 7.0
    assert {trial.name: trial.timed for trial in found.trials}["int8"] is None  # what fails the budget is not timed


def test_nothing_left_out_that_the_budget_bears_alone() -> None:
    """`c` harms most for its gain but fits behind `a`, `b`; `d`, before it in order, does not."""
    ranked = [Candidate(node, HARM[node], gain) for node, gain in {**GAIN, "d": 30.0}.items()]
    assert [item.node for item in by_harm_per_gain(ranked)] == ["a", "b", "d", "c"]
    found = World(budget=0.75).search.run({"fp32": WIDE}, WIDE, lambda: (ranked, True))
    assert narrow(found.chosen.assignment) == {"a", "b", "c"}


def test_what_halving_takes_for_too_many_is_tried_from_above() -> None:
    """The bound of few clips jumps: two nodes fail where three pass."""

    class Jumping(World):
        def rise(self, nodes: set[str]) -> float:
            return 0.0 if len(nodes) in (0, 1, 3) else 9.0

    found = Jumping().search.run({"fp32": WIDE}, WIDE, candidates)
    assert len(narrow(found.chosen.assignment)) == 3


def test_a_node_that_saves_nothing_stays_wide() -> None:
    idle = [Candidate("a", 0.0, 0.0), Candidate("b", 0.1, -1.0)]
    found = World().search.run({"fp32": WIDE}, WIDE, lambda: (idle, True))
    assert found.chosen.name == "fp32" and len(found.trials) == 1


def test_anchors_are_tried_without_any_time() -> None:
    found = World(patience=0).search.run({"fp32": WIDE, "int8": NARROW}, WIDE, candidates)
    assert [trial.name for trial in found.trials] == ["fp32", "int8"]
    assert found.chosen.name == "fp32" and not found.complete


def test_a_ranking_that_was_cut_off_is_no_complete_search() -> None:
    found = World().search.run({"fp32": WIDE}, WIDE, lambda: ([], False))
    assert not found.complete and found.chosen.name == "fp32"


def test_no_way_within_the_budget_is_told() -> None:
    with pytest.raises(CriterionFailed, match="no precision stays within"):
        World().search.run({"int8": NARROW}, WIDE, lambda: ([], True))


def test_what_loses_a_tensor_does_not_pass_whatever_it_reads() -> None:
    world = World(budget=9.0)
    world.search._judge = lambda item: Judged(10, 0, 0, 0, "the weight 'w' does not survive" if narrow(item) else "")
    found = world.search.run({"fp32": WIDE, "int8": NARROW}, WIDE, candidates)
    assert not narrow(found.chosen.assignment)


def test_what_cannot_be_built_is_passed_over() -> None:
    world = World(budget=9.0)
    world.search._judge = lambda item: Judged(10, 0, 0, 0) if len(narrow(item)) < 2 else None
    found = world.search.run({"fp32": WIDE, "int8": NARROW}, WIDE, candidates)
    assert len(narrow(found.chosen.assignment)) == 1 and all(len(narrow(item.assignment)) < 2 for item in found.trials)


def test_of_equally_fast_ones_the_more_exact_is_chosen() -> None:
    world = World(budget=9.0)
    world.search._clock = lambda items: [Timed(5.0, Ratio(1.0 + 0.001 * i, 1, 1, 9)) for i in range(len(items))]
    assert world.search.run({"int8": NARROW, "fp32": WIDE}, WIDE, candidates).chosen.name == "fp32"


def test_the_fastest_of_a_race_is_told_by_pairs() -> None:
    """On a machine whose speed changes from round to round, and clips of unlike lengths, medians would mislead."""
    speed = np.array([[1.0, 5.0], [3.0, 15.0], [1.0, 5.0], [3.0, 15.0]]) * 1e6
    slow = speed * 1.02
    slow[1] /= 100  # one lucky round
    found = timed({"slow": slow, "fast": speed})
    assert found["fast"].ratio.value == 1 and found["slow"].ratio.value == pytest.approx(1.02)
    assert found["fast"].ms == pytest.approx(np.median([1, 3, 1, 3]) * 0.5 + np.median([5, 15, 5, 15]) * 0.5)


def test_what_was_found_out_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "search" / "tried.jsonl"
    Kept(path, "key").add("judged", "one", {"wer": 1.0})
    with path.open("a") as file:
        file.write('{"key": "key", "kin')  # killed while writing
    again = Kept(path, "key")
    assert again.get("judged", "one") == {"wer": 1.0} and again.get("harm", "one") is None
    again.add("judged", "two", {"wer": 2.0})
    last = Kept(path, "key")
    assert len(last) == 2 and last.get("judged", "two") == {"wer": 2.0}
    assert len(Kept(path, "another")) == 0, "what was found for something else is not believed"
    path.write_bytes(b"\xff")
    with pytest.raises(BadInput, match="cannot read"):
        Kept(path, "key")


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
