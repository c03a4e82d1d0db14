"""Each loss pinned to a value that plain numpy computes independently, and to a recorded number."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from distill.losses.contrast import info_nce
from distill.losses.crd import ClipContrast
from distill.losses.crkd import FrameFeature
from distill.losses.ctc import ctc_loss
from distill.losses.kd import logit_kd
from distill.losses.trkd import RelationHead, TemporalRelation
from runtime.errors import BadInput

LENGTHS = [3, 5]


def made_up(*shape: int, phase: float = 0.0) -> torch.Tensor:
    """A fixed array without a random generator, so that recorded numbers hold on every machine."""
    count = int(np.prod(shape))
    return torch.from_numpy(np.sin(np.arange(count) * 1.7 + phase).reshape(shape).astype(np.float32))


def fill(module: torch.nn.Module) -> None:
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            parameter.copy_(made_up(*parameter.shape, phase=i) * 0.4)


def log_softmax(x: np.ndarray) -> np.ndarray:
    shifted = x - x.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def linear(x: np.ndarray, layer: torch.nn.Linear) -> np.ndarray:
    y = x @ layer.weight.detach().numpy().T
    return y if layer.bias is None else y + layer.bias.detach().numpy()


def nce_by_loops(anchors: np.ndarray, targets: np.ndarray, lengths: list[int], margin: int, queue: np.ndarray) -> float:
    """anchors, targets (B,N,E): InfoNCE written as its formula reads."""
    steps = [(b, i) for b, length in enumerate(lengths) for i in range(length)]
    losses = []
    for b, i in steps:
        score = lambda v: np.exp(anchors[b, i] @ v / 0.07)  # noqa: E731, B023
        negatives = [targets[c, j] for c, j in steps if c != b or abs(i - j) > margin] + list(queue)
        positive = score(targets[b, i])
        losses.append(-np.log(positive / (positive + sum(score(v) for v in negatives))))
    return float(np.mean(losses))


def test_ctc_sums_over_all_alignments() -> None:
    logits, targets = made_up(2, 5, 3), [[1, 2], [2]]
    log_probs = log_softmax(logits.numpy())
    expected = []
    for b, length in enumerate(LENGTHS):
        total = 0.0
        for path in itertools.product(range(3), repeat=length):
            merged = [k for k, _ in itertools.groupby(path) if k != 0]
            if merged == targets[b]:
                total += np.exp(sum(log_probs[b, i, k] for i, k in enumerate(path)))
        expected.append(-np.log(total))
    loss = ctc_loss(logits, torch.tensor(LENGTHS), torch.tensor([[1, 2], [2, 0]]), torch.tensor([2, 1]))
    assert loss.item() == pytest.approx(np.mean(expected), abs=1e-5)
    assert loss.item() == pytest.approx(GOLDEN["ctc"], abs=1e-4)


def test_ctc_counts_an_impossible_clip_as_nothing() -> None:
    logits = made_up(1, 2, 3).requires_grad_()
    loss = ctc_loss(logits, torch.tensor([2]), torch.tensor([[1, 1]]), torch.tensor([2]))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("drop_blank", [True, False])
def test_logit_kd_is_the_softened_divergence(drop_blank: bool) -> None:
    student, teacher = made_up(2, 5, 4) * 9, made_up(2, 5, 4, phase=1) * 9
    first = int(drop_blank)
    s, t = (log_softmax(x.numpy()[..., first:] / 8) for x in (student, teacher))
    divergence = (np.exp(t) * (t - s)).sum(-1)
    expected = 64 * np.concatenate([divergence[0, :3], divergence[1]]).mean()
    loss = logit_kd(student, teacher, torch.tensor(LENGTHS), temperature=8, drop_blank=drop_blank)
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    assert loss.item() == pytest.approx(GOLDEN["kd without blank" if drop_blank else "kd"], rel=1e-4)


def test_logit_kd_ignores_a_difference_in_the_blank_only() -> None:
    teacher = made_up(2, 5, 4)
    student = teacher.clone()
    student[..., 0] += 3
    assert logit_kd(student, teacher, torch.tensor(LENGTHS)).item() == pytest.approx(0, abs=1e-6)
    assert logit_kd(student, teacher, torch.tensor(LENGTHS), drop_blank=False).item() > 0.01


def test_crd_is_both_directions_of_info_nce_over_batch_and_queue() -> None:
    loss = ClipContrast(6, 8, embed=4, queue=16, margin=1)
    fill(loss)
    lengths = torch.tensor(LENGTHS)

    def embeddings(phase: float) -> tuple[torch.Tensor, torch.Tensor, np.ndarray, np.ndarray]:
        ours, theirs = made_up(2, 5, 6, phase=phase), made_up(2, 5, 8, phase=phase + 1)
        u, v = unit(linear(ours.numpy(), loss.student)), unit(linear(theirs.numpy(), loss.teacher))
        return ours, theirs, u, v

    ours, theirs, u, v = embeddings(0)
    nothing = np.zeros((0, 4))
    expected = nce_by_loops(u, v, LENGTHS, 1, nothing) + nce_by_loops(v, u, LENGTHS, 1, nothing)
    assert loss(ours, theirs, lengths).item() == pytest.approx(expected, rel=1e-4)
    assert expected == pytest.approx(GOLDEN["crd"], rel=1e-4)

    old_u, old_v = (np.concatenate([x[0, :3], x[1]]) for x in (u, v))
    ours, theirs, u, v = embeddings(2)
    expected = nce_by_loops(u, v, LENGTHS, 1, old_v) + nce_by_loops(v, u, LENGTHS, 1, old_u)
    assert loss(ours, theirs, lengths).item() == pytest.approx(expected, rel=1e-4)


def relation_by_loops(features: np.ndarray, length: int, head: RelationHead) -> np.ndarray:
    """U of one clip (N,dim) -> (N,embed), as the docstring of `RelationHead` reads."""
    x = linear(features[:length], head.enter)
    prior = np.array([[float(abs(i - j) <= head.band) for j in range(length)] for i in range(length)])
    prior /= prior.sum(1, keepdims=True)
    query, key = linear(x, head.query), linear(x, head.key)
    learned = np.exp(log_softmax(query @ key.T / np.sqrt(key.shape[1])))
    h = np.maximum(linear((prior + learned) @ x, head.graph[0]), 0) + x  # type: ignore[arg-type]
    return unit(linear(h, head.leave))


def test_trkd_is_half_the_symmetric_info_nce_between_relation_embeddings() -> None:
    loss = TemporalRelation(6, 8, hidden=5, key=3, embed=4, band=1, queue=0)
    fill(loss)
    ours, theirs = made_up(2, 5, 6), made_up(2, 5, 8, phase=1)
    u, v = np.zeros((2, 5, 4)), np.zeros((2, 5, 4))
    for b, length in enumerate(LENGTHS):
        u[b, :length] = relation_by_loops(ours[b].numpy(), length, loss.student)
        v[b, :length] = relation_by_loops(theirs[b].numpy(), length, loss.teacher)
    nothing = np.zeros((0, 4))
    expected = (nce_by_loops(u, v, LENGTHS, 2, nothing) + nce_by_loops(v, u, LENGTHS, 2, nothing)) / 2
    got = loss(ours, theirs, torch.tensor(LENGTHS)).item()
    assert got == pytest.approx(expected, rel=1e-4)
    assert got == pytest.approx(GOLDEN["trkd"], rel=1e-4)


def test_crkd_is_the_mean_squared_error_after_the_adaptor() -> None:
    loss = FrameFeature(2, 3)
    with torch.no_grad():
        loss.adapt[0].weight.copy_(made_up(3, 2, 1, 1))  # type: ignore[operator]
    ours, theirs = made_up(4, 2, 2, 2), made_up(4, 3, 2, 2, phase=1)
    adapted = np.einsum("oc,pchw->pohw", loss.adapt[0].weight.detach().numpy()[..., 0, 0], ours.numpy())
    mean, variance = (adapted.mean((0, 2, 3), keepdims=True), adapted.var((0, 2, 3), keepdims=True))
    expected = (((adapted - mean) / np.sqrt(variance + 1e-5) - theirs.numpy()) ** 2).mean()
    got = loss(ours, theirs).item()
    assert got == pytest.approx(expected, rel=1e-4)
    assert got == pytest.approx(GOLDEN["crkd"], rel=1e-4)


def test_crkd_refuses_maps_of_another_scale() -> None:
    with pytest.raises(BadInput, match="one height and width"):
        FrameFeature(2, 3)(made_up(4, 2, 2, 2), made_up(4, 3, 4, 4))


def test_info_nce_of_identical_steps_costs_the_logarithm_of_their_number() -> None:
    same = torch.nn.functional.normalize(torch.ones(7, 4), dim=1)
    nothing = torch.zeros(7, 7, dtype=torch.bool)
    loss = info_nce(same, same, nothing, same[:3], torch.zeros(7, 3, dtype=torch.bool), 0.07)
    assert loss.item() == pytest.approx(np.log(7 + 3), rel=1e-5)


# Recorded when each agreed with the formulas above; guards against a change of both.
GOLDEN = {
    "ctc": 1.4441975,
    "kd": 17.213614,
    "kd without blank": 18.346121,
    "crd": 6.483894,
    "trkd": 11.687960,
    "crkd": 1.5726677,
}
