"""Read a split with a network as it trains: greedy decoding, word errors."""

from __future__ import annotations

import torch

from distill.data import ClipSet, collate
from distill.models.base import Recogniser
from runtime.decode import greedy, to_glosses
from runtime.wer import Counts, align


@torch.no_grad()
def evaluate(model: Recogniser, clips: ClipSet, glosses: tuple[str, ...], batch_size: int = 8) -> Counts:
    """Word errors of greedy decoding over clean clips. Leaves the model in evaluation mode."""
    model.eval()
    device = next(model.parameters()).device
    order = sorted(range(len(clips)), key=lambda i: clips.lengths[i])
    total = Counts()
    for at in range(0, len(order), batch_size):
        members = order[at : at + batch_size]
        batch = collate(clips, members)
        output = model(batch.x.to(device), batch.lengths.to(device))
        for index, scores, steps in zip(
            members, output.logits.float().cpu().numpy(), output.lengths.tolist(), strict=True
        ):
            total = total + align(clips.rows[index].glosses, to_glosses(greedy(scores[:steps]), glosses))
    return total
