"""The WER gate where the engine is: what it reads of the bundle's clips against what the FP32 graph read of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Sequence, Tuple

import numpy as np

from runtime.bootstrap import paired_interval
from runtime.device.folder import GateClip
from runtime.errors import BadInput, CriterionFailed
from runtime.wer import align

Recognise = Callable[[np.ndarray], List[str]]  # frames or keypoints -> glosses


@dataclass(frozen=True)
class Gate:
    """What a gate saw. WERs in percent, the rest in points; `low` and `high` bound the rise (95 %, paired)."""

    clips: int
    reference_words: int
    wer: float
    baseline_wer: float
    rise: float
    low: float
    high: float
    changed: int  # clips that were read otherwise than by FP32
    budget: float

    @property
    def passed(self) -> bool:
        """Whether the rise is within the budget."""
        return self.rise <= self.budget + 1e-9

    def described(self) -> Dict[str, Any]:
        """As plain data."""
        return {**dataclasses.asdict(self), "passed": self.passed}

    def sentence(self) -> str:
        """One line for a person."""
        return (
            f"WER {self.wer:.2f} % on {self.clips} clips, fp32 {self.baseline_wer:.2f} %, rise {self.rise:+.2f} points "
            f"({self.low:+.2f} to {self.high:+.2f}), {self.budget:.2f} allowed"
        )


@dataclass(frozen=True)
class Verdict(Gate):
    """The gate of a bundle, which knows what its graph read of each clip where it was made."""

    unexpected: Tuple[str, ...] = ()  # clips that were read otherwise than there


def judge(recognise: Recognise, clips: Iterable[GateClip], budget: float) -> Verdict:
    """Read every clip and compare. Raises `BadInput` without clips, or whatever `recognise` raises."""
    errors, base_errors, words, unexpected = [], [], [], []
    changed = 0
    for item in clips:
        read = tuple(recognise(item.clip))
        found = align(item.reference, read)
        errors.append(found.errors)
        base_errors.append(align(item.reference, item.baseline).errors)
        words.append(found.reference_words)
        changed += read != item.baseline
        if read != item.expected:
            unexpected.append(item.id)
    if not sum(words):
        raise BadInput("the gate has no clips with reference glosses, so nothing can be judged")
    figures = rise_of(errors, base_errors, words)
    return Verdict(changed=changed, unexpected=tuple(unexpected), budget=budget, **figures)


def rise_of(errors: Sequence[int], base_errors: Sequence[int], words: Sequence[int]) -> Dict[str, Any]:
    """The figures that every gate states, by the names of `Gate`, from each clip's errors and reference words."""
    total, rise = sum(words), paired_interval(errors, base_errors, words)
    return {
        "clips": len(words), "reference_words": total, "wer": 100 * sum(errors) / total,
        "baseline_wer": 100 * sum(base_errors) / total, "rise": rise.value, "low": rise.low, "high": rise.high,
    }  # fmt: skip


def require(verdict: Gate, name: str) -> None:
    """Raise `CriterionFailed` that says by how much, unless the gate was passed."""
    if not verdict.passed:
        raise CriterionFailed(f"{name} failed the WER gate: {verdict.sentence()}")
