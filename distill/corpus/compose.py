"""Compose continuous sentences from isolated real recordings: plan, co-articulated joins, rendered pixels, key points.

Nothing here invents a sign: every stroke is a recording of a person. What is made is the order of the signs, the joins
between them, and the pixels, which are drawn from the key points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from distill.corpus.fingertips import Handicap, fingertips_only
from distill.corpus.recordings import LEFT, RIGHT, Recording, read_recordings
from distill.corpus.schema import CorpusMetadata, SignClip, Split
from distill.corpus.store import CorpusWriter
from distill.corpus.synth.hand import PALM, RELAXED, hand_landmarks
from distill.corpus.synth.motion import bend_elbow
from distill.corpus.synth.pose import (
    FACE_CHANNELS,
    HAND,
    LAYOUT,
    LEFT_ELBOW,
    LEFT_SHOULDER,
    LEFT_WRIST,
    NOSE,
    RIGHT_ELBOW,
    RIGHT_SHOULDER,
    RIGHT_WRIST,
    PoseTrack,
)
from runtime.atomic import atomic_folder
from runtime.errors import BadInput
from runtime.hashing import sha256_file

FPS = 25.0
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
COMPOSER_VERSION = 1

_FACE_TO_SHOULDERS = 0.24  # nose above the shoulder line, frame widths
_SHOULDERS = 0.36  # shoulder width
_ARM = 0.31  # upper arm, and forearm
_DEPTH = -0.25  # hands are in front of the body
_REST = (0.16, 0.78)  # wrist of a hand that is not there: beside the body, below the picture, from the face
_SIDES = (
    (LEFT, "left", LEFT_SHOULDER, LEFT_ELBOW, LEFT_WRIST, 1.0),
    (RIGHT, "right", RIGHT_SHOULDER, RIGHT_ELBOW, RIGHT_WRIST, -1.0),
)
_PLAN, _MOTION, _LOOK, _TRACK = range(4)  # streams of randomness of one sentence: one does not disturb another


@dataclass(frozen=True)
class ComposeConfig:
    """What `compose` makes.

    `sentences` counts train, dev, test. `track` is what the stored key points show: `full`, all that was recorded, or
    `hard`, the face centre, wrists and finger tips through a poor tracker (`handicap`).
    """

    seed: int = 0
    sentences: tuple[int, int, int] = (600, 100, 200)
    track: str = "full"
    handicap: Handicap = field(default_factory=Handicap)
    size: int = 64  # pixels of the square frames
    frames: bool = True
    signs: tuple[int, int] = (3, 6)  # shortest and longest sentence
    joins: tuple[int, int] = (4, 8)  # frames of the shortest and the longest join
    held_out: float = 0.2  # share of the recordings of each gloss that dev and test have for themselves
    tempo: float = 1.5  # isolated signs are slow; continuous signing is about this much faster
    aspect: float = 0.75  # height / width of the recording cameras' picture
    workers: int = 1

    def __post_init__(self) -> None:
        if self.track not in ("full", "hard"):
            raise BadInput(f"track '{self.track}' is neither full nor hard")
        if min(self.sentences) < 0 or self.sentences[0] < 1:
            raise BadInput(f"sentences {self.sentences}: give three counts (train, dev, test), at least one for train")
        if not 0 < self.held_out < 1:
            raise BadInput(f"held_out {self.held_out} is a share of the recordings, between 0 and 1")
        if not (1 <= self.signs[0] <= self.signs[1] and 1 <= self.joins[0] <= self.joins[1]):
            raise BadInput(f"signs {self.signs} and joins {self.joins} are ranges from 1 up")
        if not (0 < self.tempo < np.inf and 0 < self.aspect < np.inf) or self.size < 8 or self.workers < 1:
            raise BadInput("tempo, aspect and workers must be positive, size at least 8 pixels")


@dataclass(frozen=True)
class Sentence:
    """One planned clip: which recordings (indices) follow one another."""

    id: str
    split: Split
    recordings: tuple[int, ...]
    number: int  # of its randomness, distinct for all sentences of a corpus


def plan(glosses: list[str], config: ComposeConfig) -> list[Sentence]:
    """Who signs what: sentences for the recordings with these `glosses`. No recording occurs in two splits.

    Of each gloss `held_out` of the recordings, two at least, go to dev and test in equal parts; the rest is for
    training. Within a sentence no gloss occurs twice. Raises `BadInput` for a gloss with fewer than three recordings.
    """
    rng = np.random.default_rng([config.seed, 0, _PLAN])
    pools: dict[str, dict[str, np.ndarray]] = {split: {} for split in SPLITS}
    names = np.array(glosses)
    for gloss in sorted(set(glosses)):
        own = rng.permutation(np.flatnonzero(names == gloss))
        if len(own) < 3:
            raise BadInput(f"gloss '{gloss}' has {len(own)} usable recordings; three are needed, one for each split")
        held = min(len(own) - 1, max(2, round(config.held_out * len(own))))
        for split, part in zip(("dev", "test", "train"), np.split(own, [held // 2, held]), strict=True):
            pools[split][gloss] = part
    sentences: list[Sentence] = []
    for split, count in zip(SPLITS, config.sentences, strict=True):
        for index in range(count):
            number = len(sentences) + 1
            sentences.append(Sentence(f"{split}-{index:05d}", split, _draw(pools[split], config.signs, rng), number))
    return sentences


def _draw(pool: dict[str, np.ndarray], signs: tuple[int, int], rng: np.random.Generator) -> tuple[int, ...]:
    glosses = list(pool)
    count = min(int(rng.integers(signs[0], signs[1] + 1)), len(glosses))
    chosen = rng.choice(len(glosses), count, replace=False)
    return tuple(int(rng.choice(pool[glosses[index]])) for index in chosen)


def perform(recordings: list[Recording], config: ComposeConfig, rng: np.random.Generator) -> PoseTrack:
    """The recordings one after the other with co-articulated joins, placed in a square picture."""
    place = np.array([0.5, 0.27]) + rng.normal(0, 0.012, 2)
    tempo = config.tempo * rng.uniform(0.88, 1.12)
    pieces: list[tuple[np.ndarray, np.ndarray]] = []
    for recording in recordings:
        joints, present = _resample(*_place(recording, place), tempo)
        if pieces:
            pieces.append(_join(pieces[-1], (joints, present), config.joins, rng))
        pieces.append((joints, present))
    joints = np.concatenate([piece[0] for piece in pieces])
    present = np.concatenate([piece[1] for piece in pieces])
    _add_arms(joints)
    face = np.zeros((len(joints), len(FACE_CHANNELS)), np.float32)  # not recorded: neutral
    return PoseTrack(joints.astype(np.float32), face, present, FPS)


def _place(recording: Recording, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Joints (T,49,3) of a recording, its face at `place` and its hands of usual size; hands present (T,2)."""
    palms = np.linalg.norm(recording.hands[:, :, 9, :2] - recording.hands[:, :, 0, :2], axis=-1)
    # People sit nearer or farther. A palm is mostly seen foreshortened; the upper end of what is seen is its length.
    scale = np.clip(PALM / max(np.nanpercentile(palms, 80), 1e-3), 0.7, 1.4)
    middle = np.median(recording.face, axis=0)
    joints = np.zeros((len(recording.face), len(LAYOUT), 3))
    joints[:, NOSE, :2] = (recording.face - middle) * scale + place
    for side, name, *_, wrist, sign in _SIDES:
        hand = recording.hands[:, side] * scale
        hand[..., :2] += place - middle * scale
        hand[..., 2] += _DEPTH
        _rest_where_absent(hand, recording.present[:, side], _resting_hand(place, name, sign))
        joints[:, HAND[name]] = hand
        joints[:, wrist] = hand[:, 0]
    return joints, recording.present.copy()


def _resting_hand(place: np.ndarray, name: str, sign: float) -> np.ndarray:
    wrist = np.array([[place[0] + sign * _REST[0], place[1] + _REST[1], _DEPTH / 2]])
    down, edge = np.array([np.pi]), np.array([0.6])
    return hand_landmarks(wrist, down, edge, np.array([RELAXED]), 1.0, left=name == "left")[0]


def _rest_where_absent(hand: np.ndarray, present: np.ndarray, rest: np.ndarray, way: int = 5) -> None:
    """Fill absent frames of one hand (T,21,3) in place: down to `rest` within `way` frames and up again."""
    seen = np.flatnonzero(present)
    if not len(seen):
        hand[:] = rest
        return
    times = np.arange(len(hand))
    last = np.searchsorted(seen, times, side="right") - 1
    before = np.where(last >= 0, times - seen[np.maximum(last, 0)], len(hand) + way)
    after = np.where(last + 1 < len(seen), seen[np.minimum(last + 1, len(seen) - 1)] - times, len(hand) + way)
    nearest = np.where(before <= after, seen[np.maximum(last, 0)], seen[np.minimum(last + 1, len(seen) - 1)])
    share = _ease(np.minimum(np.minimum(before, after) / way, 1.0))[:, None, None]
    absent = ~present
    hand[absent] = (hand[nearest] + (rest - hand[nearest]) * share)[absent]


def _ease(time: np.ndarray) -> np.ndarray:
    """Minimum-jerk profile from 0 to 1 (Flash and Hogan 1985)."""
    return time**3 * (10 - 15 * time + 6 * time**2)


def _resample(joints: np.ndarray, present: np.ndarray, tempo: float) -> tuple[np.ndarray, np.ndarray]:
    """Play `tempo` times as fast by linear interpolation between frames."""
    count = max(2, round(len(joints) / tempo))
    times = np.linspace(0, len(joints) - 1, count)
    low = np.minimum(times.astype(int), len(joints) - 2)
    share = (times - low)[:, None, None]
    return joints[low] + (joints[low + 1] - joints[low]) * share, present[np.rint(times).astype(int)]


def _join(
    before: tuple[np.ndarray, np.ndarray],
    after: tuple[np.ndarray, np.ndarray],
    joins: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Frames between two signs: minimum-jerk ways, longer for longer ways, fingers ahead of wrists, slight jitter."""
    start, end = before[0][-1], after[0][0]
    way = np.linalg.norm(end[[LEFT_WRIST, RIGHT_WRIST], :2] - start[[LEFT_WRIST, RIGHT_WRIST], :2], axis=-1).max()
    usual = joins[0] + (joins[1] - joins[0]) * min(way / 0.4, 1.0)
    count = int(np.clip(round(usual + rng.uniform(-1, 1)), *joins))
    time = np.arange(1, count + 1) / (count + 1)
    share = np.repeat(_ease(time)[:, None], len(LAYOUT), axis=1)
    joints = start + (end - start) * share[..., None]
    early = _ease(np.minimum(1.0, 1.3 * time))[:, None, None]
    for _, name, *_, wrist, _sign in _SIDES:
        first, last = start[HAND[name]], end[HAND[name]]
        shape = (first - first[:1]) + ((last - last[:1]) - (first - first[:1])) * early
        bump = np.sin(np.pi * time)[:, None] * rng.normal(0, 0.012, 3)
        joints[:, wrist] += bump
        joints[:, HAND[name]] = joints[:, wrist, None] + shape
    # A hand that comes or goes is seen on the half of the way next to where it is seen.
    present = np.where((time < 0.5)[:, None], before[1][-1], after[1][0])
    return joints, present


def _add_arms(joints: np.ndarray) -> None:
    """Shoulders at fixed offsets from the face, elbows by two-bone inverse kinematics: drawn, never measured."""
    nose = joints[:, NOSE, :2]
    anchor = 0.5 * nose + 0.5 * np.median(nose, axis=0)  # the body moves less than the head
    for _, _, shoulder, elbow, wrist, sign in _SIDES:
        joints[:, shoulder, :2] = anchor + np.array([sign * _SHOULDERS / 2, _FACE_TO_SHOULDERS])
        joints[:, elbow] = bend_elbow(joints[:, shoulder], joints[:, wrist], _ARM, outward=sign)


def recorded_keypoints(track: PoseTrack) -> np.ndarray:
    """(T,49,3): all that was recorded with confidence 1; what was not has confidence 0.

    An absent hand and the elbows are at 0, 0; the shoulders stand at their fixed place below the face.
    """
    keypoints = track.joints.astype(np.float32)
    keypoints[..., 2] = 0
    keypoints[:, NOSE, 2] = 1
    keypoints[:, [LEFT_ELBOW, RIGHT_ELBOW]] = 0
    for side, name, *_, wrist, _sign in _SIDES:
        seen = track.present[:, side].astype(np.float32)
        for joints in (wrist, HAND[name]):
            keypoints[:, joints, 2] = seen if isinstance(joints, int) else seen[:, None]
            keypoints[:, joints] *= seen[:, None] if isinstance(joints, int) else seen[:, None, None]
    return keypoints


def make_clip(sentence: Sentence, recordings: list[Recording], config: ComposeConfig) -> SignClip:
    """One sentence as a clip. The same seed gives the same motion and frames whatever the key point track."""

    def stream(purpose: int) -> np.random.Generator:
        return np.random.default_rng([config.seed, sentence.number, purpose])

    signs = [recordings[index] for index in sentence.recordings]
    track = perform(signs, config, stream(_MOTION))
    keypoints = recorded_keypoints(track)
    if config.track == "hard":
        keypoints = fingertips_only(keypoints, config.handicap, stream(_TRACK))
    frames = None
    if config.frames:
        from distill.corpus.synth.render import Look, render

        frames = render(track, Look.random(stream(_LOOK)), config.size)
    return SignClip(sentence.id, [sign.gloss for sign in signs], "", FPS, frames, keypoints)


def compose(
    source: Path,
    folder: Path,
    config: ComposeConfig,
    name: str = "",
    licence: str = "",
    language: str = "",
    progress: Callable[[Iterable[SignClip], int], Iterable[SignClip]] = lambda clips, total: clips,
) -> None:
    """Write the corpus `folder` from the recordings in `source`, whole or not at all. `progress` wraps the clips."""
    recordings = read_recordings(source, config.aspect)
    glosses = [recording.gloss for recording in recordings]
    sentences = plan(glosses, config)
    with atomic_folder(folder) as temporary:
        writer = CorpusWriter(temporary)
        for sentence, clip in zip(
            sentences, progress(_clips(sentences, recordings, config), len(sentences)), strict=True
        ):
            writer.add(clip, sentence.split)
        metadata = _metadata(source, config, name or source.stem, licence, language, glosses)
        writer.close(metadata)


def _clips(sentences: list[Sentence], recordings: list[Recording], config: ComposeConfig) -> Iterator[SignClip]:
    if config.workers == 1:
        yield from (make_clip(sentence, recordings, config) for sentence in sentences)
        return
    with ProcessPoolExecutor(config.workers, initializer=_share, initargs=(recordings, config)) as pool:
        yield from pool.map(_make_shared, sentences, chunksize=4)


_shared: tuple[list[Recording], ComposeConfig] | None = None


def _share(recordings: list[Recording], config: ComposeConfig) -> None:
    """Give a worker process its copy of the recordings once, not with every sentence."""
    global _shared
    _shared = (recordings, config)


def _make_shared(sentence: Sentence) -> SignClip:
    assert _shared is not None
    return make_clip(sentence, *_shared)


def _metadata(
    source: Path, config: ComposeConfig, name: str, licence: str, language: str, glosses: list[str]
) -> CorpusMetadata:
    keypoints = {
        "full": "recorded key points (hands and face centre; joins and short gaps interpolated)",
        "hard": "recorded key points reduced to face centre, wrists and finger tips, with tracker noise and lost hands",
    }[config.track]
    people = f"Real isolated signs{f' ({language})' if language else ''}, recorded from many people as key points"
    made = "sentences put together by signedge from recordings split by recording, with interpolated joins"
    pixels = "pixels rendered from the key points, not filmed" if config.frames else "no pixels"
    parameters = {key: value for key, value in asdict(config).items() if key != "workers"}  # they change no byte
    return CorpusMetadata(
        name=name,
        kind="composed",
        description=f"{people}; {made}; {pixels}.",
        licence=licence,
        glosses=sorted(set(glosses)),
        keypoint_layout=list(LAYOUT),
        frame_size=(config.size, config.size) if config.frames else None,
        keypoint_source=keypoints,
        generator={
            "name": "signedge compose",
            "version": COMPOSER_VERSION,
            "source": {"file": source.name, "sha256": sha256_file(source), "recordings": len(glosses)},
            "config": parameters,
        },
    )
