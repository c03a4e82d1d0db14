"""What each system reads on the clips of a split, and its WER with intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from bench.record import Interval, Utterance, WerResult
from runtime.bootstrap import interval, paired_interval
from runtime.wer import align

if TYPE_CHECKING:
    from distill.corpus.schema import SignClip


class Reader(Protocol):
    """What can read a clip."""

    @property
    def name(self) -> str: ...

    def recognise(self, clip: SignClip) -> list[str]: ...


def read_clips(
    systems: Sequence[Reader], clips: Iterable[SignClip], progress: Callable[[], None] = lambda: None
) -> dict[str, list[Utterance]]:
    """Let every system read every clip, each with the preprocessing and decoding that it ships with."""
    readings: dict[str, list[Utterance]] = {system.name: [] for system in systems}
    for clip in clips:
        for system in systems:
            readings[system.name].append(judge(clip.id, clip.glosses, system.recognise(clip)))
        progress()
    return readings


def judge(clip: str, reference: Sequence[str], hypothesis: Sequence[str]) -> Utterance:
    """Align one reading with its reference, as sclite does."""
    counts = align(reference, hypothesis)
    return Utterance(
        id=clip,
        reference=list(reference),
        hypothesis=list(hypothesis),
        correct=counts.correct,
        substitutions=counts.substitutions,
        deletions=counts.deletions,
        insertions=counts.insertions,
    )


def wer_result(
    utterances: Sequence[Utterance],
    split: str,
    against: str | None = None,
    others: Sequence[Utterance] = (),
    decoder: str = "greedy",
) -> WerResult:
    """WER of one system with its bootstrap interval over clips, and the paired interval of its difference to `others`.

    others: the readings of system `against` on the same clips, in the same order.
    """
    return WerResult(
        split=split,
        decoder=decoder,
        reference_words=int(_words(utterances).sum()),
        substitutions=sum(item.substitutions for item in utterances),
        deletions=sum(item.deletions for item in utterances),
        insertions=sum(item.insertions for item in utterances),
        wer=Interval(**interval(_errors(utterances), _words(utterances))._asdict()),
        against=against,
        difference=difference(utterances, others) if against else None,
        utterances=list(utterances),
    )


def difference(system: Sequence[Utterance], against: Sequence[Utterance]) -> Interval:
    """WER of `system` minus WER of `against` in points, resampled over the clips that both read."""
    if [item.id for item in system] != [item.id for item in against]:
        raise ValueError("a paired interval needs both systems on the same clips in the same order")
    return Interval(**paired_interval(_errors(system), _errors(against), _words(system))._asdict())


def _errors(utterances: Sequence[Utterance]) -> np.ndarray:
    return np.array([item.substitutions + item.deletions + item.insertions for item in utterances])


def _words(utterances: Sequence[Utterance]) -> np.ndarray:
    return np.array([len(item.reference) for item in utterances])
