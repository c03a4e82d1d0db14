"""What narrow arithmetic at a node does to a CTC recogniser, in terms of what could reach its glosses.

A mean squared error does not tell: CTC posteriors are peaked, most steps are blank with a wide margin, and a large
error there changes nothing, while a small one where a gloss begins inserts or deletes a word. So what is counted is how
far the posteriors moved, and how often the most likely class of a step became another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runtime.decode import greedy
from runtime.errors import BadInput
from runtime.wer import align


@dataclass(frozen=True)
class Harm:
    """Difference of a changed network from the network it was made from, on the same clips. All are 0 for no harm."""

    divergence: float  # nats a step: mean Kullback-Leibler divergence of its posteriors from the original's
    blank_flips: float  # share of steps whose most likely class became blank, or was blank and is a gloss
    label_flips: float  # share of steps whose most likely gloss became another gloss
    edits: float  # words inserted, deleted or replaced, per word that the original read

    @property
    def total(self) -> float:
        """One number to rank by. A flip counts as such; below the first flip, the divergence tells how near it is.

        Steps are few and flips are rare, so flips alone would leave most nodes tied at 0. A blank that flips costs a
        whole word; so does a gloss that becomes another; a word that did change counts once more.
        """
        return self.divergence + self.blank_flips + self.label_flips + self.edits


def harm(reference: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> Harm:
    """Compare log-probabilities (N,K) of the same clips. Raises `BadInput` for other shapes or no clips.

    What is not finite counts as a flip at every step, and an infinite divergence: such a network is of no use.
    """
    if not reference or [item.shape for item in reference] != [item.shape for item in found]:
        raise BadInput("harm is measured on log-probabilities of the same clips, of equal shapes, and at least of one")
    was, now = np.concatenate(reference).astype(np.float64), np.concatenate(found).astype(np.float64)
    if not np.isfinite(now).all():
        return Harm(np.inf, 1.0, 1.0, 1.0)
    divergence = (np.exp(was) * (was - now)).sum(axis=1)
    before, after = was.argmax(axis=1), now.argmax(axis=1)
    flipped, blank = before != after, (before == 0) | (after == 0)
    words = edits = 0
    for one, other in zip(reference, found, strict=True):
        read = [str(label) for label in greedy(one)]
        words += len(read)
        edits += align(read, [str(label) for label in greedy(other)]).errors
    return Harm(
        divergence=float(max(divergence.mean(), 0.0)),
        blank_flips=float((flipped & blank).mean()),
        label_flips=float((flipped & ~blank).mean()),
        edits=edits / max(words, 1),
    )
