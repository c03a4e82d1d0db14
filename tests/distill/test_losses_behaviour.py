"""What the distillation losses must do: ignore padding, route gradients, tell right from wrong, not collapse."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from distill.losses.contrast import EmbeddingQueue, StepContrast
from distill.losses.crd import ClipContrast
from distill.losses.crkd import FrameFeature
from distill.losses.ctc import ctc_loss
from distill.losses.kd import logit_kd
from distill.losses.trkd import RelationHead, TemporalRelation, prior_adjacency
from distill.models.timeline import valid_steps

LENGTHS = torch.tensor([3, 9, 6])
BOTH = pytest.mark.parametrize("kind", [ClipContrast, TemporalRelation])


def features(dim: int, seed: int, steps: int = 9, batch: int = 3) -> torch.Tensor:
    return torch.randn(batch, steps, dim, generator=torch.Generator().manual_seed(seed))


def make(kind: Any, **options: Any) -> Any:
    torch.manual_seed(0)
    return kind(6, 8, **options)


@BOTH
def test_contrast_knows_nothing_of_padding(kind: Any) -> None:
    ours, theirs = features(6, 1), features(8, 2)
    expected = make(kind)(ours, theirs, LENGTHS)
    junk = ~valid_steps(LENGTHS, 12)
    wide = [F.pad(x, (0, 0, 0, 3)).masked_fill(junk[..., None], 1e3) for x in (ours, theirs)]
    torch.testing.assert_close(make(kind)(*wide, LENGTHS), expected, atol=1e-5, rtol=1e-5)


def test_logits_losses_know_nothing_of_padding() -> None:
    ours, theirs = features(5, 1), features(5, 2)
    junk = ~valid_steps(LENGTHS, 12)
    wide = [F.pad(x, (0, 0, 0, 3)).masked_fill(junk[..., None], 1e3) for x in (ours, theirs)]
    torch.testing.assert_close(logit_kd(*wide, LENGTHS), logit_kd(ours, theirs, LENGTHS), atol=1e-5, rtol=1e-5)
    targets, counts = torch.tensor([[1, 2], [2, 3], [4, 1]]), torch.tensor([2, 2, 2])
    torch.testing.assert_close(ctc_loss(wide[0], LENGTHS, targets, counts), ctc_loss(ours, LENGTHS, targets, counts))


def test_relation_embeddings_of_a_clip_do_not_depend_on_its_batch() -> None:
    torch.manual_seed(0)
    head = RelationHead(6, 16, 8, 4, layers=2, band=2, adjacency="both")
    together = head(features(6, 1), LENGTHS)
    for i, length in enumerate(LENGTHS):
        alone = head(features(6, 1)[i : i + 1, :length], length[None])
        torch.testing.assert_close(together[i, :length], alone[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.norm(dim=-1), torch.ones(1, int(length)))


@pytest.mark.parametrize("adjacency, count", [("prior", 1), ("learned", 1), ("both", 2)])
def test_adjacency_rows_sum_to_one_over_valid_steps(adjacency: Any, count: int) -> None:
    torch.manual_seed(0)
    head = RelationHead(6, 16, 8, 4, layers=1, band=2, adjacency=adjacency)
    valid = valid_steps(LENGTHS, 9)
    relations = head.adjacencies(features(16, 3), valid)
    assert len(relations) == count
    for relation in relations:
        torch.testing.assert_close(relation.sum(2), valid.float())
        assert not relation[~valid].any()
        assert not relation.transpose(1, 2)[~valid].any()


def test_prior_adjacency_is_a_band() -> None:
    band = prior_adjacency(torch.ones(1, 4, dtype=torch.bool), 1)[0]
    third = 1 / 3
    expected = [[0.5, 0.5, 0, 0], [third, third, third, 0], [0, third, third, third], [0, 0, 0.5, 0.5]]
    torch.testing.assert_close(band, torch.tensor(expected))


@BOTH
def test_gradients_reach_student_and_both_heads_but_not_the_teacher(kind: Any) -> None:
    loss, ours, theirs = make(kind), features(6, 1).requires_grad_(), features(8, 2).requires_grad_()
    loss(ours, theirs, LENGTHS).backward()
    assert theirs.grad is None
    assert ours.grad is not None
    valid = valid_steps(LENGTHS, 9)
    assert ours.grad[valid].abs().sum(-1).all()
    assert not ours.grad[~valid].any()
    for key, parameter in loss.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.any(), key


def test_kd_and_crkd_send_no_gradient_to_the_teacher() -> None:
    ours, theirs = features(5, 1).requires_grad_(), features(5, 2).requires_grad_()
    logit_kd(ours, theirs, LENGTHS).backward()
    assert theirs.grad is None
    assert ours.grad is not None
    maps, targets = torch.randn(4, 2, 3, 3, requires_grad=True), torch.randn(4, 5, 3, 3, requires_grad=True)
    FrameFeature(2, 5)(maps, targets).backward()
    assert targets.grad is None
    assert maps.grad is not None
    assert maps.grad.any()


@pytest.mark.parametrize("adjacency", ["prior", "learned", "both"])
def test_student_shifted_by_one_step_costs_more(adjacency: Any) -> None:
    """Heads trained on aligned features must notice a shift; margin 0 lets neighbours count as negatives."""
    torch.manual_seed(0)
    theirs = features(8, 2, steps=12)
    ours = theirs @ torch.randn(8, 6)
    lengths = torch.tensor([12, 12, 12])
    loss = TemporalRelation(6, 8, hidden=32, key=8, embed=16, adjacency=adjacency, queue=0, margin=0)
    optimiser = torch.optim.Adam(loss.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        loss(ours, theirs, lengths).backward()
        optimiser.step()
    aligned = loss(ours, theirs, lengths).item()
    shifted = loss(ours.roll(1, 1), theirs, lengths).item()
    assert aligned < 1
    assert shifted > aligned + 1


def spread(embedded: torch.Tensor) -> float:
    return embedded.var(0).sum().item()


@pytest.mark.parametrize("contrast, collapses", [(True, False), (False, True)])
def test_contrast_does_not_collapse_where_squared_error_does(contrast: bool, collapses: bool) -> None:
    """Both heads learn on loosely related features: agreeing on a constant solves MSE and costs InfoNCE log(1 + M)."""
    torch.manual_seed(0)
    theirs = torch.randn(200, 1, 8)
    ours = theirs @ torch.randn(8, 6) + 3 * torch.randn(200, 1, 6)
    student, teacher = torch.nn.Linear(6, 4), torch.nn.Linear(8, 4)
    nce = StepContrast(4, queue=0, temperature=0.07, margin=2)
    optimiser = torch.optim.Adam([*student.parameters(), *teacher.parameters()], 5e-2)
    for _ in range(150):
        u, v = F.normalize(student(ours), dim=-1), F.normalize(teacher(theirs), dim=-1)
        loss = sum(nce(u, v, torch.ones(200, dtype=torch.int64))) if contrast else (u - v).square().mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        optimiser.step()
    assert (spread(u[:, 0]) < 0.05) == collapses


def unit_steps(*values: list[float]) -> torch.Tensor:
    return F.normalize(torch.tensor([list(values)]), dim=-1)


def test_steps_near_the_anchor_are_no_negatives() -> None:
    """Three equal steps: within the margin nothing is left to tell apart, without it two negatives cost log 3."""
    same = unit_steps([1.0, 0], [1, 0], [1, 0])
    length = torch.tensor([3])
    for margin, others in ((2, 0), (0, 2)):
        forth, back = StepContrast(2, 0, 0.07, margin)(same, same, length)
        expected = torch.log(torch.tensor(1.0 + others))
        torch.testing.assert_close(forth, expected)
        torch.testing.assert_close(back, expected)


def test_steps_of_the_same_gloss_are_no_negatives() -> None:
    same = unit_steps([1.0, 0], [1, 0], [1, 0])
    length = torch.tensor([3])
    contrast = StepContrast(2, 8, 0.07, 0)
    forth, _ = contrast(same, same, length, torch.tensor([[4, 4, 4]]))
    assert forth.item() == pytest.approx(0, abs=1e-6)
    # The queue now holds three steps of gloss 4: no negatives for gloss 4, negatives for gloss 5 and for the unknown.
    for label, held in ((4, 3), (5, 3), (-1, 3)):
        assert len(contrast.queue) == held
        contrast.eval()
        forth, _ = contrast(same, same, length, torch.tensor([[label] * 3]))
        negatives = {4: 0, 5: 3, -1: 2 + 3}[label]
        assert forth.item() == pytest.approx(torch.log(torch.tensor(1.0 + negatives)).item(), abs=1e-5)


def rows(*values: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    labels = torch.tensor(values)
    return labels[:, None].float(), -labels[:, None].float(), labels


def test_queue_is_first_in_first_out() -> None:
    queue = EmbeddingQueue(3, 1)
    assert len(queue) == 0
    queue.push(*rows(1, 2))
    assert queue.filled()[2].tolist() == [1, 2]
    queue.push(*rows(3, 4))
    student, teacher, labels = queue.filled()
    assert sorted(labels.tolist()) == [2, 3, 4]
    assert student[:, 0].tolist() == labels.tolist()
    assert teacher[:, 0].tolist() == [-label for label in labels.tolist()]
    queue.push(*rows(5, 6, 7, 8, 9))
    assert sorted(queue.filled()[2].tolist()) == [7, 8, 9]


def test_queue_travels_in_the_checkpoint() -> None:
    one, two = make(ClipContrast, queue=7), make(ClipContrast, queue=7)
    for seed in range(3):
        one(features(6, seed), features(8, seed + 1), LENGTHS)
    two.load_state_dict(one.state_dict())
    ours, theirs = features(6, 9), features(8, 8)
    assert torch.equal(one(ours, theirs, LENGTHS), two(ours, theirs, LENGTHS))
    assert torch.equal(one.contrast.queue.student, two.contrast.queue.student)


@BOTH
def test_evaluation_leaves_the_queue_alone(kind: Any) -> None:
    loss = make(kind).eval()
    loss(features(6, 1), features(8, 2), LENGTHS)
    assert len(loss.contrast.queue) == 0


@BOTH
def test_backward_after_a_later_push(kind: Any) -> None:
    """Two batches may be summed before one backward pass: the queue's push must not disturb the first graph."""
    loss = make(kind)
    total = loss(features(6, 1), features(8, 2), LENGTHS) + loss(features(6, 3), features(8, 4), LENGTHS)
    total.backward()
    assert torch.isfinite(total)
