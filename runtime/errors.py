"""The errors that a person is meant to read, each with the exit status of the command that meets it."""

from __future__ import annotations

from typing import Tuple


class SignedgeError(Exception):
    """What was wrong, where (file, row, node), and what to do: one line, no traceback."""

    exit_status = 2


class BadInput(SignedgeError):
    """Wrong use or bad input: a missing file, a broken row, a corpus that does not fit the model. Exit status 2."""

    exit_status = 2


class CriterionFailed(SignedgeError):
    """The work ran and its result failed the criterion asked for: parity, WER budget. Exit status 1."""

    exit_status = 1


class Refused(SignedgeError):
    """A rule refuses before any work: a precision that the target has not, a node its runtime lacks. Exit status 3."""

    exit_status = 3


class MissingExtra(SignedgeError):
    """An optional dependency is not installed. Exit status 2."""

    def __init__(self, module: str, extra: str) -> None:
        self.module, self.extra = module, extra
        super().__init__(f"'{module}' is not installed; it comes with: pip install 'signedge[{extra}]'")

    def __reduce__(self) -> Tuple[type, Tuple[str, str]]:
        """Errors of worker processes travel pickled; the default would call the class with the message alone."""
        return type(self), (self.module, self.extra)
