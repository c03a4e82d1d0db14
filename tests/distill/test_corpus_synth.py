"""Synthetic corpora: the same seed gives the same bytes, splits hold out, and each pair differs in one thing only."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from distill.corpus.check import check
from distill.corpus.store import Corpus
from distill.corpus.synth.generate import SynthConfig, generate
from distill.corpus.synth.hand import HANDSHAPES, hand_landmarks
from distill.corpus.synth.lexicon import Grammar, Sign, make_lexicon
from distill.corpus.synth.motion import Signer, perform
from distill.corpus.synth.pose import HAND, LAYOUT, LEFT_WRIST, RIGHT_WRIST, PoseTrack
from distill.corpus.synth.render import Look, render
from distill.corpus.synth.tracker import TrackerNoise, track_keypoints
from runtime.errors import BadInput
from runtime.preprocess import resize_area

TINY = SynthConfig(train=3, dev=1, test=1, size=16)
SMALL = SynthConfig(train=30, dev=9, test=12, size=16, glosses=24, handshape_pairs=4, face_pairs=3, signers=8)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus(generate(tmp_path_factory.mktemp("synth") / "corpus", SMALL))


@pytest.fixture(scope="module")
def lexicon() -> list[Sign]:
    return make_lexicon(rng(), glosses=24, handshape_pairs=4, face_pairs=3)


@pytest.fixture(scope="module")
def track(lexicon: list[Sign]) -> PoseTrack:
    return perform(lexicon[:3], Signer.random("someone", rng(1)), 12.5, rng(2))


@pytest.fixture(scope="module")
def look() -> Look:
    return replace(Look.random(rng(3)), stripes=0.0)


def pairs(lexicon: list[Sign], contrast: str) -> list[tuple[Sign, Sign]]:
    members = [sign for sign in lexicon if sign.contrast == contrast]
    return list(zip(members[::2], members[1::2], strict=True))


# --- the corpus as a whole


def test_the_seed_decides_every_byte(tmp_path: Path) -> None:
    first, again = (Corpus(generate(tmp_path / name, TINY)).fingerprint() for name in ("a", "b"))
    other = Corpus(generate(tmp_path / "c", TINY.model_copy(update={"seed": 2}))).fingerprint()
    assert first == again != other


def test_sentences_are_held_out(corpus: Corpus) -> None:
    train, dev, test = ({tuple(row.glosses) for row in corpus.split(name)} for name in ("train", "dev", "test"))
    assert not (dev | test) & train and not dev & test
    assert [len(corpus.split(name)) for name in ("train", "dev", "test")] == [30, 9, 12]


def test_dev_and_test_have_one_signer_each_that_nobody_else_has(corpus: Corpus) -> None:
    train, dev, test = ({row.signer for row in corpus.split(name)} for name in ("train", "dev", "test"))
    assert len(train) == 8
    assert len(dev - train) == 1 and len(test - train) == 1 and dev - train != test - train
    newcomers = [row for row in corpus.split("test") if row.signer not in train]
    assert len(newcomers) == 4  # every third


def test_what_is_generated_is_sound(corpus: Corpus) -> None:
    assert check(Corpus(corpus.folder, strict=False)) == []
    metadata = corpus.metadata
    assert metadata.kind == "synthetic" and "no real people" in metadata.description
    assert tuple(metadata.keypoint_layout) == LAYOUT and metadata.frame_size == (16, 16)
    assert len(metadata.glosses) == 24 and metadata.glosses == sorted(metadata.glosses)
    assert metadata.generator["config"] == SMALL.model_dump()
    assert json.loads(json.dumps(metadata.generator))["tracker"] == asdict(TrackerNoise())
    clip = corpus.load(corpus.rows[0])
    assert clip.frames is not None and clip.frames.shape[1:] == (16, 16, 3) and clip.frames.dtype == np.uint8
    assert clip.keypoints is not None and clip.keypoints.shape[1:] == (49, 3) and np.isfinite(clip.keypoints).all()


def test_a_joint_is_seen_somewhere_or_zero(corpus: Corpus) -> None:
    for clip in corpus:
        assert clip.keypoints is not None
        unseen = clip.keypoints[..., 2] == 0
        assert not clip.keypoints[unseen].any()
        assert ((clip.keypoints[..., 2] >= 0) & (clip.keypoints[..., 2] <= 1)).all()
        hand = unseen[:, HAND["left"]]
        assert (hand.all(axis=1) == hand.any(axis=1)).all()  # a hand is lost as a whole


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    generate(tmp_path / "corpus", TINY, lambda *numbers: told.append(numbers))
    assert told == [(done, 5) for done in range(1, 6)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"glosses": 8, "handshape_pairs": 4, "face_pairs": 3}, "more glosses or fewer pairs"),
        ({"glosses": 24, "handshape_pairs": 4, "face_pairs": 12}, "more glosses or fewer pairs"),
        ({"glosses": 8, "handshape_pairs": 0, "face_pairs": 0, "longest": 1, "test": 40}, "more glosses or longer"),
    ],
)
def test_what_cannot_be_generated_is_told_and_leaves_nothing(
    tmp_path: Path, changes: dict[str, int], message: str
) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        generate(tmp_path / "corpus", TINY.model_copy(update=changes))
    assert len(str(caught.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


# --- lexicon and grammar


@pytest.mark.parametrize("seed", range(5))
def test_pairs_differ_in_one_thing_only(seed: int) -> None:
    lexicon = make_lexicon(rng(seed), 24, 4, 3)
    assert len({sign.gloss for sign in lexicon}) == len(lexicon) == 24
    assert len(pairs(lexicon, "handshape")) == 4 and len(pairs(lexicon, "face")) == 3
    for contrast, fields in (("handshape", {"gloss", "shapes"}), ("face", {"gloss", "face"})):
        for first, second in pairs(lexicon, contrast):
            one, two = asdict(first), asdict(second)
            assert {name for name in one if one[name] != two[name]} == fields
    for first, second in pairs(lexicon, "handshape"):
        bends = [np.array(HANDSHAPES[sign.shapes[0]][:5]) for sign in (first, second)]
        assert np.abs(bends[0] - bends[1]).sum() >= 2


def test_movements_of_different_families_differ(lexicon: list[Sign]) -> None:
    moves = {sign.family: (sign.start, sign.end, sign.path, sign.other) for sign in lexicon}
    assert len(set(moves.values())) == len(moves) == 17


def test_context_tells_which_member_of_a_pair_follows(lexicon: list[Sign]) -> None:
    def followers(context: float) -> list[set[str]]:
        grammar, draws, seen = Grammar(rng(4), lexicon, context), rng(5), {}
        for _ in range(800):
            sentence = grammar.sentence(draws, 3, 6)
            assert 3 <= len(sentence) <= 6
            for before, sign in pairwise(sentence):
                assert before.family != sign.family
                if sign.contrast:
                    seen.setdefault((before.gloss, sign.family), set()).add(sign.gloss)
        return list(seen.values())

    assert all(len(members) == 1 for members in followers(1.0))
    assert max(len(members) for members in followers(0.0)) == 2


# --- motion


def test_a_face_pair_moves_alike_and_looks_different(lexicon: list[Sign], look: Look) -> None:
    signer = Signer.random("someone", rng(1))
    for first, second in pairs(lexicon, "face"):
        one, two = (perform([sign], signer, 12.5, rng(7)) for sign in (first, second))
        assert np.array_equal(one.joints, two.joints) and not np.allclose(one.face, two.face)
        keypoints = [track_keypoints(motion, TrackerNoise(), rng(8)) for motion in (one, two)]
        assert np.array_equal(*keypoints)  # nothing of the face reaches the tracker
        difference = np.abs(render(one, look, 64).astype(int) - render(two, look, 64))
        assert difference.max() > 40  # and the pixels show it


def test_a_handshape_pair_differs_in_the_fingers_only(lexicon: list[Sign]) -> None:
    signer = Signer.random("someone", rng(1))
    for first, second in pairs(lexicon, "handshape"):
        one, two = (perform([sign], signer, 12.5, rng(7)) for sign in (first, second))
        assert np.array_equal(one.face, two.face)
        assert np.array_equal(one.joints[:, :7], two.joints[:, :7])  # body
        for side in ("left", "right"):
            assert np.array_equal(one.joints[:, HAND[side].start], two.joints[:, HAND[side].start])
        assert np.abs(one.joints[:, 8:] - two.joints[:, 8:]).max() > 0.02


def test_a_left_handed_signer_signs_with_the_left(lexicon: list[Sign]) -> None:
    signer = Signer.random("someone", rng(1))
    sign = next(sign for sign in lexicon if sign.other == "rest" and sign.start != sign.end)
    for left_handed in (False, True):
        motion = perform([sign], replace(signer, left_handed=left_handed), 25.0, rng(2))
        left, right = (np.ptp(motion.joints[:, wrist, :2], axis=0).sum() for wrist in (LEFT_WRIST, RIGHT_WRIST))
        assert (left > 2 * right) if left_handed else (right > 2 * left)


def test_motion_is_smooth_and_in_sight(track: PoseTrack) -> None:
    assert track.joints.dtype == track.face.dtype == np.float32 and track.joints.shape[1:] == (49, 3)
    assert track.face.shape == (len(track.joints), 4) and track.present.all()
    assert np.abs(np.diff(track.joints, axis=0)).max() < 0.25
    assert ((track.joints[..., :2] > -0.3) & (track.joints[..., :2] < 1.4)).all()


# --- hands


def still_hand(shape: str, left: bool = False, angle: float = 0.0, turn: float = 0.0) -> np.ndarray:
    frames = 2
    wrist = np.tile([0.5, 0.5, -0.2], (frames, 1))
    bend = np.tile(HANDSHAPES[shape], (frames, 1))
    return hand_landmarks(wrist, np.full(frames, angle), np.full(frames, turn), bend, 1.0, left)


@pytest.mark.parametrize("shape", list(HANDSHAPES))
def test_left_and_right_hand_mirror_one_another(shape: str) -> None:
    right, left = still_hand(shape, False, 0.3, 0.5), still_hand(shape, True, -0.3, 0.5)
    assert right.shape == (2, 21, 3) and np.isfinite(right).all()
    assert np.allclose(left[:, 0], [0.5, 0.5, -0.2])
    assert np.allclose(left * [-1, 1, 1] + [1, 0, 0], right)


def test_a_fist_is_shorter_than_a_flat_hand() -> None:
    reach = {shape: np.linalg.norm(still_hand(shape)[0] - [0.5, 0.5, -0.2], axis=-1) for shape in HANDSHAPES}
    tips = [8, 12, 16, 20]
    assert (reach["fist"][tips] < 0.75 * reach["flat"][tips]).all()
    assert reach["index"][8] == reach["flat"][8] and reach["index"][12] == reach["fist"][12]
    assert still_hand("flat")[0, 12, 1] < 0.5  # fingers up at angle 0


# --- the tracker


def test_a_perfect_tracker_reports_the_joints(track: PoseTrack) -> None:
    keypoints = track_keypoints(track, TrackerNoise.none(), rng())
    assert keypoints.shape == (len(track.joints), 49, 3) and keypoints.dtype == np.float32
    assert np.allclose(keypoints[..., :2], track.joints[..., :2], atol=1e-6)
    assert (keypoints[..., 2] > 0).all()


def test_jitter_is_as_large_as_told(track: PoseTrack) -> None:
    jittered = track_keypoints(track, replace(TrackerNoise.none(), jitter=0.01), rng())
    assert 0.007 < (jittered[:, :7, :2] - track.joints[:, :7, :2]).std() < 0.013


def test_fidelity_decides_how_much_of_a_handshape_is_left(lexicon: list[Sign]) -> None:
    signer = Signer.random("someone", rng(1))
    for pair in pairs(lexicon, "handshape"):
        apart = {}
        for fidelity in (1.0, 0.5, 0.0):
            noise = replace(TrackerNoise.none(), finger_fidelity=fidelity)
            one, two = (track_keypoints(perform([sign], signer, 12.5, rng(7)), noise, rng(8)) for sign in pair)
            apart[fidelity] = np.abs(one - two).max()
        assert apart[1.0] > 1.5 * apart[0.5] > 0.01 and apart[0.0] < 1e-6


def test_lost_hands_are_zero_with_their_wrists(track: PoseTrack) -> None:
    lost = track_keypoints(track, replace(TrackerNoise.none(), lose=1.0, lose_hard=1.0, find=0.0), rng())
    assert not lost[:, LEFT_WRIST:].any()
    assert np.array_equal(lost[:, :LEFT_WRIST, :2], track.joints[:, :LEFT_WRIST, :2])
    assert (lost[:, :LEFT_WRIST, 2] > 0).all()
    absent = replace(track, present=np.tile([True, False], (len(track.joints), 1)))
    keypoints = track_keypoints(absent, TrackerNoise.none(), rng())
    assert not keypoints[:, HAND["right"]].any() and not keypoints[:, RIGHT_WRIST].any()
    assert keypoints[:, HAND["left"], 2].all() and keypoints[:, LEFT_WRIST, 2].all()


def test_losses_last_and_end() -> None:
    frames = 4000
    joints = np.zeros((frames, 49, 3), np.float32)
    joints[:, HAND["right"]], joints[:, RIGHT_WRIST] = 0.9, 0.9
    still = PoseTrack(joints, np.zeros((frames, 4), np.float32), np.ones((frames, 2), bool), 12.5)
    noise = TrackerNoise(lose=0.05, lose_hard=0.05, find=0.25, swap=0.0)
    lost = ~track_keypoints(still, noise, rng())[:, HAND["right"], 2].any(axis=1)
    edges = np.diff(lost.astype(int))
    assert lost.sum() / (edges == 1).sum() == pytest.approx(1 / 0.25, rel=0.25)  # frames a loss
    assert lost.mean() == pytest.approx(0.05 / 0.30, rel=0.3)


def test_hands_are_swapped_only_while_they_touch(track: PoseTrack) -> None:
    joints = track.joints[:1].repeat(12, 0)
    place = {"left": 0.8, "right": 0.2}
    for side, wrist in (("left", LEFT_WRIST), ("right", RIGHT_WRIST)):
        joints[:, HAND[side]] += (place[side] - joints[:, wrist, 0])[:, None, None] * np.array([1, 0, 0], np.float32)
        joints[:, wrist, 0] = place[side]
    joints[4:8, HAND["left"], 0] -= 0.5  # meets the right hand in frames 4 to 7
    joints[4:8, LEFT_WRIST, 0] -= 0.5
    meeting = PoseTrack(joints, np.zeros((12, 4), np.float32), np.ones((12, 2), bool), 12.5)
    keypoints = track_keypoints(meeting, replace(TrackerNoise.none(), swap=1.0), rng())
    for frame in range(12):
        left, right = ("right", "left") if 4 <= frame < 8 else ("left", "right")
        assert np.allclose(keypoints[frame, HAND["left"], :2], joints[frame, HAND[left], :2], atol=1e-6)
        assert np.allclose(keypoints[frame, HAND["right"], :2], joints[frame, HAND[right], :2], atol=1e-6)


# --- the renderer


def moved(track: PoseTrack, side: str, by: tuple[float, float], present: bool = True) -> PoseTrack:
    """`track` with one hand (not its arm) displaced, or absent."""
    joints, there = track.joints.copy(), track.present.copy()
    joints[:, HAND[side], :2] += np.array(by, np.float32)
    there[:, 0 if side == "left" else 1] = present
    return replace(track, joints=joints, present=there)


def test_the_same_look_gives_the_same_bytes(track: PoseTrack, look: Look) -> None:
    first = render(track, look, 32)
    assert np.array_equal(first, render(track, look, 32))
    assert not np.array_equal(first, render(track, replace(look, seed=look.seed + 1), 32))


@pytest.mark.parametrize("size", [16, 17, 64, 101, 224])
def test_any_size(track: PoseTrack, look: Look, size: int) -> None:
    short = PoseTrack(track.joints[:3], track.face[:3], track.present[:3], track.fps)
    frames = render(short, look, size)
    assert frames.shape == (3, size, size, 3) and frames.dtype == np.uint8
    assert frames.std() > 10


def test_frames_are_drawn_one_by_one(track: PoseTrack, look: Look) -> None:
    """A clip longer than what is drawn at once has no seam: without noise, a still signer gives one picture."""
    frames = 40
    still = PoseTrack(
        track.joints[:1].repeat(frames, 0), track.face[:1].repeat(frames, 0), np.ones((frames, 2), bool), 12.5
    )
    drawn = render(still, replace(look, noise=0.0), 32)
    assert (drawn == drawn[:1]).all()


def test_an_absent_hand_is_not_drawn(track: PoseTrack, look: Look) -> None:
    there = render(track, look, 64)
    gone = render(moved(track, "right", (0, 0), present=False), look, 64)
    changed = (there != gone).any(axis=-1)
    assert changed.any(axis=(1, 2)).all()  # in every frame
    hand = track.joints[:, HAND["right"], :2] * 64
    for frame, pixels in enumerate(changed):
        rows, columns = np.nonzero(pixels)
        low, high = hand[frame].min(axis=0) - 6, hand[frame].max(axis=0) + 6
        assert (columns > low[0]).all() and (columns < high[0]).all()
        assert (rows > low[1]).all() and (rows < high[1]).all()


@pytest.mark.parametrize("by", [(3.0, 0.0), (-3.0, 0.0), (0.0, 3.0), (0.0, -3.0), (400.0, -400.0)])
def test_a_hand_out_of_sight_changes_nothing(track: PoseTrack, look: Look, by: tuple[float, float]) -> None:
    gone = render(moved(track, "left", (0, 0), present=False), look, 32)
    assert np.array_equal(render(moved(track, "left", by), look, 32), gone)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("edge", [0.0, 1.0])
def test_a_hand_over_the_edge_does_not_come_in_on_the_other_side(
    track: PoseTrack, look: Look, axis: int, edge: float
) -> None:
    joints = track.joints.copy()
    middle = joints[:, HAND["left"], axis].mean(axis=1)
    joints[:, HAND["left"], axis] += (edge - middle)[:, None]
    over = replace(track, joints=joints)
    changed = (render(over, look, 64) != render(moved(over, "left", (0, 0), present=False), look, 64)).any(axis=-1)
    lines = np.flatnonzero(changed.any(axis=(0, 1) if axis == 0 else (0, 2)))
    assert len(lines) > 2
    assert lines.min() > 32 if edge else lines.max() < 32


def test_edges_are_antialiased(track: PoseTrack, look: Look) -> None:
    """A picture drawn small is the average of the same picture drawn large: no stairs, nothing lost between pixels."""
    clean = replace(look, noise=0.0, texture=0.0, gradient=0.0)
    small, large = render(track, clean, 64).astype(float), render(track, clean, 128)
    averaged = resize_area(large, 64, 64)
    picked = large[:, ::2, ::2].astype(float)
    difference = np.abs(small - averaged)
    assert difference.mean() < 1.0 and np.percentile(difference, 99) < 12
    assert difference.mean() < 0.5 * np.abs(picked - averaged).mean()
