"""`corpus check` names every bad row by its line and no good one; a training leaves bad rows out only when told to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from corpus_samples import edit_rows, keypoints, small_corpus
from video_samples import write_image, write_video

from distill.corpus import Corpus
from distill.corpus.check import Fault, check, ctc_steps, usable_rows, warnings
from runtime.errors import BadInput


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_corpus(tmp_path / "corpus")


def faults_of(folder: Path) -> list[Fault]:
    return check(Corpus(folder, strict=False))


def test_a_sound_corpus_has_no_faults(folder: Path) -> None:
    assert faults_of(folder) == []
    rows, skipped = usable_rows(Corpus(folder, strict=False), skip=False)
    assert len(rows) == 6
    assert skipped == []


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def set_nan(path: Path) -> None:
    points = keypoints(16)
    points[3, 5, 0] = np.nan
    np.save(path, points)


BREAKAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing frames": (lambda f: (f / "frames/clip1.npy").unlink(), "missing file"),
    "missing keypoints": (lambda f: (f / "keypoints/clip1.npy").unlink(), "missing file"),
    "truncated array": (lambda f: cut_in_half(f / "frames/clip1.npy"), "cannot read frames"),
    "wrong frames": (lambda f: np.save(f / "frames/clip1.npy", np.zeros((16, 4, 4))), "(T,H,W,3) uint8 is needed"),
    "wrong keypoints": (
        lambda f: np.save(f / "keypoints/clip1.npy", np.zeros((16, 21, 3))),
        "the layout asks for (T,49,3)",
    ),
    "text keypoints": (lambda f: np.save(f / "keypoints/clip1.npy", np.full((16, 49, 3), "x")), "the layout asks for"),
    "NaN keypoints": (
        lambda f: set_nan(f / "keypoints/clip1.npy"),
        "NaN or infinity in 1 of 16 frames, first in frame 3",
    ),
    "frame count": (lambda f: edit_rows(f, clip1={"frames": 17}), "the row says 17 frames, frames/clip1.npy has 16"),
    "no glosses": (lambda f: edit_rows(f, clip1={"glosses": []}), "no glosses"),
    "empty gloss": (lambda f: edit_rows(f, clip1={"glosses": ["a", " "]}), "an empty gloss"),
    "unknown gloss": (
        lambda f: edit_rows(f, clip1={"glosses": ["a", "zebra"]}),
        "gloss 'zebra' is not in the vocabulary",
    ),
    "too short": (
        lambda f: edit_rows(f, clip1={"glosses": ["a", "a", "b", "b"]}),
        "too short for its glosses under CTC: 16 frames give 4 output steps, 6 are needed",
    ),
    "no data": (lambda f: edit_rows(f, clip1={"video": None, "keypoints": None}), "neither video nor keypoints"),
    "blank": (lambda f: edit_rows(f, clip1={"glosses": ["<blank>"]}), "is CTC's blank"),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_each_fault_is_named_with_its_line(folder: Path, name: str) -> None:
    breakage, message = BREAKAGES[name]
    breakage(folder)
    faults = faults_of(folder)
    assert faults
    assert {(fault.line, fault.clip) for fault in faults} == {(2, "clip1")}
    assert any(message in fault.message for fault in faults), faults
    assert str(faults[0]).startswith("clips.jsonl:2: clip 'clip1': ")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", "not JSON"),
        ('{"id": "x"}', "Field required"),
        ('{"id": "x", "split": "train", "glosses": ["a"], "fps": 0, "frames": 8}', "fps"),
        (
            '{"id": "x", "split": "train", "glosses": ["a"], "fps": 25, "frames": 8, "video": "../x.mp4"}',
            "leaves the corpus",
        ),
        ('{"id": "clip0", "split": "test", "glosses": ["a"], "fps": 25, "frames": 8}', "'clip0' was used on line 1"),
    ],
)
def test_rows_that_cannot_be_parsed_are_faults(folder: Path, line: str, message: str) -> None:
    with (folder / "clips.jsonl").open("a") as clips:
        clips.write(line + "\n")
    (fault,) = faults_of(folder)
    assert fault.line == 7
    assert message in fault.message


def test_all_bad_rows_are_named_at_once(folder: Path) -> None:
    edit_rows(folder, clip0={"glosses": []}, clip3={"glosses": ["q"]}, clip5={"frames": 3})
    assert [fault.line for fault in faults_of(folder)] == [1, 4, 6, 6, 6]


def test_train_split_must_exist(folder: Path) -> None:
    edit_rows(folder, **{f"clip{i}": {"split": "dev"} for i in range(4)})
    corpus = Corpus(folder, strict=False)
    assert check(corpus) == [Fault(0, "", "no clip is in the train split")]
    with pytest.raises(BadInput, match="train split"):
        usable_rows(corpus, skip=True)


def test_empty_corpus_is_a_fault(folder: Path) -> None:
    (folder / "clips.jsonl").write_text("")
    assert [str(fault) for fault in faults_of(folder)] == ["the corpus has no clips"]


def test_one_file_in_two_splits_is_a_fault(folder: Path) -> None:
    edit_rows(folder, clip5={"video": "frames/clip0.npy"})
    (fault,) = faults_of(folder)
    assert (fault.line, fault.clip) == (6, "clip5")
    assert fault.message == "frames/clip0.npy is in test and, on line 1, in train"


def test_videos_and_folders_are_judged_too(folder: Path) -> None:
    write_video(folder / "good.mp4", 16)
    write_video(folder / "cut.avi", 16)
    cut_in_half(folder / "cut.avi")
    (folder / "text.mp4").write_text("no video")
    (folder / "pictures").mkdir()
    for index in range(16):
        write_image(folder / f"pictures/{index:03d}.png", np.full((8, 8, 3), index, np.uint8))
    names = {"clip0": "good.mp4", "clip1": "cut.avi", "clip2": "text.mp4", "clip3": "pictures"}
    edit_rows(folder, **{clip: {"video": name, "keypoints": None} for clip, name in names.items()})
    faults = faults_of(folder)
    assert [fault.clip for fault in faults] == ["clip1", "clip2"]
    assert "text.mp4" in faults[1].message


def test_repeats_need_a_blank_between() -> None:
    assert ctc_steps(["a", "b", "a"]) == 3
    assert ctc_steps(["a", "a", "a"]) == 5


def test_bad_rows_stop_a_training_unless_skipped(folder: Path) -> None:
    edit_rows(folder, clip1={"glosses": []}, clip2={"glosses": []})
    corpus = Corpus(folder, strict=False)
    with pytest.raises(BadInput, match=r"clips.jsonl:2: clip 'clip1': no glosses; 1 more bad row; .*--skip-bad-clips"):
        usable_rows(corpus, skip=False)
    rows, skipped = usable_rows(corpus, skip=True)
    assert [row.id for row in rows] == ["clip0", "clip3", "clip4", "clip5"]
    assert [fault.clip for fault in skipped] == ["clip1", "clip2"]


def test_nothing_left_to_train_on_cannot_be_skipped(folder: Path) -> None:
    edit_rows(folder, **{f"clip{i}": {"glosses": []} for i in range(4)})
    with pytest.raises(BadInput, match="no clip of the train split is left"):
        usable_rows(Corpus(folder, strict=False), skip=True)


def test_warnings_tell_of_signers_and_glosses(folder: Path) -> None:
    edit_rows(folder, clip4={"signer": "signer0"}, **{f"clip{i}": {"glosses": ["a", "b"]} for i in range(4)})
    notes = warnings(Corpus(folder))
    assert any(
        note.startswith("dev: 1 of 1 clips are signed by people who also sign in train (signer0);") for note in notes
    )
    assert "test: never in train, so they cannot be recognised: c" in notes


def test_several_frame_rates_are_warned_of(folder: Path) -> None:
    assert not any("frame rates" in note for note in warnings(Corpus(folder)))
    edit_rows(folder, clip2={"fps": 12.5})
    assert any("several frame rates (12.5/s, 25/s)" in note for note in warnings(Corpus(folder)))


def test_missing_splits_are_warned_of(folder: Path) -> None:
    lines = (folder / "clips.jsonl").read_text().splitlines(keepends=True)
    (folder / "clips.jsonl").write_text("".join(lines[:4]))
    dev, test = warnings(Corpus(folder))
    assert dev.startswith("dev: there are no clips; ") and "int8" in dev
    assert test.startswith("test: there are no clips; ") and "measure" in test


def test_rows_are_plain_json(folder: Path) -> None:
    rows = [json.loads(line) for line in (folder / "clips.jsonl").read_text().splitlines()]
    assert rows[0]["video"] == "frames/clip0.npy"
