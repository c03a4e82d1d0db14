"""Clips of any length through a network of one length: windows, and what of each counts.

This is how libsignedge reads a whole clip with such an engine (src/stream.cpp); both give the same. Where a network
takes any length, a clip is its one window.
"""

from __future__ import annotations

from typing import Callable, List, Tuple

import numpy as np

from runtime.contract import Contract


def windows(contract: Contract, frames: int) -> List[Tuple[int, int]]:
    """[begin, end) of each window over a clip of `frames` frames, the first at its start, the last up to its end."""
    one = contract.padding.frames
    if not one or frames <= one:
        return [(0, frames)]
    shift, stride, end = hop(contract)[1], contract.frame_stride, one
    found = [(0, one)]
    while end < frames:
        end = end + shift if frames - end >= shift else frames
        found.append((-(-(end - one) // stride) * stride, end))
    return found


def hop(contract: Contract) -> Tuple[int, int]:
    """(lookahead, shift) in frames, of a network of one length.

    A step is taken from the first window that has `lookahead` frames behind it: as many as its output depends on, or a
    quarter of the window where that is all of the clip. Before it there are as many, or half of what is left.
    """
    one, stride = contract.padding.frames, contract.frame_stride
    lookahead = one // 4 // stride * stride if contract.lookahead < 0 else contract.steps(contract.lookahead) * stride
    shift = max(one - 2 * lookahead, (one - lookahead) // 2)
    return lookahead, max(shift // stride, 1) * stride


def one_by_one(run: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    """(W,T',...) -> (W,N,K) by what takes one window, or clip, a call."""
    return np.concatenate([run(part) for part in np.split(x, len(x))])


def joined(contract: Contract, log_probs: np.ndarray, frames: int) -> np.ndarray:
    """Log-probabilities (W,N,K) of the windows over a clip of `frames` frames -> those of the clip (N,K)."""
    spans, stride, steps = windows(contract, frames), contract.frame_stride, contract.steps(frames)
    if len(spans) == 1:
        return log_probs[0, :steps]
    lookahead, settled, parts = hop(contract)[0], 0, []
    for number, (begin, end) in enumerate(spans):
        upto = steps if end == frames else (end - lookahead) // stride
        parts.append(log_probs[number, settled - begin // stride : upto - begin // stride])
        settled = upto
    return np.concatenate(parts)
