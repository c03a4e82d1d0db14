"""CTC decoding in numpy: the reference that every faster decoder must equal."""

from __future__ import annotations

from typing import List, Sequence

import numpy as np


def greedy(log_probs: np.ndarray) -> List[int]:
    """(N,K) log-probabilities -> class indices: best class a step, repeats merged, blank (class 0) dropped."""
    best = log_probs.argmax(axis=1)
    changed = np.ones(len(best), dtype=bool)
    changed[1:] = best[1:] != best[:-1]
    return [int(label) for label in best[changed & (best != 0)]]


def to_glosses(labels: Sequence[int], table: Sequence[str]) -> List[str]:
    """Class indices to gloss names."""
    return [table[label] for label in labels]
