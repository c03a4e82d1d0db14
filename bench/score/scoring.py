"""Score hypotheses against references: clean as the protocol says, align each utterance, add up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.score.ctm import CtmWord, read_ctm
from bench.score.protocol import Protocol
from bench.score.stm import StmUtterance, read_stm
from runtime.errors import BadInput
from runtime.wer import Counts, align


@dataclass(frozen=True)
class ScoredUtterance:
    """One utterance: its words as they were aligned, and their counts."""

    id: str
    reference: tuple[str, ...]
    hypothesis: tuple[str, ...]
    counts: Counts


@dataclass(frozen=True)
class Score:
    """The result for a whole file."""

    total: Counts
    utterances: list[ScoredUtterance]
    unanswered: list[str]  # utterances of the reference without a line in the hypothesis
    wordless: list[str]  # utterances whose reference has no words: they can only hold insertions
    misordered: list[str]  # utterances whose words the protocol puts in another order than their times do

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints; `wer` in percent."""
        return {
            "wer": self.total.wer,
            "correct": self.total.correct,
            "substitutions": self.total.substitutions,
            "deletions": self.total.deletions,
            "insertions": self.total.insertions,
            "reference_words": self.total.reference_words,
            "utterances": [
                {
                    "id": scored.id,
                    "correct": scored.counts.correct,
                    "substitutions": scored.counts.substitutions,
                    "deletions": scored.counts.deletions,
                    "insertions": scored.counts.insertions,
                }
                for scored in self.utterances
            ],
        }


def score_files(hypothesis: Path, reference: Path, protocol: Protocol) -> Score:
    """Score a ctm against an stm. Raises `BadInput` that names file and line, or the surplus utterance."""
    references = read_stm(reference)
    words = read_ctm(hypothesis)
    _check_known(hypothesis, reference, words, references)
    if not protocol.sort_words:
        _check_together(hypothesis, words)
    return score(words, references, protocol)


def score(words: Iterable[CtmWord], references: Mapping[str, StmUtterance], protocol: Protocol) -> Score:
    """Score words against references that include every utterance of the words."""
    words = list(words)
    hypotheses = protocol.hypotheses(words)
    utterances = []
    for name, reference in references.items():
        heard = hypotheses.get(name, protocol.missing)
        utterances.append(ScoredUtterance(name, reference.words, tuple(heard), align(reference.words, heard)))
    answered = {word.utterance for word in words}
    return Score(
        total=sum((scored.counts for scored in utterances), Counts()),
        utterances=utterances,
        unanswered=[name for name in references if name not in answered],
        wordless=[name for name, reference in references.items() if not reference.words],
        misordered=_misordered(words) if protocol.sort_words else [],
    )


def _misordered(words: list[CtmWord]) -> list[str]:
    """Utterances whose start times have another order as text than as numbers, as 9.50 and 10.00 have."""
    starts: dict[str, list[str]] = {}
    for word in words:
        starts.setdefault(word.utterance, []).append(word.start)
    return [
        name for name, texts in starts.items() if sorted(texts) != sorted(texts, key=lambda text: (float(text), text))
    ]


def _check_known(
    hypothesis: Path, reference: Path, words: list[CtmWord], references: Mapping[str, StmUtterance]
) -> None:
    for word in words:
        known = references.get(word.utterance)
        if known is None:
            raise BadInput(
                f"{hypothesis}:{word.line}: utterance {word.utterance} is not in the reference {reference}; "
                "take it out, or score against the reference of its own split"
            )
        if known.channel.lower() != word.channel.lower():
            raise BadInput(
                f"{hypothesis}:{word.line}: utterance {word.utterance} has channel {word.channel}, "
                f"but the reference has {known.channel} ({reference}:{known.line})"
            )


def _check_together(path: Path, words: list[CtmWord]) -> None:
    """An utterance whose lines lie apart was most likely written twice; sclite refuses it as well."""
    last: dict[str, int] = {}
    for index, word in enumerate(words):
        if last.get(word.utterance, index - 1) != index - 1:
            before = words[last[word.utterance]].line
            raise BadInput(
                f"{path}:{word.line}: utterance {word.utterance} goes on after others (before: line {before}); "
                "keep its lines together, or remove the second hypothesis"
            )
        last[word.utterance] = index
