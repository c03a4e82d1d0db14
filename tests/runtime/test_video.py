"""Frames come out the same from every container, upright and complete, or an error names the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from video_samples import encode, write_image, write_video

from runtime.errors import BadInput
from runtime.video import Camera, count_frames, frame_rate, iterate_frames, read_frames, timed_frames

CONTAINERS = [("clip.mp4", "mpeg4"), ("clip.avi", "mpeg4"), ("clip.webm", "libvpx"), ("clip.mkv", "libvpx")]


@pytest.mark.parametrize(("name", "codec"), CONTAINERS)
def test_any_container(tmp_path: Path, name: str, codec: str) -> None:
    video = read_frames(write_video(tmp_path / name, 12, codec=codec))
    assert video.shape == (12, 48, 64, 3)
    assert video.dtype == np.uint8
    red, blue = video[-1, 20, 10].astype(int), video[-1, 20, 55].astype(int)
    assert red[0] > red[2] + 80
    assert blue[2] > blue[0] + 80
    assert count_frames(tmp_path / name) == 12
    assert frame_rate(tmp_path / name) == pytest.approx(25, rel=0.01)


def test_a_video_filmed_sideways_is_turned(tmp_path: Path) -> None:
    """Turned 90 degrees counter-clockwise, the red left half is at the bottom."""
    video = read_frames(write_video(tmp_path / "phone.mp4", turned=90))
    assert video.shape == (12, 64, 48, 3)
    assert video[-1, -5, 20, 0] > 100
    assert video[-1, 5, 20, 2] > 100


@pytest.mark.parametrize("name", ["cut.mp4", "cut.avi", "cut.webm"])
def test_truncated_video_is_never_taken_for_whole(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / name, 40, codec="libvpx" if name.endswith("webm") else "mpeg4")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for read in (read_frames, count_frames):
        with pytest.raises(BadInput, match=f"cut.{name[4:]}"):
            read(path)


def test_what_is_no_video_is_named(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    for read in (read_frames, count_frames, frame_rate):
        with pytest.raises(BadInput, match=r"text\.mp4"):
            read(text)
        with pytest.raises(BadInput, match="missing file"):
            read(tmp_path / "nowhere.mp4")


def test_a_sound_file_has_no_video_stream(tmp_path: Path) -> None:
    import wave

    with wave.open(str(tmp_path / "tone.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(b"\0\0" * 800)
    with pytest.raises(BadInput, match="no video stream"):
        read_frames(tmp_path / "tone.wav")


def test_image_folder(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    with pytest.raises(BadInput, match="no images"):
        read_frames(folder)
    for index in (2, 0, 1):
        write_image(folder / f"{index}.png", np.full((6, 8, 3), 50 * index, np.uint8))
    video = read_frames(folder)
    assert video.shape == (3, 6, 8, 3)
    assert video[:, 0, 0, 0].tolist() == [0, 50, 100]
    assert count_frames(folder) == 3
    assert frame_rate(folder) is None
    write_image(folder / "3.png", np.zeros((5, 5, 3), np.uint8))
    with pytest.raises(BadInput, match="differ in size"):
        read_frames(folder)


def test_arrays(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (7, 12, 12, 3), dtype=np.uint8)
    np.save(tmp_path / "a.npy", frames)
    np.testing.assert_array_equal(read_frames(tmp_path / "a.npy"), frames)
    assert sum(1 for _ in iterate_frames(tmp_path / "a.npy")) == count_frames(tmp_path / "a.npy") == 7
    np.save(tmp_path / "b.npy", frames.astype(float))
    with pytest.raises(BadInput, match="uint8 is needed"):
        read_frames(tmp_path / "b.npy")


def test_times_are_the_videos_own(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.1, 0.5, 0.54, 0.9]
    path = encode(tmp_path / "varying.mkv", np.zeros((6, 16, 16, 3), np.uint8), times=times)
    assert [frame.time for frame in timed_frames(path)] == pytest.approx(times, abs=1e-3)
    late = encode(tmp_path / "late.ts", np.zeros((6, 16, 16, 3), np.uint8), times=[time + 3 for time in times])
    assert [frame.time for frame in timed_frames(late)] == pytest.approx(times, abs=1e-3)
    np.save(tmp_path / "array.npy", np.zeros((2, 4, 4, 3), np.uint8))
    assert [frame.time for frame in timed_frames(tmp_path / "array.npy")] == [None, None]


def test_a_camera_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"there is no camera .*video77; cameras of this machine: "):
        Camera(tmp_path / "video77")
    (tmp_path / "video78").write_text("not a camera")
    with pytest.raises(BadInput, match=r"cannot decode .*video78: Inappropriate ioctl"):
        Camera(tmp_path / "video78")


def test_a_real_recording(shared: Path) -> None:
    video = shared / "pose-samples" / "pose-format_test_video.mp4"
    assert read_frames(video).shape == (58, 720, 540, 3)
    assert count_frames(video) == 58
    assert frame_rate(video) == pytest.approx(29.9, abs=0.1)
