"""CTC loss, normalised as in VAC (Min et al., ICCV 2021): mean over clips of the clip's negative log-likelihood."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def ctc_loss(logits: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
    """Scalar in nats. A clip too short for its glosses counts 0 instead of infinity.

    logits (B,N,K) raw scores, class 0 the blank; lengths (B,) valid steps; targets (B,S) padded or (sum(S),)
    concatenated class numbers without blanks; target_lengths (B,).
    """
    log_probs = logits.float().log_softmax(-1).transpose(0, 1)
    losses = F.ctc_loss(log_probs, targets, lengths, target_lengths, blank=0, reduction="none", zero_infinity=True)
    return losses.mean()
