"""CTM: the hypothesis file of NIST scoring, one recognised word a line: `utterance channel start duration word`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.score.lines import check_name, fields_of, is_number
from runtime.atomic import atomic_file
from runtime.errors import BadInput

NULL_WORD = "@"


@dataclass(frozen=True)
class CtmWord:
    """One line of a ctm. Times stay as written, for protocols that sort them as text."""

    utterance: str
    channel: str
    start: str  # seconds
    duration: str  # seconds
    word: str
    line: int  # in its file, from 1


def read_ctm(path: Path) -> list[CtmWord]:
    """The words of a ctm in the order of the file; a sixth field (confidence) is passed over, as sclite does.

    Raises `BadInput` with file and line for a line that is not `utterance channel start duration word [confidence]`.
    """
    return [_word(path, number, fields) for number, fields in fields_of(path, "ctm")]


def _word(path: Path, number: int, fields: list[str]) -> CtmWord:
    where = f"{path}:{number}"
    if len(fields) not in (5, 6):
        hint = "; leave an utterance without words out" if len(fields) == 4 else ""
        form = "utterance channel start duration word [confidence]"
        raise BadInput(f"{where}: a ctm line is '{form}', got {len(fields)} fields{hint}")
    utterance, channel, start, duration, word = fields[:5]
    if word.startswith("<ALT"):
        raise BadInput(f"{where}: alternative hypotheses ({word}) are not supported; give the best one only")
    for name, text in (("start", start), ("duration", duration)):
        if not is_number(text):
            raise BadInput(f"{where}: {name} must be a number of seconds, got '{text}'")
    if len(fields) == 6 and fields[5] != "NA" and not is_number(fields[5]):
        raise BadInput(f"{where}: the sixth field is a confidence, got '{fields[5]}'; one word a line")
    if word == NULL_WORD:
        raise BadInput(f"{where}: '@' is sclite's sign for no word and is not supported; leave the line out")
    return CtmWord(utterance, channel, start, duration, word, number)


def write_ctm(path: Path, hypotheses: Mapping[str, Sequence[str]]) -> None:
    """Write utterance -> words as a ctm that sclite and the PHOENIX scripts read, in the byte order of the names.

    There are no word times in a recogniser's output, so word i is put at i/100 s, as is the custom for sign language.
    An utterance without words has no line. Raises `BadInput` for a name or word that is not one field.
    """
    lines = []
    for utterance in sorted(hypotheses):
        check_name("utterance", utterance)
        for index, word in enumerate(hypotheses[utterance]):
            check_name("word", word)
            lines.append(f"{utterance} 1 {index / 100:.2f} 0.01 {word}\n")
    with atomic_file(path) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8", newline="\n")
