"""Pseudo labels: the gloss that each output step belongs to, by forced CTC alignment of what the teacher says."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

UNKNOWN = -1


def best_path(log_probs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """CTC's Viterbi path through (N,K) log-probabilities for the classes `targets` (L,): class of each step (N,).

    0 is the blank. All steps are `UNKNOWN` where N is too small for the targets.
    """
    states = np.zeros(2 * len(targets) + 1, dtype=np.int64)
    states[1::2] = targets
    skip = np.zeros(len(states), dtype=bool)  # a blank may be left out between different glosses
    skip[3::2] = states[3::2] != states[1:-2:2]
    score = np.full(len(states), -np.inf)
    score[:2] = log_probs[0, states[:2]]
    back = np.zeros((len(log_probs), len(states)), dtype=np.int64)
    for step in range(1, len(log_probs)):
        one = np.concatenate([[-np.inf], score[:-1]])
        two = np.where(skip, np.concatenate([[-np.inf, -np.inf], score[:-2]])[: len(states)], -np.inf)
        choices = np.stack([score, one, two])
        back[step] = choices.argmax(0)
        score = choices.max(0) + log_probs[step, states]
    state = len(states) - 1 if len(states) == 1 or score[-1] >= score[-2] else len(states) - 2
    if not np.isfinite(score[state]):
        return np.full(len(log_probs), UNKNOWN)
    path = np.zeros(len(log_probs), dtype=np.int64)
    for step in range(len(log_probs) - 1, -1, -1):
        path[step] = states[state]
        state -= back[step, state]
    return path


def nearest_gloss(path: np.ndarray) -> np.ndarray:
    """(N,) classes, each blank replaced by the nearest gloss (the earlier, if two are); `UNKNOWN` without any."""
    spikes = np.flatnonzero(path > 0)
    if not len(spikes):
        return np.full_like(path, UNKNOWN)
    distance = np.abs(np.arange(len(path))[:, None] - spikes)
    return path[spikes[distance.argmin(1)]]


def pseudo_labels(logits: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
    """Scores (B,N,K), lengths (B,), concatenated targets and their lengths -> gloss of each step (B,N), -1 unknown."""
    labels = torch.full(logits.shape[:2], UNKNOWN, dtype=torch.int64)
    log_probs = logits.detach().float().log_softmax(-1).cpu().numpy()
    wanted = np.split(targets.cpu().numpy(), np.cumsum(target_lengths.cpu().numpy())[:-1])
    for row, steps in enumerate(lengths.tolist()):
        path = best_path(log_probs[row, :steps], wanted[row])
        labels[row, :steps] = torch.from_numpy(nearest_gloss(path))
    return labels.to(logits.device)
