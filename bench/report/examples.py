"""The same clips as each system read them: pictures, and readings aligned with the reference column by column."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass

from bench.record import ExampleRecord, Record, Utterance
from bench.report.alignment import Operation, operations
from bench.report.cast import Cast
from runtime.errors import BadInput

_PICTURE = re.compile(r"data:image/(png|jpeg);base64,([A-Za-z0-9+/=]+)\Z")
_COLUMNS = 11  # words side by side; a longer sentence goes on in a further block


@dataclass(frozen=True)
class Mark:
    """One cell under a reference column: what kind of reading it is (`empty` where nothing was due), read and due word."""

    kind: str
    text: str = ""
    due: str = ""


@dataclass(frozen=True)
class Reading:
    """What one or several systems read: names of the systems, marks by column, numbers of errors."""

    systems: list[str]
    marks: list[Mark]
    errors: int
    counts: str


@dataclass(frozen=True)
class Block:
    """Columns that fit beside each other: the reference words ("" where only an insertion stands) and the readings."""

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
    found = [
        (cast.full_name(system), utterance.hypothesis)
        for system in cast.systems.values()
        if system.valid and (utterance := _utterance(system.wer.utterances if system.wer else [], record.clip))
    ]
    alike: dict[tuple[str, ...], list[str]] = {}
    for name, hypothesis in found:
        alike.setdefault(tuple(hypothesis), []).append(name)
    aligned = [(names, operations(record.reference, hypothesis)) for hypothesis, names in alike.items()]
    gaps = _gaps([steps for _, steps in aligned], len(record.reference))
    readings = [_reading(names, steps, gaps) for names, steps in aligned]
    header = _header(record.reference, gaps)
    blocks = [
        Block(header[i : i + _COLUMNS], [(reading, reading.marks[i : i + _COLUMNS]) for reading in readings])
        for i in range(0, len(header), _COLUMNS)
    ]
    pictures = [_picture(uri, record.clip, number) for number, uri in enumerate(record.pictures, start=1)]
    return Example(record.clip, record.split, record.signer, record.reference, pictures, readings, blocks)


def _utterance(rows: list[Utterance], clip: str) -> Utterance | None:
    return next((row for row in rows if row.id == clip), None)


def _gaps(alignments: list[list[Operation]], words: int) -> list[int]:
    """How many insertions the readings have at most before each reference word, and after the last."""
    widest = [0] * (words + 1)
    for steps in alignments:
        place, run = 0, 0
        for step in steps:
            run = run + 1 if step.kind == "insertion" else 0
            widest[place] = max(widest[place], run)
            place += step.kind != "insertion"
    return widest


def _header(reference: list[str], gaps: list[int]) -> list[str]:
    header = [""] * gaps[0]
    for word, gap in zip(reference, gaps[1:], strict=True):
        header += [word] + [""] * gap
    return header


def _reading(names: list[str], steps: list[Operation], gaps: list[int]) -> Reading:
    marks: list[Mark] = []
    place, run = 0, 0
    for step in steps:
        if step.kind == "insertion":
            marks.append(Mark("insertion", step.hypothesis))
            run += 1
            continue
        marks += [Mark("empty")] * (gaps[place] - run)
        marks.append(Mark(step.kind, step.hypothesis, step.reference))
        place, run = place + 1, 0
    marks += [Mark("empty")] * (gaps[place] - run)
    kinds = [step.kind for step in steps]
    counts = [
        f"{kinds.count(kind)} {short}"
        for kind, short in (("substitution", "S"), ("deletion", "D"), ("insertion", "I"))
        if kinds.count(kind)  # type: ignore[arg-type]
    ]
    errors = len(kinds) - kinds.count("correct")
    return Reading(names, marks, errors, " ".join(counts) or "all right")


def _picture(uri: str, clip: str, number: int) -> Picture:
    match = _PICTURE.match(uri)
    try:
        if match is None:
            raise ValueError("no PNG or JPEG data URI")
        return Picture(uri, base64.b64decode(match[2], validate=True), {"png": "png", "jpeg": "jpg"}[match[1]])
    except (ValueError, binascii.Error) as error:
        raise BadInput(f"example '{clip}': picture {number} is {error}; a page holds embedded pictures only") from error
