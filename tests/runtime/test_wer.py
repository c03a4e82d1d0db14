"""Word error rate: counts and alignment equal sclite's."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.errors import BadInput
from runtime.wer import DELETION, INSERTION, SUBSTITUTION, Counts, align, aligned, corpus_wer


def test_every_case_that_sclite_scored_is_counted_alike(shared: Path) -> None:
    cases = json.loads((shared / "sclite_fuzz_4500.json").read_text())["cases"]
    assert len(cases) == 4500
    wrong = []
    for reference, hypothesis, expected in cases:
        counts = align(list(reference), hypothesis.split())
        found = [counts.correct, counts.substitutions, counts.deletions, counts.insertions]
        if found != expected:
            wrong.append((reference, hypothesis, expected, found))
    assert not wrong


@pytest.mark.parametrize(
    ("reference", "hypothesis", "counts"),
    [
        ("A B C", "A B C", Counts(3, 0, 0, 0)),
        ("A B C", "A C", Counts(2, 0, 1, 0)),
        ("A C", "A B C", Counts(2, 0, 0, 1)),
        ("A B C", "A X C", Counts(2, 1, 0, 0)),
        ("A B", "", Counts(0, 0, 2, 0)),
        ("", "A B", Counts(0, 0, 0, 2)),
        ("", "", Counts()),
        # sclite's costs make this six errors where the plain edit distance is five
        ("A B C D E", "X Y Z A B", Counts(2, 0, 3, 3)),
        ("regen Wind", "REGEN WIND", Counts(2, 0, 0, 0)),
        ("Ü ß", "ü SS", Counts(0, 2, 0, 0)),
        ("ÄB", "Äb", Counts(1, 0, 0, 0)),
        ("WIE-AUSSEHEN A- (B)", "WIE AUSSEHEN A B", Counts(0, 3, 0, 1)),
    ],
)
def test_words_are_counted_as_sclite_does(reference: str, hypothesis: str, counts: Counts) -> None:
    assert align(reference.split(), hypothesis.split()) == counts


def test_ties_go_to_pairs_then_insertions_then_deletions_from_the_end() -> None:
    assert aligned(["A", "A"], ["A"]) == [("A", None), ("A", "A")]
    assert aligned(["A"], ["A", "A"]) == [(None, "A"), ("A", "A")]
    # three substitutions cost as much as one match between two insertions and two deletions
    assert aligned(list("ABC"), list("XYA")) == [("A", "X"), ("B", "Y"), ("C", "A")]
    # a substitution beside a gap: either reference word may take it, the later one does
    assert aligned(["A", "B"], ["X"]) == [("A", None), ("B", "X")]
    # dearer pairs give way to gaps
    assert aligned(list("ABCD"), list("XAB")) == [(None, "X"), ("A", "A"), ("B", "B"), ("C", None), ("D", None)]


def test_an_alignment_spells_both_sides_and_no_alignment_is_cheaper() -> None:
    rng = random.Random(7)
    for _ in range(200):
        reference = rng.choices("ABC", k=rng.randint(0, 6))
        hypothesis = rng.choices("ABC", k=rng.randint(0, 6))
        steps = aligned(reference, hypothesis)
        assert [wanted for wanted, _ in steps if wanted is not None] == reference
        assert [heard for _, heard in steps if heard is not None] == hypothesis
        counts = align(reference, hypothesis)
        cost = SUBSTITUTION * counts.substitutions + DELETION * counts.deletions + INSERTION * counts.insertions
        assert cost == _least_cost(tuple(reference), tuple(hypothesis))


def _least_cost(reference: tuple[str, ...], hypothesis: tuple[str, ...]) -> int:
    """By trying everything."""
    if not reference or not hypothesis:
        return INSERTION * len(hypothesis) + DELETION * len(reference)
    if reference[0] == hypothesis[0]:
        return _least_cost(reference[1:], hypothesis[1:])
    return min(
        SUBSTITUTION + _least_cost(reference[1:], hypothesis[1:]),
        INSERTION + _least_cost(reference, hypothesis[1:]),
        DELETION + _least_cost(reference[1:], hypothesis),
    )


def test_counts_add_up_and_give_a_rate_in_percent() -> None:
    total = Counts(8, 1, 1, 2) + Counts(10, 0, 0, 0)
    assert total == Counts(18, 1, 1, 2)
    assert (total.errors, total.reference_words, total.wer) == (4, 20, 20.0)
    assert Counts(0, 1, 0, 4).wer == 500.0


def test_a_corpus_is_summed_before_the_division() -> None:
    counts = corpus_wer([(["A"], ["B"]), (list("ABCDEFGHI"), list("ABCDEFGHI"))])
    assert counts.wer == 10.0


def test_an_empty_reference_has_no_rate() -> None:
    with pytest.raises(BadInput, match="no words"):
        _ = Counts(0, 0, 0, 3).wer
    with pytest.raises(BadInput, match="no reference words"):
        corpus_wer([])
    with pytest.raises(BadInput, match="no reference words"):
        corpus_wer([([], ["A"])])


def test_scoring_on_a_device_needs_no_numpy_nor_torch() -> None:
    code = "import sys, runtime.wer; print(sorted({'numpy', 'torch', 'pydantic'} & set(sys.modules)))"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert found.stdout.strip() == "[]"
