"""STM: the reference file of NIST scoring, one utterance a line: `utterance channel signer start end words`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.score.ctm import NULL_WORD
from bench.score.lines import check_name, fields_of, is_number
from runtime.atomic import atomic_file
from runtime.errors import BadInput

IGNORED_SEGMENT = "ignore_time_segment_in_scoring"
FOREVER = "1.79769e+308"  # the end that the PHOENIX references give to each utterance


@dataclass(frozen=True)
class StmUtterance:
    """One line of an stm."""

    utterance: str
    channel: str
    signer: str
    words: tuple[str, ...]
    line: int  # in its file, from 1


def read_stm(path: Path) -> dict[str, StmUtterance]:
    """Utterance -> reference, in the order of the file.

    Each utterance has one line, so its times do not matter (sclite too then takes every word of the utterance). Raises
    `BadInput` with file and line for a malformed or repeated line and for sclite's notations that are not supported:
    alternatives `{ a / b }`, the null word `@`, ignored segments. Raises it too when there is nothing to score against.
    """
    found: dict[str, StmUtterance] = {}
    for number, fields in fields_of(path, "stm"):
        reference = _utterance(path, number, fields)
        earlier = found.setdefault(reference.utterance, reference)
        if earlier is not reference:
            raise BadInput(
                f"{path}:{number}: utterance {reference.utterance} was already on line {earlier.line}; one line each"
            )
    if not any(reference.words for reference in found.values()):
        raise BadInput(f"{path}: the reference is empty: no utterance has a word to score against")
    return found


def _utterance(path: Path, number: int, fields: list[str]) -> StmUtterance:
    where = f"{path}:{number}"
    if len(fields) < 5:
        raise BadInput(
            f"{where}: an stm line is 'utterance channel signer start end [<label>] words', got {len(fields)} fields"
        )
    utterance, channel, signer, start, end, *words = fields
    for name, text in (("start", start), ("end", end)):
        if not is_number(text):
            raise BadInput(f"{where}: {name} must be a number of seconds, got '{text}'")
    if words and words[0].startswith("<") and words[0].endswith(">"):
        words = words[1:]
    for word in words:
        if "{" in word:
            raise BadInput(f"{where}: alternatives '{{ a / b }}' are not supported; choose one wording")
        if word == NULL_WORD:
            raise BadInput(f"{where}: '@' is sclite's sign for no word and is not supported; leave it out")
        if word.lower() == IGNORED_SEGMENT:
            raise BadInput(f"{where}: ignored segments are not supported; take the utterance out of both files")
    return StmUtterance(utterance, channel, signer, tuple(words), number)


def write_stm(path: Path, references: Mapping[str, Sequence[str]], signers: Mapping[str, str] | None = None) -> None:
    """Write utterance -> words as an stm that sclite reads, in the byte order of the names.

    `signers` names the signer of an utterance; without a name there it is `unknown`.
    """
    lines = []
    for utterance in sorted(references):
        signer = (signers or {}).get(utterance) or "unknown"
        for what, name in (("utterance", utterance), ("signer", signer), *(("word", w) for w in references[utterance])):
            check_name(what, name)
        lines.append(" ".join([utterance, "1", signer, "0.0", FOREVER, *references[utterance]]) + "\n")
    with atomic_file(path) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8", newline="\n")
