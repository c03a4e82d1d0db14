"""Composed sentences: split by recording, seeded to the byte, smooth at the joins; the hard track hides enough."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from corpus_samples import write_recordings

from distill.corpus import Corpus
from distill.corpus.check import check
from distill.corpus.compose import ComposeConfig, compose, make_clip, plan, recorded_keypoints
from distill.corpus.compose import perform as perform_sentence
from distill.corpus.fingertips import HAND_LENGTH, Handicap, fingertips_only
from distill.corpus.recordings import assign_sides, read_recordings
from distill.corpus.synth.pose import HAND, LAYOUT, LEFT_WRIST, RIGHT_WRIST
from runtime.errors import BadInput

SMALL = ComposeConfig(seed=3, sentences=(6, 2, 3), size=24)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recordings(tmp_path_factory.mktemp("recordings") / "signs.npz")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_same_seed_same_bytes_with_any_number_of_workers(source: Path, tmp_path: Path) -> None:
    compose(source, tmp_path / "a", SMALL)
    compose(source, tmp_path / "b", replace(SMALL, workers=2))
    compose(source, tmp_path / "c", replace(SMALL, seed=4))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a")["clips.jsonl"] != contents(tmp_path / "c")["clips.jsonl"]


def test_the_corpus_is_sound_and_says_what_it_is(source: Path, tmp_path: Path) -> None:
    compose(source, tmp_path / "a", SMALL, name="mine", licence="Apache-2.0", language="DGS")
    corpus = Corpus(tmp_path / "a")
    assert check(corpus) == []
    assert (corpus.metadata.name, corpus.metadata.kind, corpus.metadata.licence) == ("mine", "composed", "Apache-2.0")
    assert "DGS" in corpus.metadata.description
    assert "rendered from the key points, not filmed" in corpus.metadata.description
    assert [len(corpus.split(split)) for split in ("train", "dev", "test")] == [6, 2, 3]
    assert all(3 <= len(row.glosses) <= 6 and row.fps == 25 for row in corpus.rows)
    clip = corpus.load(corpus.rows[0])
    assert clip.frames is not None
    assert clip.keypoints is not None
    assert clip.frames.shape[1:] == (24, 24, 3)
    assert np.isfinite(clip.keypoints).all()


def test_tracks_share_sentences_and_frames(source: Path, tmp_path: Path) -> None:
    compose(source, tmp_path / "full", SMALL)
    compose(source, tmp_path / "hard", replace(SMALL, track="hard"))
    full, hard = contents(tmp_path / "full"), contents(tmp_path / "hard")
    assert full["clips.jsonl"] == hard["clips.jsonl"]
    for name in full:
        if name.startswith("frames/"):
            assert full[name] == hard[name]
        elif name.startswith("keypoints/"):
            assert full[name] != hard[name]


def test_frames_may_be_left_out(source: Path, tmp_path: Path) -> None:
    compose(source, tmp_path / "a", replace(SMALL, frames=False))
    corpus = Corpus(tmp_path / "a")
    assert all(row.video is None and row.keypoints for row in corpus.rows)
    assert corpus.metadata.frame_size is None
    assert "no pixels" in corpus.metadata.description


@pytest.mark.parametrize("seed", range(5))
def test_no_recording_occurs_in_two_splits(seed: int) -> None:
    glosses = [f"g{index % 7}" for index in range(100)] + ["rare"] * 3
    sentences = plan(glosses, ComposeConfig(seed=seed, sentences=(200, 60, 60)))
    used = {
        split: {recording for sentence in sentences if sentence.split == split for recording in sentence.recordings}
        for split in ("train", "dev", "test")
    }
    assert not used["train"] & used["dev"]
    assert not used["train"] & used["test"]
    assert not used["dev"] & used["test"]
    assert len(used["train"]) > 70
    assert {glosses[recording] for recording in used["test"]} == set(glosses)
    assert all(len({glosses[r] for r in sentence.recordings}) == len(sentence.recordings) for sentence in sentences)
    assert len({sentence.id for sentence in sentences}) == 320


def test_a_gloss_with_too_few_recordings_is_named() -> None:
    with pytest.raises(BadInput, match="gloss 'rare' has 2 usable recordings"):
        plan(["common"] * 9 + ["rare"] * 2, ComposeConfig())


def test_hands_keep_their_side_whatever_the_slot(source: Path) -> None:
    for recording in read_recordings(source):
        wrists = recording.hands[:, :, 0, 0] - recording.face[:, None, 0]
        assert (wrists[:, 1] < 0).all()  # the right hand is on the picture's left
        if recording.gloss in ("gloss0", "gloss2", "gloss4"):
            assert recording.present.all()
            assert (wrists[:, 0] > 0).all()
        else:
            assert not recording.present[:, 0].any()


def test_a_hand_that_crosses_the_body_stays_the_same_hand() -> None:
    time = np.linspace(0, 1, 30)
    slots = np.full((30, 2, 21, 3), np.nan)
    slots[:, 0] = np.stack([0.3 + 0.35 * time, 0.6 + 0 * time, 0 * time], axis=-1)[:, None]
    sides = assign_sides(np.full((30, 2), 0.5), slots)
    assert np.isnan(sides[:, 0]).all()
    np.testing.assert_allclose(sides[:, 1, 0, 0], 0.3 + 0.35 * time)


def write_npz(path: Path, base: Path, **changes: np.ndarray | None) -> Path:
    with np.load(base) as archive:
        fields = {**{name: archive[name] for name in archive}, **changes}
    np.savez(path, **{name: value for name, value in fields.items() if value is not None})
    return path


def test_quirks_of_real_recordings_are_cleaned(source: Path, tmp_path: Path) -> None:
    with np.load(source) as archive:
        q, offsets, labels = archive["q"].copy(), archive["offsets"], archive["label"]
    one = int(np.flatnonzero(labels == "gloss1")[0])  # one-handed
    frames = slice(offsets[one], offsets[one + 1])
    q[frames, 65:] = q[frames, 2:65]  # one hand detected twice
    q[offsets[one], 2:] = 0  # a hand of zeros is no hand, and the frame then has none
    q[offsets[one + 1] : offsets[one + 2]] = -32768  # nothing at all
    recordings = read_recordings(write_npz(tmp_path / "q.npz", source, q=q))
    kept = {recording.uid: recording for recording in recordings}
    assert f"uid{one + 1}" not in kept
    assert len(recordings) == len(labels) - 1
    assert (kept[f"uid{one}"].present == [False, True]).all()


def test_short_gaps_of_a_hand_are_closed_and_long_ones_are_not(tmp_path: Path) -> None:
    count = 40
    q = np.zeros((3 * count, 128), np.int16)
    q[:, 0], q[:, 1] = 4096, 2458
    for side, start, x in ((0, 2, 2000), (1, 65, 6000)):
        hand = q[:, start : start + 63].reshape(-1, 21, 3)
        hand[..., 0], hand[..., 1] = x + 30 * np.arange(21), 5000 - 40 * np.arange(21)
        if side:
            for gap in ((10, 14), (20, 30)):
                hand[gap[0] : gap[1]] = -32768
    np.savez(
        tmp_path / "g.npz", q=q, offsets=np.arange(4) * count, label=np.array(["a"] * 3), uid=np.arange(3), scale=8192.0
    )
    recording = read_recordings(tmp_path / "g.npz")[0]
    assert np.flatnonzero(~recording.present[:, 0]).tolist() == list(range(20, 30))
    assert np.isfinite(recording.hands[10:14, 0]).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"uid": None}, "lacks the field uid; it must be made by numpy.savez with the fields q, offsets"),
        ({"q": np.zeros((10, 128), np.float32)}, "q and offsets must be integers"),
        ({"scale": np.array(["big"])}, "scale one number"),
        ({"label": np.array([None, "a"], object)}, "field label is broken, or holds Python objects"),
        ({"q": np.zeros((10, 5), np.int16)}, r"q has shape \(10, 5\)"),
        ({"offsets": np.array([0, 10**6])}, "offsets, label and uid do not describe"),
        ({"q": np.full((2000, 128), -32768, np.int16)}, "has no recording"),
    ],
)
def test_wrong_fields_are_named(source: Path, tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read_recordings(write_npz(tmp_path / "bad.npz", source, **changes))


def test_broken_archives(source: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="missing file"):
        read_recordings(tmp_path / "none.npz")
    with pytest.raises(BadInput, match="Is a directory"):
        read_recordings(tmp_path)
    (tmp_path / "text.npz").write_text("text")
    (tmp_path / "cut.npz").write_bytes(source.read_bytes()[:3000])
    flipped = bytearray(source.read_bytes())
    flipped[2000:2100] = b"\xff" * 100
    (tmp_path / "flipped.npz").write_bytes(bytes(flipped))
    np.save(tmp_path / "lone.npy", np.zeros(3))
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("q", "no array")
    for name, told in (
        ("text.npz", "is no .npz archive, or was cut short; it must be made by numpy.savez with the fields q"),
        ("cut.npz", "is no .npz archive"),
        ("lone.npy", "is no .npz archive"),
        ("flipped.npz", "field q is broken"),
        ("other.zip", "lacks the field offsets"),
    ):
        with pytest.raises(BadInput) as error:
            read_recordings(tmp_path / name)
        assert str(error.value).startswith(str(tmp_path / name)) and told in str(error.value)
        assert "pickle" not in str(error.value) and "\n" not in str(error.value)


def test_joins_are_as_smooth_as_signing(source: Path) -> None:
    recordings = read_recordings(source)
    two = [recordings[0], recordings[-1]]
    track = perform_sentence(two, SMALL, np.random.default_rng(0))
    steps = np.linalg.norm(np.diff(track.joints[:, [LEFT_WRIST, RIGHT_WRIST], :2], axis=0), axis=-1)
    assert steps.max() < 0.15
    assert track.joints.shape[1:] == (49, 3)
    assert track.face.shape == (len(track.joints), 4)
    np.testing.assert_allclose(track.joints[:, LEFT_WRIST], track.joints[:, HAND["left"]][:, 0])
    alone = [perform_sentence([one], SMALL, np.random.default_rng(0)) for one in two]
    extra = len(track.joints) - sum(len(one.joints) for one in alone)
    assert SMALL.joins[0] <= extra <= SMALL.joins[1]


def test_a_hand_that_was_not_recorded_is_not_in_the_keypoints(source: Path) -> None:
    recordings = read_recordings(source)
    one_handed = next(recording for recording in recordings if recording.gloss == "gloss1")
    track = perform_sentence([one_handed], SMALL, np.random.default_rng(0))
    points = recorded_keypoints(track)
    assert not points[:, HAND["left"]].any()
    assert not points[:, LEFT_WRIST].any()
    assert (points[:, HAND["right"], 2] == 1).all()
    assert track.joints[:, LEFT_WRIST, 1].min() > 0.95  # at rest, below the picture
    confidence = dict(zip(LAYOUT, points[0, :, 2], strict=True))
    assert confidence["nose"] == 1
    assert confidence["left_shoulder"] == confidence["right_elbow"] == 0


def test_hard_track_shows_wrists_and_tips_only(source: Path) -> None:
    recordings = read_recordings(source)
    full = recorded_keypoints(perform_sentence([recordings[0]] * 40, SMALL, np.random.default_rng(0)))
    handicap = Handicap(noise=0.2, lost=0.25)
    hard = fingertips_only(full, handicap, np.random.default_rng(1))
    shown = {LAYOUT[joint] for joint in np.flatnonzero(hard[..., 2].any(axis=0))}
    tips = {
        f"{side}_hand_{finger}4"
        for side in ("left", "right")
        for finger in ("thumb", "index", "middle", "ring", "little")
    }
    assert shown == tips | {"nose", "left_wrist", "right_wrist", "left_hand_root", "right_hand_root"}
    hidden = [joint for joint, name in enumerate(LAYOUT) if name not in shown and "shoulder" not in name]
    assert not hard[:, hidden].any()
    seen = hard[:, LEFT_WRIST, 2] > 0
    assert 0.1 < 1 - seen.mean() < 0.4
    assert not hard[~seen][:, HAND["left"]].any()
    error = (hard - full)[seen][:, LEFT_WRIST, :2]
    assert error.std() == pytest.approx(0.2 * HAND_LENGTH, rel=0.1)
    edges = np.flatnonzero(np.diff(np.concatenate([[1], seen.astype(int), [1]])))
    assert all(
        end - start >= 4 for start, end in zip(edges[::2], edges[1::2], strict=True) if start > 0 and end < len(seen)
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"track": "soft"},
        {"sentences": (0, 1, 1)},
        {"held_out": 1.0},
        {"signs": (4, 3)},
        {"tempo": 0.0},
        {"tempo": float("nan")},
        {"aspect": float("inf")},
    ],
)
def test_settings_that_make_no_sense(wrong: dict) -> None:
    with pytest.raises(BadInput):
        ComposeConfig(**wrong)
    with pytest.raises(BadInput):
        Handicap(noise=-1)
    with pytest.raises(BadInput):
        Handicap(noise=float("nan"))


def test_nothing_is_left_when_composing_fails(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="three are needed"):
        compose(write_recordings(tmp_path / "few.npz", glosses=2, each=2), tmp_path / "corpus", SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["few.npz"]


def test_real_recordings(shared: Path) -> None:
    """Hands of real people go to the side they belong to: wrists hardly ever jump, right hands lead."""
    recordings = read_recordings(shared / "dgs-gebaerdenfutter" / "3D_full.npz")
    assert len(recordings) > 1700
    assert len({recording.gloss for recording in recordings}) == 30
    jumps = np.concatenate([np.abs(np.diff(r.hands[:, :, 0, 0], axis=0)).ravel() for r in recordings])
    assert np.nanpercentile(jumps, 99) < 0.2  # 0.58 in detection slots
    present = np.concatenate([recording.present for recording in recordings]).mean(axis=0)
    assert present[1] > 0.85 > 0.7 > present[0]
    config = ComposeConfig(sentences=(2, 1, 1), size=32)
    sentence = plan([recording.gloss for recording in recordings], config)[0]
    clip = make_clip(sentence, recordings, config)
    assert clip.frames is not None
    assert clip.keypoints is not None
    assert len(clip.frames) == len(clip.keypoints) > 40
    visible = clip.keypoints[clip.keypoints[..., 2] > 0][:, :2]
    assert ((visible > -0.1) & (visible < 1.1)).all(axis=1).mean() > 0.97
