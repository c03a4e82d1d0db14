"""Lines of a ctm or stm file, as fields with their line numbers; comments and blank lines are passed over."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from runtime.errors import BadInput

COMMENT = ";;"
# What sclite takes for space. str.split() would also cut at a no-break space, which may stand inside a word.
_SPACE = {ord(character): " " for character in "\t\r\f\v"}


def fields_of(path: Path, kind: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number from 1, fields). Raises `BadInput` when the file is missing or not UTF-8."""
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise BadInput(f"cannot read {kind} {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        number = error.object[: error.start].count(b"\n") + 1
        raise BadInput(f"{path}:{number}: not UTF-8; convert the {kind} with: iconv -f ISO-8859-1 -t UTF-8") from error
    for number, line in enumerate(text.split("\n"), start=1):
        fields = [field for field in line.translate(_SPACE).split(" ") if field]
        if fields and not fields[0].startswith(COMMENT):
            yield number, fields


def is_number(text: str) -> bool:
    """Whether `text` is a finite decimal number, as a time has to be."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def check_name(what: str, name: str) -> None:
    """Raise `BadInput` when `name` could not stand as one field of a line."""
    if not name or any(character.isspace() for character in name) or name.startswith(COMMENT):
        raise BadInput(f"{what} {name!r} cannot stand in a ctm or stm file: one word, not beginning with ';;'")
