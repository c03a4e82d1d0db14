"""How `signedge run` shows glosses as they come: a live line on a terminal, else a line or a JSON object each."""

from __future__ import annotations

import json
import sys
from typing import Any, List, Sequence

from runtime.binding import Gloss
from runtime.captions import clock, cues, fields


class Lines:
    """A line for each final gloss, at once: start, end, gloss, confidence; or one JSON object."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def show(self, seconds: float, fresh: Sequence[Gloss], partial: Sequence[Gloss]) -> None:
        for gloss in fresh:
            if self._as_json:
                line = json.dumps(fields(gloss), ensure_ascii=False)
            else:
                line = f"{clock(gloss.start)}  {clock(gloss.end)}  {gloss.text}  {gloss.confidence:.2f}"
            print(line, flush=True)


class Live:
    """The cue of now in the last line, what may change dim; earlier cues above it, with the time they began."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live as Line

        self._console = Console(highlight=False)
        self._line = Line(console=self._console, transient=True, refresh_per_second=12)
        self._current: List[Gloss] = []

    def __enter__(self) -> Live:
        self._line.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._line.stop()
        self._print(self._current)

    def show(self, seconds: float, fresh: Sequence[Gloss], partial: Sequence[Gloss]) -> None:
        self._current += fresh
        for cue in cues(self._current)[:-1]:
            self._print(self._current[: len(cue.glosses)])
            del self._current[: len(cue.glosses)]
        self._line.update(self._text(seconds, self._current, partial))

    def _print(self, glosses: Sequence[Gloss]) -> None:
        if glosses:
            self._console.print(self._text(glosses[0].start, glosses, ()))

    def _text(self, seconds: float, final: Sequence[Gloss], partial: Sequence[Gloss]) -> Any:
        from rich.text import Text

        start = f"{clock(seconds)[:-2]}  "
        words = Text(" ".join(gloss.text for gloss in final), style="bold white")
        words.append(" " * bool(final) + " ".join(gloss.text for gloss in partial), style="not bold dim")
        room = self._console.width - len(start)
        if words.cell_len > room:  # what was signed last is what is looked at
            words = Text("…") + words[1 - room :]
        return Text.assemble((start, "dim"), words, no_wrap=True)


def display(as_json: bool) -> Any:
    """The way to show glosses on this standard output."""
    return Lines(as_json) if as_json or not sys.stdout.isatty() else Live()
