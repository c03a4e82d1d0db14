"""Clips as packed batches: the runtime's preprocessing; augmentation and order as functions of seed, epoch and clip.

Nothing here keeps random state, so a training that goes on after an interruption sees what it would have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from distill.corpus import ClipRow, Corpus, SignClip
from distill.corpus.check import ctc_frames
from distill.recipe import Augmentation
from runtime.contract import KeypointInput, Padding, RgbInput
from runtime.errors import BadInput
from runtime.preprocess import keypoint_features, pad_clip, rgb_features

_ORDER, _GEOMETRY, _VIEW, _LOOK = range(4)  # independent streams of randomness


@dataclass(frozen=True)
class Side:
    """What one network, student or teacher, wants to see."""

    input: RgbInput | KeypointInput
    padding: Padding


@dataclass
class Batch:
    """B clips in packed form: all their padded frames one after the other, P in total.

    `x` (P,...) float32 and `lengths` (B,) padded lengths are the student's; `teacher_x` and `teacher_lengths` the
    teacher's, None where it is not run. `targets` (sum of L,) holds the classes of all clips one after the other,
    `target_lengths` (B,) their L. `clips` and `views` (B,) say which clip and which of its fixed views.
    """

    clips: Tensor
    views: Tensor
    x: Tensor
    lengths: Tensor
    targets: Tensor
    target_lengths: Tensor
    teacher_x: Tensor | None = None
    teacher_lengths: Tensor | None = None


class ClipSet:
    """Clips of some rows, kept in memory up to a budget of bytes and read again when needed beyond it."""

    def __init__(
        self,
        corpus: Corpus,
        rows: Sequence[ClipRow],
        student: Side,
        teacher: Side | None = None,
        memory: float = 3 * 2**30,
    ) -> None:
        self.corpus, self.rows, self.student, self.teacher = corpus, list(rows), student, teacher
        kinds = {side.input.kind for side in (student, teacher) if side}
        self._frames, self._keypoints = "rgb" in kinds, "keypoints" in kinds
        classes = {gloss: i for i, gloss in enumerate(corpus.metadata.glosses, start=1)}
        self.targets = [self._classes(row, classes) for row in self.rows]
        self._check()
        self._clips: dict[int, SignClip] = {}
        self._memory = memory

    def _classes(self, row: ClipRow, classes: dict[str, int]) -> np.ndarray:
        unknown = [gloss for gloss in row.glosses if gloss not in classes]
        if unknown:
            raise BadInput(f"{self._where(row)}: gloss '{unknown[0]}' is not in the corpus' vocabulary")
        return np.array([classes[gloss] for gloss in row.glosses], dtype=np.int64)

    def _check(self) -> None:
        for row in self.rows:
            if self._frames and not row.video:
                raise BadInput(f"{self._where(row)} has no frames; the recipe needs them")
            if self._keypoints and not row.keypoints:
                raise BadInput(f"{self._where(row)} has no keypoints; the recipe needs them")

    def _where(self, row: ClipRow) -> str:
        return f"{self.corpus.folder}/clips.jsonl:{self.corpus.lines.get(row.id, 0)}: clip '{row.id}'"

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> list[int]:
        """Frames of each clip."""
        return [row.frames for row in self.rows]

    def clip(self, index: int) -> SignClip:
        """One clip with the modalities that are needed."""
        clip = self._clips.get(index)
        if clip is None:
            clip = self.corpus.load(self.rows[index], frames=self._frames, keypoints=self._keypoints)
            size = sum(array.nbytes for array in (clip.frames, clip.keypoints) if array is not None)
            if size <= self._memory:
                self._memory -= size
                self._clips[index] = clip
        return clip

    def preload(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Read clips until the budget is used up; every broken file shows now and not in the middle of a training."""
        for index in range(len(self)):
            self.clip(index)
            if progress:
                progress(index + 1, len(self))


@dataclass(frozen=True)
class Augmenter:
    """Turns (epoch, clip) into the views of student and teacher. `cached_views` 0: the teacher is run live."""

    settings: Augmentation
    seed: int
    cached_views: int = 0

    def view(self, epoch: int, clip: int) -> int:
        """Which of the fixed views of a clip this epoch uses (0 where the teacher is live)."""
        return (epoch + clip) % self.cached_views if self.cached_views else 0

    def geometry(self, clip: SignClip, index: int, epoch: int) -> SignClip:
        """The clip with the change of time and place that both networks see in this epoch."""
        if not self.cached_views:
            return _move(clip, self.settings, np.random.default_rng([self.seed, _GEOMETRY, epoch, index]))
        return self.fixed(clip, index, self.view(epoch, index))

    def fixed(self, clip: SignClip, index: int, view: int) -> SignClip:
        """Fixed view number `view`; 0 is the clean clip."""
        if view == 0:
            return clip
        return _move(clip, self.settings, np.random.default_rng([self.seed, _VIEW, view, index]))

    def keypoints(self, keypoints: np.ndarray, layout: Sequence[str], index: int, epoch: int) -> np.ndarray:
        """Keypoints as the student sees them."""
        return _disturb(keypoints, layout, self.settings, np.random.default_rng([self.seed, _LOOK, epoch, index]))

    def colours(self, features: np.ndarray, index: int, epoch: int) -> np.ndarray:
        """Frames (T,3,H,W) in -1..1 as the student sees them."""
        return _tint(features, self.settings, np.random.default_rng([self.seed, _LOOK, epoch, index]))


def _move(clip: SignClip, settings: Augmentation, rng: np.random.Generator) -> SignClip:
    frames, keypoints = clip.frames, clip.keypoints
    if settings.rescale:
        length = len(frames if frames is not None else keypoints)  # type: ignore[arg-type]
        index = _resample(length, 1 + settings.rescale * rng.uniform(-1, 1), clip.glosses)
        frames = None if frames is None else frames[index]
        keypoints = None if keypoints is None else keypoints[index]
    if settings.shift and frames is not None:
        frames = _shift(frames, settings.shift, rng)
    return SignClip(clip.id, clip.glosses, clip.signer, clip.fps, frames, keypoints)


def _resample(length: int, factor: float, glosses: Sequence[str]) -> np.ndarray:
    """Frame numbers of a slower or faster clip, long enough for CTC."""
    wanted = max(round(length * factor), ctc_frames(glosses), 1)
    return np.linspace(0, length - 1, wanted).round().astype(np.int64)


def _shift(frames: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """The picture moved by whole pixels, its edge repeated."""
    for axis in (1, 2):
        size = frames.shape[axis]
        reach = round(share * size)
        offset = int(rng.integers(-reach, reach + 1))
        edge = frames.take([size - 1 if offset > 0 else 0], axis=axis).repeat(abs(offset), axis)
        if offset > 0:
            frames = np.concatenate([frames[:, offset:] if axis == 1 else frames[:, :, offset:], edge], axis)
        elif offset < 0:
            frames = np.concatenate([edge, frames[:, :offset] if axis == 1 else frames[:, :, :offset]], axis)
    return frames


def _tint(features: np.ndarray, settings: Augmentation, rng: np.random.Generator) -> np.ndarray:
    if not (settings.brightness or settings.contrast or settings.colour):
        return features
    gain = 1 + settings.contrast * rng.uniform(-1, 1) + settings.colour * rng.uniform(-1, 1, 3)
    added = 2 * settings.brightness * rng.uniform(-1, 1)
    changed = features * gain.astype(np.float32)[:, None, None]
    changed += np.float32(added)
    return np.clip(changed, -1, 1, out=changed)


def _disturb(
    keypoints: np.ndarray, layout: Sequence[str], settings: Augmentation, rng: np.random.Generator
) -> np.ndarray:
    """Rotation and stretch about the picture's centre, noise, lost hands and joints."""
    changed = keypoints.copy()
    angle = np.deg2rad(settings.rotation) * rng.uniform(-1, 1)
    stretch = 1 + settings.stretch * rng.uniform(-1, 1, 2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * stretch[:, None]
    changed[..., :2] = (changed[..., :2] - 0.5) @ turn.T.astype(np.float32) + 0.5
    if settings.jitter:
        changed[..., :2] += rng.normal(0, settings.jitter, changed[..., :2].shape).astype(np.float32)
    if settings.joint_dropout:
        changed[rng.random(changed.shape[:2]) < settings.joint_dropout] = 0
    for side in ("left", "right"):
        if rng.random() < settings.hand_dropout:
            hand = [i for i, joint in enumerate(layout) if joint.startswith(f"{side}_hand_")]
            start, span = rng.integers(len(changed)), rng.integers(1, max(2, len(changed) // 4))
            changed[start : start + span, hand] = 0
    changed[..., :2][~keypoints[..., :2].any(axis=-1)] = 0  # what was not seen stays so
    return changed


def collate(
    clips: ClipSet, indices: Sequence[int], augmenter: Augmenter | None = None, epoch: int = 0, teacher: bool = False
) -> Batch:
    """Make one batch. Without `augmenter` the clean clips; with `teacher` the teacher's view beside the student's."""
    student, other = [], []
    for index in indices:
        clip = clips.clip(index)
        if augmenter:
            clip = augmenter.geometry(clip, index, epoch)
        student.append(pad_clip(_student_features(clip, clips, index, augmenter, epoch), clips.student.padding))
        if teacher and clips.teacher:
            other.append(pad_clip(features(clip, clips.teacher), clips.teacher.padding))
    return Batch(
        clips=torch.tensor(list(indices)),
        views=torch.tensor([augmenter.view(epoch, i) if augmenter else 0 for i in indices]),
        x=pack(student),
        lengths=torch.tensor([len(clip) for clip in student]),
        targets=torch.from_numpy(np.concatenate([clips.targets[i] for i in indices])),
        target_lengths=torch.tensor([len(clips.targets[i]) for i in indices]),
        teacher_x=pack(other) if other else None,
        teacher_lengths=torch.tensor([len(clip) for clip in other]) if other else None,
    )


def features(clip: SignClip, side: Side) -> np.ndarray:
    """A clip as `side` wants it, before padding: (T,3,H,W) or (T,V,5) float32."""
    if isinstance(side.input, RgbInput):
        return rgb_features(clip.frames, side.input)  # type: ignore[arg-type]
    return keypoint_features(clip.keypoints, side.input)  # type: ignore[arg-type]


def _student_features(
    clip: SignClip, clips: ClipSet, index: int, augmenter: Augmenter | None, epoch: int
) -> np.ndarray:
    spec = clips.student.input
    if augmenter is None:
        return features(clip, clips.student)
    if isinstance(spec, RgbInput):
        return augmenter.colours(features(clip, clips.student), index, epoch)
    return keypoint_features(augmenter.keypoints(clip.keypoints, spec.layout, index, epoch), spec)  # type: ignore[arg-type]


def pack(clips: Sequence[np.ndarray]) -> Tensor:
    """Clips one after the other."""
    return torch.from_numpy(np.concatenate(clips))


def plan(
    lengths: Sequence[int], batch_size: int, seed: int, epoch: int, sort: bool = False, rank: int = 0, world: int = 1
) -> list[list[int]]:
    """Clip numbers of every batch of an epoch, for one of `world` processes. Clips of a batch are of similar length.

    Shuffled, cut into pools of 16 batches, sorted by length inside a pool, cut into batches, shuffled again. `sort`:
    all batches go from short clips to long. All processes get the same number of batches.
    """
    rng = np.random.default_rng([seed, _ORDER, epoch])
    order = rng.permutation(len(lengths))
    pool = len(order) if sort else 16 * batch_size
    batches = []
    for start in range(0, len(order), pool):
        members = sorted((int(i) for i in order[start : start + pool]), key=lambda i: lengths[i])
        batches += [members[at : at + batch_size] for at in range(0, len(members), batch_size)]
    if not sort:
        batches = [batches[i] for i in rng.permutation(len(batches))]
    if world > 1:
        batches = batches[: max(len(batches) // world, 1) * world]
    return batches[rank::world] if len(batches) >= world else batches


def batches_an_epoch(clips: int, batch_size: int, world: int = 1) -> int:
    """Number of batches `plan` gives each process."""
    return len(plan([1] * clips, batch_size, 0, 0, world=world))


class EpochBatches(Dataset):
    """The batches of one epoch, made when asked for."""

    def __init__(
        self, clips: ClipSet, batches: list[list[int]], augmenter: Augmenter | None, epoch: int, teacher: bool
    ) -> None:
        self._clips, self._batches, self._augmenter = clips, batches, augmenter
        self._epoch, self._teacher = epoch, teacher

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> Batch:
        return collate(self._clips, self._batches[number], self._augmenter, self._epoch, self._teacher)
