"""A scoring protocol: clean-up rules read from `protocols/NAME.yaml`, and what they make of the words of a ctm."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bench.score.ctm import CtmWord
from runtime.errors import BadInput

FOLDER = Path(__file__).parent / "protocols"


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="after")
    def _tried(self) -> Self:
        """A pattern or replacement that is not well-formed shows here, not in the middle of a file."""
        try:
            self("")
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return self

    def __call__(self, text: str) -> str | None:
        raise NotImplementedError


class Replace(_Rule):
    """Replace every match of a regular expression; `times` passes one after another."""

    replace: str
    by: str
    times: int = Field(default=1, ge=1)

    def __call__(self, text: str) -> str:
        for _ in range(self.times):
            text = re.sub(self.replace, self.by, text, flags=re.ASCII)
        return text


class Drop(_Rule):
    """Drop the whole line where a regular expression matches."""

    drop: str

    def __call__(self, text: str) -> str | None:
        return None if re.search(self.drop, text, re.ASCII) else text


class Protocol(BaseModel):
    """How hypotheses are cleaned before they are aligned. References are scored as they stand."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    source: str
    rules: list[Replace | Drop]
    empty_word: str | None  # stands for a hypothesis without words; None: such a hypothesis has no words
    drop_repeats: bool  # drop a word equal to the one before it in the same utterance, after the rules
    sort_words: bool  # order the words of an utterance by start time as text; else they keep the order of the file

    def clean(self, text: str) -> str | None:
        """What the rules make of the text of one line; None where a rule drops the line."""
        cleaned: str | None = text
        for rule in self.rules:
            if cleaned is None:
                return None
            cleaned = rule(cleaned)
        return cleaned

    def hypotheses(self, words: Iterable[CtmWord]) -> dict[str, list[str]]:
        """Utterance -> words after clean-up. An utterance of which nothing is left may be absent; see `missing`."""
        kept = self._filled(self._cleaned(words))
        if self.drop_repeats:
            kept = [
                word
                for before, word in zip([None, *kept], kept, strict=False)
                if before is None or (before.utterance, before.word) != (word.utterance, word.word)
            ]
        if self.sort_words:
            kept.sort(key=lambda word: (word.utterance, word.start, word.channel, word.duration, word.word))
        found: dict[str, list[str]] = {}
        for word in kept:
            found.setdefault(word.utterance, []).append(word.word)
        return found

    @cached_property
    def missing(self) -> list[str]:
        """The hypothesis of an utterance that has no line."""
        return [] if self.empty_word is None else [self.empty_word]

    def _cleaned(self, words: Iterable[CtmWord]) -> list[CtmWord]:
        """Words after the rules, "" for a line whose word vanished; lines that a rule drops are gone."""
        cleaned = ((word, self.clean(f" {word.word}")) for word in words)
        return [
            CtmWord(word.utterance, word.channel, word.start, word.duration, text.strip(" "), word.line)
            for word, text in cleaned
            if text is not None
        ]

    def _filled(self, words: list[CtmWord]) -> list[CtmWord]:
        """Drop lines without a word; where that leaves a run of lines of one utterance empty, put `empty_word`.

        As in the original, an utterance that had a word in an earlier run gets none, and neither does the last run of
        the file. For the latter `missing` makes up, so it shows in no score.
        """
        kept: list[CtmWord] = []
        counted: Counter[str] = Counter()
        for utterance, run in groupby(words, key=lambda word: word.utterance):
            lines = list(run)
            spoken = [word for word in lines if word.word]
            counted[utterance] += len(spoken)
            kept.extend(spoken)
            if not counted[utterance] and self.empty_word is not None and lines[-1] is not words[-1]:
                last = lines[-1]
                kept.append(CtmWord(utterance, last.channel, last.start, last.duration, self.empty_word, last.line))
        return kept


def names() -> list[str]:
    """The protocols there are."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_protocol(name: str) -> Protocol:
    """Read and validate a protocol by name. Raises `BadInput` for an unknown name or a broken file."""
    if name not in names():
        raise BadInput(f"no scoring protocol '{name}'; there are: {', '.join(names())}")
    path = FOLDER / f"{name}.yaml"
    try:
        return Protocol.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise BadInput(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
