"""Word error rate: the alignment of a hypothesis with its reference, counted exactly as NIST sclite counts it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, List, Optional, Sequence, Tuple

from runtime.errors import BadInput

# What NIST sclite charges for an error; a match is free. Because a substitution costs more than an insertion and less
# than an insertion with a deletion, the number of errors can exceed the plain edit distance.
SUBSTITUTION = 4
INSERTION = 3
DELETION = 3

Step = Tuple[Optional[str], Optional[str]]  # reference word, hypothesis word; None stands for a gap


@dataclass(frozen=True)
class Counts:
    """Words of an alignment by their fate. Counts of several clips add up."""

    correct: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.correct + other.correct,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def reference_words(self) -> int:
        return self.correct + self.substitutions + self.deletions

    @property
    def wer(self) -> float:
        """Errors per reference word in percent; may exceed 100. Raises `BadInput` without reference words."""
        if self.reference_words == 0:
            raise BadInput("the reference has no words, so it has no word error rate")
        return 100.0 * self.errors / self.reference_words


def fold(word: str) -> bytes:
    """The form in which two words are compared: only ASCII letters lose their case, as in sclite."""
    return word.encode("utf-8", "surrogatepass").lower()


def _costs(reference: Sequence[bytes], hypothesis: Sequence[bytes]) -> List[List[int]]:
    """Rows 0..R of columns 0..H: least cost of aligning the first r reference with the first h hypothesis words."""
    row = [INSERTION * count for count in range(len(hypothesis) + 1)]
    rows = [row]
    for word in reference:
        above = row
        left = above[0] + DELETION
        row = [left]
        for column, heard in enumerate(hypothesis):
            best = above[column] if heard == word else above[column] + SUBSTITUTION
            deletion = above[column + 1] + DELETION
            left += INSERTION
            if deletion < best:
                best = deletion
            if best < left:
                left = best
            row.append(left)
        rows.append(row)
    return rows


def aligned(reference: Sequence[str], hypothesis: Sequence[str]) -> List[Step]:
    """The alignment itself: (reference word, hypothesis word) from first to last, None for a gap.

    Of several alignments of the same cost it is the one that sclite takes: walking back from the end, a match or a
    substitution goes before an insertion, and an insertion before a deletion. (The rule is not in sclite's manual; it
    was found by comparison and holds on every case of the tests.)
    """
    wanted = [fold(word) for word in reference]
    heard = [fold(word) for word in hypothesis]
    costs = _costs(wanted, heard)
    row, column = len(wanted), len(heard)
    steps: List[Step] = []
    while row and column:
        cost = costs[row][column]
        pair = 0 if wanted[row - 1] == heard[column - 1] else SUBSTITUTION
        if cost == costs[row - 1][column - 1] + pair:
            row, column = row - 1, column - 1
            steps.append((reference[row], hypothesis[column]))
        elif cost == costs[row][column - 1] + INSERTION:
            column -= 1
            steps.append((None, hypothesis[column]))
        else:
            row -= 1
            steps.append((reference[row], None))
    steps.extend((None, hypothesis[index]) for index in reversed(range(column)))
    steps.extend((reference[index], None) for index in reversed(range(row)))
    return steps[::-1]


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> Counts:
    """Correct, substituted, deleted and inserted words of one clip, equal to NIST sclite's (costs 0/4/3/3).

    Words are compared whole; only ASCII letters are folded, so that an umlaut keeps its case as in sclite.
    Either side may be empty.
    """
    steps = aligned(reference, hypothesis)
    deletions = sum(1 for _, heard in steps if heard is None)
    insertions = len(steps) - len(reference)
    correct = sum(
        1 for wanted, heard in steps if wanted is not None and heard is not None and fold(wanted) == fold(heard)
    )
    return Counts(correct, len(reference) - deletions - correct, deletions, insertions)


def corpus_wer(pairs: Iterable[Tuple[Sequence[str], Sequence[str]]]) -> Counts:
    """Summed counts of many (reference, hypothesis) pairs: errors and words are added up before the division.

    Raises `BadInput` when there is no reference word at all.
    """
    total = Counts()
    for reference, hypothesis in pairs:
        total = total + align(reference, hypothesis)
    if total.reference_words == 0:
        raise BadInput("no reference words to score against; the list of references is empty")
    return total
