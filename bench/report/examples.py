"""The same clips as each system read them: pictures, and readings aligned with the reference column by column."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass

from bench.record import ExampleRecord, Record, SystemRecord
from bench.report.cast import Cast
from runtime.errors import BadInput
from runtime.wer import Step, aligned, fold

_PICTURE = re.compile(r"data:image/(png|jpeg);base64,([A-Za-z0-9+/=]+)\Z")
_COLUMNS = 11  # words side by side; a longer sentence goes on in a further block


@dataclass(frozen=True)
class Mark:
    """One word of a reading under its reference column: the word read, the word due, and what that makes it.

    `kind`: correct, substitution, deletion, insertion; `empty` where another system inserted a word and this did not.
    """

    kind: str
    text: str = ""
    due: str = ""


@dataclass(frozen=True)
class Reading:
    """What one or several systems read alike."""

    systems: list[str]
    marks: list[Mark]
    counts: str


@dataclass(frozen=True)
class Block:
    """Columns that fit beside each other: reference words ("" where only an insertion stands), and marks by reading."""

    reference: list[str]
    readings: list[tuple[Reading, list[Mark]]]


@dataclass(frozen=True)
class Picture:
    """One frame: as a data URI for the page, as bytes and a file ending for the Markdown."""

    uri: str
    data: bytes
    ending: str


@dataclass(frozen=True)
class Example:
    """One clip."""

    clip: str
    split: str
    signer: str
    reference: list[str]
    pictures: list[Picture]
    readings: list[Reading]
    blocks: list[Block]


def gather_examples(records: Sequence[Record], cast: Cast) -> list[Example]:
    """All examples in the order of the records. Raises `BadInput` for a picture that is no PNG or JPEG data URI."""
    return [_example(record, cast) for record in records if isinstance(record, ExampleRecord)]


def _example(record: ExampleRecord, cast: Cast) -> Example:
    readings: dict[tuple[str, ...], list[SystemRecord]] = {}
    for system in cast.systems.values():
        for utterance in system.wer.utterances if system.wer else []:
            if utterance.id == record.clip:
                readings.setdefault(tuple(utterance.hypothesis), []).append(system)
    steps = {hypothesis: aligned(record.reference, hypothesis) for hypothesis in readings}
    gaps = _gaps(list(steps.values()), len(record.reference))
    rows = [_reading(_names(systems, cast), steps[hypothesis], gaps) for hypothesis, systems in readings.items()]
    header = _header(record.reference, gaps)
    blocks = [
        Block(header[i : i + _COLUMNS], [(row, row.marks[i : i + _COLUMNS]) for row in rows])
        for i in range(0, len(header), _COLUMNS)
    ]
    pictures = [_picture(uri, record.clip, number) for number, uri in enumerate(record.pictures, start=1)]
    return Example(record.clip, record.split, record.signer, record.reference, pictures, rows, blocks)


def _names(systems: list[SystemRecord], cast: Cast) -> list[str]:
    """`LRINet + CRKD` where all rows of a run read alike, else those that did: `LRINet + CRKD INT8`."""
    if len(systems) == len(cast.systems):
        return ["all systems"]
    names = []
    for run in dict.fromkeys(system.run for system in systems):
        here = [system for system in systems if system.run == run]
        whole = len(here) == sum(system.run == run for system in cast.systems.values())
        names += [cast.run_name(here[0])] if whole else [cast.full_name(system) for system in here]
    return names


def _gaps(alignments: list[list[Step]], words: int) -> list[int]:
    """How many insertions the readings have at most before each reference word, and after the last."""
    widest = [0] * (words + 1)
    for steps in alignments:
        place, run = 0, 0
        for wanted, _ in steps:
            run = run + 1 if wanted is None else 0
            widest[place] = max(widest[place], run)
            place += wanted is not None
    return widest


def _header(reference: list[str], gaps: list[int]) -> list[str]:
    header = [""] * gaps[0]
    for word, gap in zip(reference, gaps[1:], strict=True):
        header += [word] + [""] * gap
    return header


def _reading(names: list[str], steps: list[Step], gaps: list[int]) -> Reading:
    marks: list[Mark] = []
    place, run = 0, 0
    for wanted, heard in steps:
        if wanted is None:
            marks.append(Mark("insertion", heard or ""))
            run += 1
            continue
        marks += [Mark("empty")] * (gaps[place] - run)
        marks.append(_mark(wanted, heard))
        place, run = place + 1, 0
    marks += [Mark("empty")] * (gaps[place] - run)
    kinds = [mark.kind for mark in marks]
    letters = (("substitution", "S"), ("deletion", "D"), ("insertion", "I"))
    counts = [f"{kinds.count(kind)} {letter}" for kind, letter in letters if kind in kinds]
    return Reading(names, marks, " ".join(counts) or "no error")


def _mark(wanted: str, heard: str | None) -> Mark:
    if heard is None:
        return Mark("deletion", "", wanted)
    return Mark("correct" if fold(wanted) == fold(heard) else "substitution", heard, wanted)


def _picture(uri: str, clip: str, number: int) -> Picture:
    match = _PICTURE.match(uri)
    try:
        if match is None:
            raise ValueError("no PNG or JPEG data URI")
        return Picture(uri, base64.b64decode(match[2], validate=True), {"png": "png", "jpeg": "jpg"}[match[1]])
    except (ValueError, binascii.Error) as error:
        raise BadInput(f"example '{clip}': picture {number} is {error}; a page holds embedded pictures only") from error
