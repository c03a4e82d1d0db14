"""Batches: the runtime's preprocessing, augmentation and order that follow from seed, epoch and clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from distill.corpus import Corpus
from distill.data import Augmenter, Batch, ClipSet, EpochBatches, Side, batches_an_epoch, collate, plan
from distill.recipe import Augmentation, input_spec
from runtime.contract import BLANK, Contract, Padding, RgbInput, body_and_hands_layout
from runtime.errors import BadInput
from runtime.preprocess import prepare

EVERYTHING = Augmentation(
    rescale=0.3, shift=0.2, brightness=0.1, contrast=0.2, colour=0.1, jitter=0.01, stretch=0.2, rotation=10,
    hand_dropout=1, joint_dropout=0.1,
)  # fmt: skip
KEYPOINTS = Side(input_spec(tiny.skeleton().input, body_and_hands_layout()), Padding(6, 6, 4))
RGB = Side(RgbInput(8, 8), Padding(0, 0, 4))
BIG = Side(RgbInput(16, 16), Padding(6, 6, 4))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return tiny.write_corpus(tmp_path_factory.mktemp("data") / "corpus")


def _same(a: Batch, b: Batch) -> bool:
    return all(
        (x is None and y is None) or torch.equal(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True)
    )


@pytest.mark.parametrize("side", [KEYPOINTS, RGB, BIG])
def test_a_clean_batch_is_what_the_runtime_would_feed(corpus: Corpus, side: Side) -> None:
    clips = ClipSet(corpus, corpus.rows, side)
    batch = collate(clips, [2, 0, 5])
    contract = Contract("x", side.input, (BLANK, *tiny.GLOSSES), 25.0, padding=side.padding)
    for index, part in zip([2, 0, 5], batch.x.split(batch.lengths.tolist()), strict=True):
        clip = corpus.load(corpus.rows[index])
        assert np.array_equal(part.numpy(), prepare(contract, clip.frames, clip.keypoints)[0])
    wanted = [tiny.GLOSSES.index(gloss) + 1 for index in (2, 0, 5) for gloss in corpus.rows[index].glosses]
    assert batch.targets.tolist() == wanted and batch.target_lengths.sum() == len(wanted)


def test_views_follow_from_seed_epoch_and_clip(corpus: Corpus) -> None:
    clips = ClipSet(corpus, corpus.rows, KEYPOINTS, BIG)
    augmenter = Augmenter(EVERYTHING, seed=1)
    first = collate(clips, [0, 1], augmenter, epoch=2, teacher=True)
    assert _same(first, collate(clips, [0, 1], augmenter, epoch=2, teacher=True))
    assert not _same(first, collate(clips, [0, 1], augmenter, epoch=3, teacher=True))
    assert not _same(first, collate(clips, [0, 1], Augmenter(EVERYTHING, seed=2), epoch=2, teacher=True))
    alone = collate(clips, [1], augmenter, epoch=2)
    assert torch.equal(alone.x, first.x[first.lengths[0] :]), "a clip's view must not depend on its batch mates"


def test_teacher_and_student_see_the_same_time_and_place(corpus: Corpus) -> None:
    clips = ClipSet(corpus, corpus.rows, RGB, BIG)
    moved = collate(clips, range(6), Augmenter(Augmentation(rescale=0.3, shift=0.3), 1), epoch=1, teacher=True)
    assert moved.teacher_x is not None and moved.teacher_lengths is not None
    assert torch.equal(moved.lengths + 12, moved.teacher_lengths)
    position = 0
    for student, teacher in zip(
        moved.x.split(moved.lengths.tolist()), moved.teacher_x.split(moved.teacher_lengths.tolist()), strict=True
    ):
        small = torch.nn.functional.avg_pool2d(teacher[6:-6], 2)
        assert torch.allclose(student, small, atol=1e-5)
        position += len(student)
    assert not torch.equal(moved.x[: moved.lengths[0]], collate(clips, [0]).x)


def test_colours_are_the_student_s_alone(corpus: Corpus) -> None:
    clips = ClipSet(corpus, corpus.rows, BIG, BIG)
    batch = collate(clips, [0], Augmenter(Augmentation(brightness=0.2, contrast=0.2), 1), 0, teacher=True)
    assert batch.teacher_x is not None
    assert torch.equal(batch.teacher_x, collate(clips, [0]).x) and not torch.equal(batch.x, batch.teacher_x)
    assert batch.x.abs().max() <= 1


def test_fixed_views_come_in_turn_and_the_first_is_clean(corpus: Corpus) -> None:
    clips = ClipSet(corpus, corpus.rows, RGB)
    augmenter = Augmenter(Augmentation(rescale=0.3, shift=0.3), 1, cached_views=3)
    assert [augmenter.view(epoch, 4) for epoch in range(5)] == [1, 2, 0, 1, 2]
    clean = collate(clips, [4], augmenter, epoch=2)
    assert torch.equal(clean.x, collate(clips, [4]).x) and clean.views.tolist() == [0]
    assert torch.equal(collate(clips, [4], augmenter, 0).x, collate(clips, [4], augmenter, 3).x)
    assert not torch.equal(collate(clips, [4], augmenter, 0).x, collate(clips, [4], augmenter, 2).x)


def test_a_faster_clip_stays_long_enough_for_ctc(corpus: Corpus) -> None:
    clips = ClipSet(corpus, corpus.rows, RGB)
    for epoch in range(20):
        batch = collate(clips, range(len(clips)), Augmenter(Augmentation(rescale=0.89), 1), epoch)
        for steps, row in zip(batch.lengths // 4, corpus.rows, strict=True):
            repeats = sum(a == b for a, b in zip(row.glosses, row.glosses[1:], strict=False))
            assert steps >= len(row.glosses) + repeats


def test_lost_hands_are_zeros(corpus: Corpus) -> None:
    clips = ClipSet(corpus, corpus.rows, KEYPOINTS)
    lost = collate(clips, [0], Augmenter(Augmentation(hand_dropout=1), 1)).x
    assert (lost == 0).all(-1).any() and not (collate(clips, [0]).x == 0).all(-1).any()


def test_joints_that_were_not_seen_stay_so(corpus: Corpus) -> None:
    keypoints, layout = np.array(corpus.load(corpus.rows[0]).keypoints), body_and_hands_layout()
    keypoints[3:, 5] = 0
    changed = Augmenter(EVERYTHING, seed=1).keypoints(keypoints, layout, 0, 0)
    assert not changed[3:, 5, :2].any() and not np.array_equal(changed[0], keypoints[0])


def test_every_clip_is_in_an_epoch_once_and_the_order_follows_from_seed_and_epoch() -> None:
    lengths = list(np.random.default_rng(0).integers(20, 90, 67))
    batches = plan(lengths, 4, seed=1, epoch=5)
    assert sorted(i for batch in batches for i in batch) == list(range(67))
    assert batches == plan(lengths, 4, 1, 5) and batches != plan(lengths, 4, 1, 6) and batches != plan(lengths, 4, 2, 5)
    spread = [max(lengths[i] for i in batch) - min(lengths[i] for i in batch) for batch in batches]
    assert np.mean(spread) < 15, "clips of a batch should be of similar length"
    curriculum = plan(lengths, 4, 1, 0, sort=True)
    assert [lengths[i] for batch in curriculum for i in batch] == sorted(lengths)
    assert len(batches) == batches_an_epoch(67, 4) == 17


def test_processes_share_an_epoch_evenly() -> None:
    parts = [plan([1] * 67, 4, 1, 0, rank=rank, world=3) for rank in range(3)]
    assert {len(part) for part in parts} == {5} == {batches_an_epoch(67, 4, world=3)}
    seen = [i for part in parts for batch in part for i in batch]
    assert len(seen) == len(set(seen))


def test_clips_beyond_the_memory_budget_are_read_when_needed(corpus: Corpus) -> None:
    seen: list[tuple[int, int]] = []
    kept, lazy = ClipSet(corpus, corpus.rows, RGB), ClipSet(corpus, corpus.rows, RGB, memory=70_000)
    for clips in (kept, lazy):
        clips.preload(lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(corpus.rows), len(corpus.rows))
    assert kept.clip(0) is kept.clip(0)
    assert any(lazy.clip(i) is not lazy.clip(i) for i in range(len(lazy)))
    everything = list(range(len(corpus.rows)))
    assert _same(collate(kept, everything), collate(lazy, everything))


def test_an_epoch_s_batches_are_a_data_set(corpus: Corpus) -> None:
    clips = ClipSet(corpus, corpus.rows, RGB)
    epoch = EpochBatches(clips, [[0, 1], [2]], None, 0, False)
    assert len(epoch) == 2 and epoch[1].clips.tolist() == [2]


def test_missing_data_and_glosses_are_named(tmp_path: Path) -> None:
    corpus = tiny.write_corpus(tmp_path / "corpus", train=2, dev=0)
    corpus.rows[1].keypoints = None
    with pytest.raises(BadInput, match=r"clips.jsonl:2: clip 'train1' has no keypoints"):
        ClipSet(corpus, corpus.rows, KEYPOINTS)
    corpus.rows[0].video = None
    with pytest.raises(BadInput, match="clip 'train0' has no frames"):
        ClipSet(corpus, corpus.rows, RGB)
    corpus.rows[0].glosses = ["SUN"]
    with pytest.raises(BadInput, match="gloss 'SUN'"):
        ClipSet(corpus, corpus.rows, KEYPOINTS)
