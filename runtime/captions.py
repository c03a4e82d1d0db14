"""Captions from glosses: signing without a pause becomes a cue; written as WebVTT, SubRip or JSON."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Sequence, Tuple

from runtime.binding import Gloss
from runtime.errors import BadInput

PAUSE = 0.7  # seconds without a gloss that end a cue
MOST_GLOSSES = 6  # of a cue: what is read at a glance
SHORTEST = 1.0  # seconds that a cue stays, unless the next one comes
FORMATS = (".vtt", ".srt", ".json")


class Cue(NamedTuple):
    """Glosses shown together from `start` to `end` (seconds)."""

    start: float
    end: float
    glosses: Tuple[str, ...]

    @property
    def text(self) -> str:
        return " ".join(self.glosses)


def cues(glosses: Iterable[Gloss]) -> List[Cue]:
    """Runs of glosses less than `PAUSE` apart, of at most `MOST_GLOSSES`. `glosses` are in the order of signing."""
    found: List[Cue] = []
    for gloss in glosses:
        last = found[-1] if found else None
        if last and gloss.start - last.end < PAUSE and len(last.glosses) < MOST_GLOSSES:
            found[-1] = Cue(last.start, max(last.end, gloss.end), (*last.glosses, gloss.text))
        else:
            found.append(Cue(gloss.start, gloss.end, (gloss.text,)))
    begins = [cue.start for cue in found[1:]] + [float("inf")]
    return [
        cue._replace(end=min(max(cue.end, cue.start + SHORTEST), begins[number])) for number, cue in enumerate(found)
    ]


def clock(seconds: float, point: str = ".") -> str:
    """`01:02:03.456`."""
    milliseconds = max(0, round(1000 * seconds))
    minutes, rest = divmod(milliseconds, 60000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"


def webvtt(shown: Sequence[Cue]) -> str:
    """A WebVTT file, for `<track>` of a web page and for most players."""
    blocks = [f"{clock(cue.start)} --> {clock(cue.end)}\n{html.escape(cue.text, quote=False)}\n" for cue in shown]
    return "\n".join(["WEBVTT\n", *blocks])


def subrip(shown: Sequence[Cue]) -> str:
    """An SRT file."""
    blocks = [
        f"{number}\n{clock(cue.start, ',')} --> {clock(cue.end, ',')}\n{cue.text}\n"
        for number, cue in enumerate(shown, start=1)
    ]
    return "\n".join(blocks)


def fields(gloss: Gloss) -> Dict[str, Any]:
    """A gloss as plain data; times in seconds."""
    numbers = {"start": 6, "end": 6, "confidence": 4, "stability": 4}
    return {name: round(value, numbers[name]) if name in numbers else value for name, value in gloss._asdict().items()}


def check_format(path: Path, formats: Iterable[str] = FORMATS) -> None:
    """Raise `BadInput` for a file whose suffix is none of `formats`."""
    if path.suffix.lower() not in formats:
        raise BadInput(f"cannot write {path}: its name must end in one of {', '.join(formats)}")


def rendered(path: Path, glosses: Sequence[Gloss], about: Dict[str, Any]) -> str:
    """The text of a caption file in the format of its suffix; `about` is what JSON says beside the glosses."""
    suffix = path.suffix.lower()
    if suffix == ".json":
        return (
            json.dumps({**about, "glosses": [fields(gloss) for gloss in glosses]}, ensure_ascii=False, indent=2) + "\n"
        )
    return (webvtt if suffix == ".vtt" else subrip)(cues(glosses))
