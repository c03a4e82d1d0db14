"""The least number of errors by plain edit distance, in compiled code. It is a lower bound of what sclite counts.

It is not used for a WER that is called sclite's: sclite's costs make a substitution dearer than an insertion, so its
alignment may hold more errors (reference A B C D E, hypothesis X Y Z A B: 6 errors, edit distance 5). What other
toolkits with equal costs report is this number, so it is shown beside sclite's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from runtime.wer import fold


def minimum_errors(pairs: Iterable[tuple[Sequence[str], Sequence[str]]]) -> int | None:
    """Summed edit distance of (reference, hypothesis) pairs; None where editdistance is not installed."""
    try:
        import editdistance
    except ModuleNotFoundError:
        return None
    return sum(
        editdistance.eval([fold(word) for word in reference], [fold(word) for word in hypothesis])
        for reference, hypothesis in pairs
    )
