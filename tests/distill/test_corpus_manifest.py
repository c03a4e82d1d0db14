"""Importing one's own videos: every container and form of manifest; every bad row is named, nothing half-written."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from corpus_samples import frames, keypoints
from video_samples import write_image, write_video

from distill.corpus import Corpus
from distill.corpus.check import check
from distill.corpus.manifest import ManifestFaults, import_manifest, read_layout
from runtime.errors import BadInput


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """A folder with one clip in each form that can be imported."""
    folder = tmp_path / "mine"
    (folder / "pictures").mkdir(parents=True)
    write_video(folder / "one.mp4", 12)
    write_video(folder / "two words.webm", 12, codec="libvpx")
    write_video(folder / "three.avi", 12)
    np.save(folder / "four.npy", frames(12, 40, 30))
    for index in range(8):
        write_image(folder / f"pictures/{index}.png", np.full((20, 24, 3), 9 * index, np.uint8))
    return folder


ROWS = [
    {"path": "one.mp4", "glosses": "GOOD MORNING", "split": "train", "signer": "ann"},
    {"path": "two words.webm", "glosses": "MORNING", "split": "train"},
    {"id": "third", "path": "three.avi", "glosses": "GOOD", "split": "dev", "fps": "12.5"},
    {"path": "four.npy", "glosses": "GOOD", "split": "test", "fps": "30"},
    {"path": "pictures", "glosses": "MORNING", "split": "test", "fps": "10"},
]


def write_manifest(path: Path, rows: list[dict[str, str]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, columns, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize("name", ["list.csv", "list.tsv", "list.jsonl"])
def test_every_form_of_clip_and_manifest(videos: Path, tmp_path: Path, name: str) -> None:
    import_manifest(write_manifest(videos / name, ROWS), tmp_path / "corpus", size=32, licence="mine")
    corpus = Corpus(tmp_path / "corpus")
    assert check(corpus) == []
    assert corpus.metadata.kind == "videos"
    assert corpus.metadata.glosses == ["GOOD", "MORNING"]
    assert [row.id for row in corpus.rows] == ["one", "two_words", "third", "four", "pictures"]
    assert [row.fps for row in corpus.rows] == [25, 25, 12.5, 30, 10]
    assert [row.frames for row in corpus.rows] == [12, 12, 12, 12, 8]
    assert corpus.rows[0].signer == "ann"
    sizes = [clip.frames.shape[1:3] for clip in corpus if clip.frames is not None]
    assert sizes == [(32, 32), (32, 32), (32, 32), (30, 30), (20, 20)]  # never enlarged


def test_frames_are_the_centre_square_averaged(tmp_path: Path) -> None:
    source = frames(20, 16, 24)
    np.save(tmp_path / "a.npy", source)
    rows = [{"path": "a.npy", "glosses": "X", "split": "train", "fps": "25"}]
    import_manifest(write_manifest(tmp_path / "m.csv", rows), tmp_path / "corpus", size=8)
    stored = Corpus(tmp_path / "corpus").load(Corpus(tmp_path / "corpus").rows[0]).frames
    expected = source[:, :, 4:20].reshape(20, 8, 2, 8, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(stored, expected, atol=0.51)


def test_keypoints_go_through_the_same_cut(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", frames(8, 20, 40))
    points = np.zeros((8, 2, 3), np.float32)
    points[:, 0] = (0.5, 0.25, 1)  # the centre of a frame twice as wide as high
    points[:, 1] = (0.25, 0.0, 0)  # not seen
    np.save(tmp_path / "k.npy", points)
    (tmp_path / "layout.txt").write_text("nose\nwrist\n")
    rows = [{"path": "a.npy", "keypoints": "k.npy", "glosses": "X", "split": "train", "fps": "25"}]
    layout = read_layout(tmp_path / "layout.txt")
    import_manifest(write_manifest(tmp_path / "m.csv", rows), tmp_path / "corpus", layout=layout)
    corpus = Corpus(tmp_path / "corpus")
    stored = corpus.load(corpus.rows[0]).keypoints
    assert corpus.metadata.keypoint_layout == ["nose", "wrist"]
    assert stored is not None
    np.testing.assert_allclose(stored[0], [[0.5, 0.5, 1], [0, 0, 0]], atol=1e-6)


def test_keypoints_alone(tmp_path: Path) -> None:
    np.save(tmp_path / "k.npy", keypoints(9))
    rows = [{"keypoints": "k.npy", "glosses": "X Y", "split": "train", "fps": "25"}]
    import_manifest(write_manifest(tmp_path / "m.jsonl", rows), tmp_path / "corpus")
    corpus = Corpus(tmp_path / "corpus")
    np.testing.assert_array_equal(corpus.load(corpus.rows[0]).keypoints, keypoints(9))


def test_every_bad_row_is_named_and_nothing_is_written(videos: Path, tmp_path: Path) -> None:
    (videos / "text.mp4").write_text("no video")
    whole = (videos / "one.mp4").read_bytes()
    (videos / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    nan = keypoints(12)
    nan[0, 0] = np.nan
    np.save(videos / "nan.npy", nan)
    np.save(videos / "short.npy", keypoints(5))
    np.save(videos / "other.npy", np.zeros((12, 7, 3)))
    bad: list[tuple[dict[str, str], str]] = [
        ({"id": "a", "path": "text.mp4"}, "text.mp4"),
        ({"id": "b", "path": "cut.mp4"}, "cut.mp4"),
        ({"id": "c", "path": "nowhere.mp4"}, "missing file"),
        ({"id": "d", "path": "pictures"}, "give fps"),
        ({"id": "e", "path": "one.mp4", "glosses": ""}, "glosses"),
        ({"id": "f", "path": "one.mp4", "split": "exam"}, "split"),
        (
            {"id": "g", "path": "one.mp4", "glosses": "X X X"},
            "too short for its glosses under CTC: 12 frames, 17 are needed",
        ),
        ({"id": "h", "path": "one.mp4", "fps": "-1"}, "fps"),
        ({"id": "i", "path": ""}, "neither path nor keypoints"),
        ({"id": "a b", "path": "one.mp4"}, "id"),
        ({"id": "j", "path": "one.mp4", "keypoints": "nan.npy"}, "NaN"),
        ({"id": "k", "path": "one.mp4", "keypoints": "short.npy"}, "short.npy has 5 frames"),
        ({"id": "l", "path": "one.mp4", "keypoints": "other.npy"}, "(T,49,3)"),
        ({"id": "m", "path": "one.mp4", "keypoints": "none.npy"}, "missing file"),
        ({"id": "n", "path": "one.mp4", "keypoints": "text.mp4"}, "cannot read keypoints"),
        ({"id": "good", "path": "one.mp4"}, "'good' was used on line 2"),
        ({"id": "o", "path": "one.mp4", "glosses": "<blank>"}, "<blank>"),
    ]
    rows = [{"glosses": "X", "split": "train", "id": "good", "path": "one.mp4"}]
    rows += [{"glosses": "X", "split": "train", **change} for change, _ in bad]
    manifest = write_manifest(videos / "list.csv", rows)
    with pytest.raises(ManifestFaults) as raised:
        import_manifest(manifest, tmp_path / "corpus", size=32)
    assert len(raised.value.faults) == len(bad)
    for line, (fault, (_, message)) in enumerate(zip(raised.value.faults, bad, strict=True), start=3):
        assert fault.startswith(f"{manifest}:{line}: ")
        assert message in fault
    assert "16 more faults" in str(raised.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.txt", "path\n", "neither .csv, .tsv nor .jsonl"),
        ("m.csv", "", "no column 'glosses'"),
        ("m.csv", "path,glosses,split,colour\n", "unknown column 'colour'"),
        ("m.csv", "glosses,split\n", "no column 'path'"),
        ("m.csv", "path,glosses,split\n", "lists no clips"),
        ("m.csv", "path,glosses,split\na.mp4,X\n", "m.csv:2: 2 columns, the first line names 3"),
        pytest.param("m.csv", f"path,glosses,split\na.mp4,{'X' * 200_000},train\n", "is not a table", id="long"),
        ("m.jsonl", "{\n", "m.jsonl:1: not JSON"),
        ("m.jsonl", "[1]\n", "m.jsonl:1: not a JSON object"),
        ("m.jsonl", '{"path": "a", "glosses": ["X"], "split": "train", "weight": 1}\n', "weight"),
    ],
)
def test_what_is_no_manifest(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(BadInput, match=message.replace(".", r"\.")):
        import_manifest(tmp_path / name, tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


def test_quoted_line_breaks_do_not_shift_line_numbers(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text('path,glosses,split\n"a\nb.mp4",X,train\n\nc.mp4,X,train\n')
    with pytest.raises(ManifestFaults) as raised:
        import_manifest(tmp_path / "m.csv", tmp_path / "corpus")
    assert [fault.split(":")[1] for fault in raised.value.faults] == ["2", "5"]


def test_folder_in_use_is_kept(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "mine.txt").write_text("precious")
    with pytest.raises(BadInput, match="already exists"):
        import_manifest(write_manifest(videos / "list.csv", ROWS), tmp_path / "corpus")
    assert (tmp_path / "corpus" / "mine.txt").read_text() == "precious"


def test_layout_files(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text("nose\nnose\n")
    with pytest.raises(BadInput, match="each joint once"):
        read_layout(tmp_path / "l.txt")
    with pytest.raises(BadInput, match="cannot read"):
        read_layout(tmp_path / "none.txt")


def test_a_real_recording(shared: Path, tmp_path: Path) -> None:
    video = shared / "pose-samples" / "pose-format_test_video.mp4"
    rows = [{"path": str(video), "glosses": "SIGN", "split": "train"}]
    import_manifest(write_manifest(tmp_path / "m.csv", rows), tmp_path / "corpus", size=64)
    corpus = Corpus(tmp_path / "corpus")
    assert check(corpus) == []
    clip = corpus.load(corpus.rows[0])
    assert clip.frames is not None
    assert clip.frames.shape == (58, 64, 64, 3)
    assert clip.fps == pytest.approx(29.9, abs=0.1)
