"""What a search has found out, kept from run to run: one JSON line each, so that one that was stopped goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runtime.errors import BadInput


class Kept:
    """Facts by kind and name. `key` is the hash of all that they depend on beside their name; others' are not seen."""

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key
        self._known: dict[tuple[str, str], Any] = {}
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            text = ""
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"cannot read {path}, which keeps what a search has tried: {error}") from error
        self._torn = bool(text) and not text.endswith("\n")  # by a process that was killed
        for line in text.splitlines():
            row = _row(line)
            if row is not None and row["key"] == key:
                self._known[row["kind"], row["name"]] = row["value"]

    def __len__(self) -> int:
        return len(self._known)

    def get(self, kind: str, name: str) -> Any:
        """The value of a fact; None if it is not known."""
        return self._known.get((kind, name))

    def add(self, kind: str, name: str, value: Any) -> None:
        """Keep a fact, in memory and on disk."""
        self._known[kind, name] = value
        row = json.dumps({"key": self._key, "kind": kind, "name": name, "value": value})
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write("\n" * self._torn + row + "\n")
        except OSError as error:
            raise BadInput(f"cannot write {self._path}, which keeps what a search has tried: {error}") from error
        self._torn = False


def _row(line: str) -> dict[str, Any] | None:
    """A kept fact; None for half a line, or one of another version."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    known = isinstance(row, dict) and all(isinstance(row.get(name), str) for name in ("key", "kind", "name"))
    return row if known and "value" in row else None
