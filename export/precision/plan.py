"""What every node of a graph computes in, on which ranges, and why: the result of planning, the input of writing."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from export.calibration import Range
from runtime.errors import BadInput
from runtime.hashing import sha256_bytes

PRECISIONS = ("fp32", "fp16", "int8")
DIGITS = 9  # significant digits of a stored bound: enough to give back any float32 exactly


@dataclass(frozen=True)
class Decision:
    """What one node computes in, and why."""

    node: str
    op: str
    precision: str  # of PRECISIONS
    why: str


@dataclass(frozen=True)
class PrecisionPlan:
    """The precision of a graph, by names of its nodes and tensors.

    assignment: node -> precision; a node that is not named computes in fp32. ranges: tensor -> (low, high) with
    low <= 0 <= high, for every tensor that is stored in eight bits; its scale follows from nothing else. What only
    moves an eight-bit tensor (reshapes, slices, the shift's concatenations) takes over the scale of the tensor moved.
    decisions: the rules' reasons, in graph order. weight_bits: 8, or 7 where products of 8 bits saturate.
    """

    assignment: dict[str, str]
    ranges: dict[str, Range] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    weight_bits: int = 8

    def __post_init__(self) -> None:
        unknown = sorted(set(self.assignment.values()) - set(PRECISIONS))
        if unknown:
            raise BadInput(f"a precision plan assigns '{unknown[0]}'; there are: {', '.join(PRECISIONS)}")
        if self.weight_bits not in (7, 8):
            raise BadInput(f"weights have 7 or 8 bits, not {self.weight_bits}")

    def of(self, node: str) -> str:
        """The precision of a node."""
        return self.assignment.get(node, "fp32")

    def count(self, precision: str) -> int:
        """Number of nodes of a precision."""
        return list(self.assignment.values()).count(precision)

    def hash(self) -> str:
        """SHA-256 of what decides the written graph: assignment, ranges and bits; not of the reasons."""
        facts = {
            "assignment": self.assignment,
            "ranges": {name: [_stored(low), _stored(high)] for name, (low, high) in self.ranges.items()},
            "weight_bits": self.weight_bits,
        }
        return sha256_bytes(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode())


def _stored(bound: float) -> float:
    return float(f"{bound:.{DIGITS}g}")
