"""A corpus folder reads back what was written, and says what is wrong with what it cannot read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from corpus_samples import edit_rows, frames, keypoints, small_corpus
from video_samples import write_image

from distill.corpus import Corpus
from runtime.errors import BadInput


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_corpus(tmp_path / "corpus")


def test_clips_come_back_as_written(folder: Path) -> None:
    corpus = Corpus(folder)
    clips = list(corpus)
    assert [clip.id for clip in clips] == [f"clip{i}" for i in range(6)]
    np.testing.assert_array_equal(clips[2].frames, frames(16, seed=2))
    np.testing.assert_array_equal(clips[2].keypoints, keypoints(16))
    assert [row.id for row in corpus.split("dev")] == ["clip4"]


def test_only_what_is_asked_for_is_read(folder: Path) -> None:
    corpus = Corpus(folder)
    (folder / "frames/clip0.npy").unlink()
    assert corpus.load(corpus.rows[0], frames=False).frames is None
    with pytest.raises(BadInput, match=r"clips.jsonl:1: clip 'clip0': missing file"):
        corpus.load(corpus.rows[0])


def test_no_corpus_no_clips_wrong_metadata(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(BadInput, match="not a corpus folder"):
        Corpus(tmp_path)
    (folder / "clips.jsonl").write_text("\n")
    with pytest.raises(BadInput, match="an empty corpus"):
        Corpus(folder)
    (folder / "corpus.yaml").write_text("name: x\nkind: videos\nglosses: [a, a]\n")
    with pytest.raises(BadInput, match="a name occurs twice"):
        Corpus(folder)
    (folder / "corpus.yaml").write_text("[unclosed")
    with pytest.raises(BadInput, match="cannot read"):
        Corpus(folder)


def test_strict_opening_stops_at_the_first_bad_row(folder: Path) -> None:
    edit_rows(folder, clip3={"split": "exam"})
    with pytest.raises(BadInput, match=r"clips.jsonl:4: split"):
        Corpus(folder)
    assert [line for line, _ in Corpus(folder, strict=False).faults] == [4]


def test_fingerprint_follows_content(tmp_path: Path, folder: Path) -> None:
    other = small_corpus(tmp_path / "other")
    first = Corpus(folder).fingerprint()
    assert Corpus(other).fingerprint() == first
    np.save(other / "frames/clip0.npy", frames(16, seed=99))
    assert Corpus(other).fingerprint() != first


def test_fingerprint_sees_that_files_elsewhere_changed(tmp_path: Path, folder: Path) -> None:
    elsewhere = tmp_path / "elsewhere.npy"
    np.save(elsewhere, frames(16, seed=0))
    edit_rows(folder, clip0={"video": str(elsewhere)})
    opened = Corpus(folder)
    first = opened.fingerprint()
    assert Corpus(folder).fingerprint() == first
    np.save(elsewhere, frames(17, seed=0))
    assert Corpus(folder).fingerprint() != first == opened.fingerprint()


def test_files_that_cannot_be_hashed_are_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:  # root may read every file, so the refusal is made up
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("distill.corpus.store.sha256_files", refuse)
    with pytest.raises(BadInput, match="cannot read the clips of corpus"):
        Corpus(folder).fingerprint()


def test_keypoints_that_are_no_numbers_are_refused_by_name(folder: Path) -> None:
    points = keypoints(16)
    points[3, 5, 0] = np.nan
    np.save(folder / "keypoints/clip1.npy", points)
    corpus = Corpus(folder)
    with pytest.raises(BadInput, match=r"clips.jsonl:2: clip 'clip1': .*NaN or infinity in 1 of 16 frames"):
        corpus.load(corpus.rows[1], frames=False)
    assert corpus.load(corpus.rows[1], keypoints=False).frames is not None


def test_fingerprint_sees_image_folders(folder: Path) -> None:
    (folder / "pictures").mkdir()
    write_image(folder / "pictures/0.png", np.zeros((4, 4, 3), np.uint8))
    edit_rows(folder, clip0={"video": "pictures"})
    before = Corpus(folder).fingerprint()
    write_image(folder / "pictures/0.png", np.full((4, 4, 3), 9, np.uint8))
    assert Corpus(folder).fingerprint() != before
