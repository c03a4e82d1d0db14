"""Which word was read as which: the alignment behind the coloured examples, one operation a word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["correct", "substitution", "deletion", "insertion"]
_SUBSTITUTION, _GAP = 4, 3  # sclite's costs


@dataclass(frozen=True)
class Operation:
    """One step of an alignment. `reference` is empty for an insertion, `hypothesis` for a deletion."""

    kind: Kind
    reference: str
    hypothesis: str


def operations(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Operation]:
    """Align two gloss sequences as NIST sclite does and return the operations in reading order.

    Costs: substitution 4, insertion 3, deletion 3; ASCII letters compare without case. Traced back from the end;
    among equal costs a match or substitution goes first, then an insertion, then a deletion.
    """
    left, right = [_fold(word) for word in reference], [_fold(word) for word in hypothesis]
    cost = [[_GAP * column for column in range(len(right) + 1)]]
    for row, word in enumerate(left, start=1):
        line = [_GAP * row]
        for column, other in enumerate(right, start=1):
            diagonal = cost[row - 1][column - 1] + (0 if word == other else _SUBSTITUTION)
            line.append(min(diagonal, cost[row - 1][column] + _GAP, line[column - 1] + _GAP))
        cost.append(line)

    steps: list[Operation] = []
    row, column = len(left), len(right)
    while row or column:
        same = row > 0 and column > 0 and left[row - 1] == right[column - 1]
        step = 0 if same else _SUBSTITUTION
        if row and column and cost[row][column] == cost[row - 1][column - 1] + step:
            row, column = row - 1, column - 1
            steps.append(Operation("correct" if same else "substitution", reference[row], hypothesis[column]))
        elif column and cost[row][column] == cost[row][column - 1] + _GAP:
            column -= 1
            steps.append(Operation("insertion", "", hypothesis[column]))
        else:
            row -= 1
            steps.append(Operation("deletion", reference[row], ""))
    return steps[::-1]


def _fold(word: str) -> str:
    return "".join(chr(ord(letter) + 32) if "A" <= letter <= "Z" else letter for letter in word)
