"""`signedge run` as a shell meets it, on small real videos of an engine that reads primary colours by construction."""

from __future__ import annotations

import json
import re
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from test_engine import CONTRACT, clip, write_engine
from video_samples import encode

from runtime import abi
from runtime.captions import Cue, cues, subrip, webvtt
from runtime.cli import _two_digits
from runtime.contract import BLANK, METADATA_KEY, Contract, KeypointInput
from runtime.decode import greedy, to_glosses
from runtime.engine import ENGINE_FILE, open_session
from runtime.preprocess import prepare
from runtime.source import Latest, Readable, clocked
from runtime.trust import sign
from runtime.video import Frame, read_frames
from signedge import main

pytestmark = pytest.mark.usefixtures("library_in_use")

SENTENCE = (0, 1, 1, 0, 2, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0)  # labels of 160 ms each: a pause before the last
GLOSSES = ["RED", "GREEN", "BLUE", "RED"]
LAYOUT = ("nose", "left_shoulder", "right_shoulder", "left_wrist")


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    return write_engine(tmp_path / "engine")


def picture(*labels: int) -> np.ndarray:
    """(T,48,64,3): the colours in the centre square, between white curtains that would be read as every colour."""
    frames = np.full((4 * len(labels), 48, 64, 3), 255, np.uint8)
    frames[:, :, 8:56] = clip(*labels).repeat(6, axis=1).repeat(6, axis=2)
    return frames


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return encode(tmp_path / "signing.mp4", picture(*SENTENCE))


Run = Callable[..., tuple[int, list[dict[str, Any]], str]]


@pytest.fixture
def run(engine: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(source: Path | str, *words: str, engine: Path = engine) -> tuple[int, list[dict[str, Any]], str]:
        """Exit status, the glosses that --json printed, standard error."""
        status = main(["run", str(engine), str(source), "--threads", "1", "--json", *words])
        shown = capsys.readouterr()
        return status, [json.loads(line) for line in shown.out.splitlines()], shown.err

    return call


def texts(glosses: list[dict[str, Any]]) -> list[str]:
    return [gloss["text"] for gloss in glosses]


@pytest.mark.parametrize("words", [["--whole"], [], ["--chunk", "16", "--shift", "4"], ["--beam-width", "5"]])
def test_a_video_gives_what_the_engine_gives_on_the_whole_clip(
    run: Run, engine: Path, video: Path, tmp_path: Path, words: list[str]
) -> None:
    network_input = prepare(CONTRACT, np.ascontiguousarray(read_frames(video)[:, :, 8:56]), None)
    (log_probs,) = open_session(engine / ENGINE_FILE, 1).run(None, {"input": network_input})
    assert to_glosses(greedy(log_probs[0]), CONTRACT.glosses) == GLOSSES
    out = tmp_path / "captions.json"
    status, printed, error = run(video, *words, "--out", str(out))
    assert status == 0 and texts(printed) == GLOSSES
    written = json.loads(out.read_text())
    assert written["glosses"] == printed and written["complete"] is True and written["resampled_to"] is None
    assert written["statistics"]["frames_pushed"] == 4 * len(SENTENCE) and written["fps"] == 25
    starts = [4, 16, 24, 60]  # frames
    assert [gloss["start"] for gloss in printed] == pytest.approx([start / 25 for start in starts])
    assert all(set(gloss) == {"text", "start", "end", "start_step", "end_step", "confidence", "stability", "final"}
               and gloss["final"] for gloss in printed)  # fmt: skip
    assert error == f"2.7 s, 4 glosses, {_two_digits(written['statistics']['real_time_factor'])} of real time\n"


@pytest.mark.parametrize(
    ("factor", "text"),
    [(0.0, "0"), (1.23e-5, "0.000012"), (0.0421, "0.042"), (0.351, "0.35"), (0.996, "1.0"), (12.3, "12"), (123, "120")],
)
def test_a_real_time_factor_has_two_significant_digits(factor: float, text: str) -> None:
    assert _two_digits(factor) == text


def test_an_engine_changed_after_it_was_signed_runs_with_one_warning(run: Run, engine: Path, video: Path) -> None:
    manifest = json.loads((engine / "manifest.json").read_text())
    (engine / "manifest.json").write_text(json.dumps(sign(manifest)))
    assert run(video)[2].count("\n") == 1
    (engine / "manifest.json").write_text(json.dumps({**sign(manifest), "target": "another"}))
    status, printed, error = run(video)
    warning, _ = error.splitlines()
    assert status == 0 and texts(printed) == GLOSSES
    assert warning == f"warning: {engine}: its manifest was changed after it was signed"


def test_a_bundle_is_told_from_an_engine(run: Run, engine: Path, video: Path) -> None:
    (engine / "manifest.json").write_text(json.dumps({"kind": "bundle", "format": 1, "files": {}}))
    status, printed, error = run(video)
    assert status == 2 and not printed
    assert f"{engine} is a bundle, not yet an engine" in error and f"sh {engine.name}/build.sh" in error


def test_captions_are_cues_of_signing_without_a_pause(run: Run, video: Path, tmp_path: Path) -> None:
    status, _, _ = run(video, "--out", str(tmp_path / "c.vtt"), "--out", str(tmp_path / "c.srt"))
    assert status == 0
    assert (tmp_path / "c.vtt").read_text() == (
        "WEBVTT\n\n00:00:00.160 --> 00:00:01.280\nRED GREEN BLUE\n\n00:00:02.400 --> 00:00:03.400\nRED\n"
    )
    assert (tmp_path / "c.srt").read_text() == (
        "1\n00:00:00,160 --> 00:00:01,280\nRED GREEN BLUE\n\n2\n00:00:02,400 --> 00:00:03,400\nRED\n"
    )


def test_plain_output_is_a_line_a_gloss(engine: Path, video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(engine), str(video)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [
        re.fullmatch(r"00:00:0\d\.\d{3}  00:00:0\d\.\d{3}  (\w+)  [01]\.\d\d", line)[1] for line in lines
    ] == GLOSSES


def test_a_terminal_shows_cues(
    engine: Path, video: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "24")
    assert main(["run", str(engine), str(video)]) == 0
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().out)
    assert "00:00:00.1  …GREEN BLUE" in shown and "00:00:02.4  RED" in shown


def test_times_are_those_of_the_video(run: Run, tmp_path: Path) -> None:
    """At a varying rate whose mean is the engine's, each frame is taken and tells its own time."""
    times = [0.04 * i + (0.02 if i % 3 == 1 else 0) for i in range(4 * len(SENTENCE))]
    path = encode(tmp_path / "varying.mkv", picture(*SENTENCE), times=times)
    status, glosses, _ = run(path)
    assert status == 0 and texts(glosses) == GLOSSES
    assert [gloss["start"] for gloss in glosses] == pytest.approx([times[i] for i in (4, 16, 24, 60)], abs=2e-3)


@pytest.mark.parametrize("rate", [50, 12])
def test_another_frame_rate_is_resampled(run: Run, tmp_path: Path, rate: int) -> None:
    frames = picture(*SENTENCE)[np.arange(0, 4 * len(SENTENCE), 25 / rate).astype(int)]
    path = encode(tmp_path / "fast.mp4", frames, rate=rate)
    status, glosses, error = run(path)
    assert status == 0 and texts(glosses) == GLOSSES
    assert [gloss["start"] for gloss in glosses] == pytest.approx([0.16, 0.64, 0.96, 2.4], abs=0.17)
    assert f"{rate} frames/s taken as the engine's 25" in error
    assert "taken as" not in run(path, "--every-frame")[2]


def test_only_so_much_of_it(run: Run, video: Path) -> None:
    status, glosses, error = run(video, "--seconds", "1")
    assert status == 0 and texts(glosses) == GLOSSES[:3] and error.startswith("1.0 s, 3 glosses")


def test_what_can_be_read_of_a_truncated_video_is_recognised(run: Run, tmp_path: Path) -> None:
    path = encode(tmp_path / "cut.mkv", picture(*SENTENCE, *SENTENCE))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    out, drawn = tmp_path / "cut.json", tmp_path / "drawn.mp4"
    status, glosses, error = run(path, "--out", str(out), "--video", str(drawn))
    assert status == 2 and texts(glosses)[:4] == GLOSSES
    assert "cut.mkv is truncated" in error and error.endswith("; what comes before was recognised\n")
    written = json.loads(out.read_text())
    assert written["glosses"] == glosses and written["complete"] is False
    assert len(read_frames(drawn)) == written["statistics"]["frames_pushed"]


def test_captions_are_drawn_over_a_copy(run: Run, video: Path, tmp_path: Path) -> None:
    drawn = tmp_path / "drawn.mp4"
    assert run(video, "--video", str(drawn))[0] == 0
    before, after = read_frames(video).astype(int), read_frames(drawn).astype(int)
    assert before.shape == after.shape
    changed = np.abs(before - after)[:, -10:].mean((1, 2, 3))
    assert changed[5:30].min() > 40 and changed[[0, 1, 2, 40, 50]].max() < 20


def test_arrays_of_frames_and_folders_of_images_are_read(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "frames.npy", picture(*SENTENCE))
    status, glosses, _ = run(tmp_path / "frames.npy")
    assert status == 0 and texts(glosses) == GLOSSES and glosses[0]["start"] == 0.16
    assert run(tmp_path / "frames.npy", "--fps", "50", "--every-frame")[1][0]["start"] == 0.08


# ---------------------------------------------------------------------------------------------------- keypoints ---


def write_pose_engine(path: Path) -> Path:
    """An engine that reads whether the wrist is left (A) or right (B) of the nose, nothing while it is not seen."""
    spec = KeypointInput(LAYOUT, ("left_wrist",), ("nose",), ("nose",))
    contract = Contract("wrist", spec, (BLANK, "A", "B"), 25.0)
    weight = np.zeros((5, 3), np.float32)
    weight[0] = [0, -50, 50]
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["input", "shape"], ["grouped"]),
            helper.make_node("ReduceMean", ["grouped", "four"], ["steps"], keepdims=0),
            helper.make_node("MatMul", ["steps", "weight"], ["scores"]),
            helper.make_node("Add", ["scores", "bias"], ["logits"]),
            helper.make_node("LogSoftmax", ["logits"], ["log_probs"]),
        ],
        "wrist",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", "frames", 1, 5])],
        [helper.make_tensor_value_info("log_probs", TensorProto.FLOAT, ["batch", "steps", 3])],
        [
            numpy_helper.from_array(np.array([0, -1, 4, 5]), "shape"),
            numpy_helper.from_array(np.array([2]), "four"),
            numpy_helper.from_array(weight, "weight"),
            numpy_helper.from_array(np.array([5, 0, 0], np.float32), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    model.metadata_props.append(onnx.StringStringEntryProto(key=METADATA_KEY, value=contract.to_json()))
    onnx.save(model, str(path))
    return path


def keypoints() -> np.ndarray:
    """(T,4,3): A, pause, B, B after a pause."""
    found = np.full((7 * 8, len(LAYOUT), 3), (0.5, 0.5, 1), np.float32)
    for begin, x in ((8, 0.1), (24, 0.9), (40, 0.9)):
        found[begin : begin + 8, 3, 0] = x
    return found


@pytest.fixture
def pose_engine(tmp_path: Path) -> Path:
    return write_pose_engine(tmp_path / "wrist.onnx")


def test_an_engine_of_keypoints_reads_arrays_of_them(run: Run, pose_engine: Path, tmp_path: Path) -> None:
    points = keypoints()
    np.save(tmp_path / "points.npy", points)
    status, glosses, _ = run(tmp_path / "points.npy", engine=pose_engine)
    assert status == 0 and texts(glosses) == ["A", "B", "B"]
    order = [3, 1, 0, 2]
    extra = np.concatenate([points[:, order], points[:, :1]], axis=1)  # other order, one joint more
    joints = [LAYOUT[i] for i in order] + ["left_ear"]
    np.savez(tmp_path / "points.npz", keypoints=extra, joints=joints, fps=50.0)
    status, glosses, error = run(tmp_path / "points.npz", engine=pose_engine)
    assert status == 0 and texts(glosses) == ["A", "B", "B"] and "50 frames/s taken as the engine's 25" in error
    assert glosses[0]["start"] == pytest.approx(0.16)


def test_a_video_for_an_engine_of_keypoints_says_what_is_needed(run: Run, pose_engine: Path, video: Path) -> None:
    for source in (video, "camera"):
        status, glosses, error = run(source, engine=pose_engine)
        assert status == 2 and not glosses
        assert "this engine reads keypoints" in error and "(T,4,3)" in error and ", ".join(LAYOUT) in error


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"poses": np.zeros((3, 4, 3))}, "no array of that name"),
        ({"keypoints": np.zeros((3, 5, 3))}, r"must be \(T,4,3\)"),
        ({"keypoints": np.zeros((3, 4, 3)), "joints": ["a", "b", "c", "d"]}, "nose"),
        ({"keypoints": np.zeros((3, 4, 3)), "fps": -1.0}, "fps is -1.0; it must be above 0"),
        ({"keypoints": np.zeros((3, 4, 3)), "fps": "fast"}, "fps must be a number"),
        ({"keypoints": np.array([{}])}, "cannot read"),
        ({"keypoints": np.zeros((0, 4, 3))}, "has nothing to recognise"),
    ],
)
def test_bad_keypoints(run: Run, pose_engine: Path, tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    np.savez(tmp_path / "points.npz", **arrays)
    status, _, error = run(tmp_path / "points.npz", engine=pose_engine)
    assert status == 2 and re.search(said, error) and len(error.splitlines()) == 1


# ----------------------------------------------------------------------------------------------------- bad input ---


def test_what_is_wrong_is_one_line(run: Run, engine: Path, video: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    with wave.open(str(tmp_path / "tone.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(b"\0\0" * 800)
    (tmp_path / "file").write_text("")
    np.savez(tmp_path / "points.npz", keypoints=np.zeros((3, 4, 3)))
    for words, said in (
        ([tmp_path / "nowhere", video], "nowhere"),
        ([tmp_path, video], "manifest.json"),
        ([engine, tmp_path / "nowhere.mp4"], "missing file"),
        ([engine, tmp_path / "text.mp4"], "text.mp4"),
        ([engine, tmp_path / "tone.wav"], "no video stream"),
        ([engine, tmp_path / "points.npz"], "reads frames"),
        ([engine, "camera:77"], "there is no camera /dev/video77"),
        ([engine, video, "--out", tmp_path / "captions.txt"], "must end in one of .vtt, .srt, .json"),
        ([engine, video, "--out", tmp_path / "file" / "captions.vtt"], "cannot write"),
        ([engine, video, "--out", tmp_path], "must end in one of"),
        ([engine, video, "--video", tmp_path / "drawn.webm"], "must end in one of .mp4, .mkv, .mov"),
        ([engine, video, "--video", video], "write over the source"),
        ([engine, "camera", "--video", tmp_path / "drawn.mp4"], "record it first"),
        ([engine, video, "--video", tmp_path / "drawn.mp4", "--font", tmp_path / "file"], "not a font"),
        ([engine, video, "--whole", "--chunk", "64"], "leave out --chunk"),
        ([engine, video, "--chunk", "30"], "multiples of the 4 frames a step"),
        ([engine, video, "--hot", "RED"], "--hot RED"),
        ([engine, video, "--hot", "PINK=2"], "PINK"),
        ([engine, video, "--lm", tmp_path / "nowhere.arpa"], "nowhere.arpa"),
        ([engine, video, "--backend", "abacus"], "abacus"),
    ):
        engine_given, source, *rest = words
        status, _, error = run(source, *map(str, rest), engine=engine_given)
        assert status == 2 and said in error and len(error.splitlines()) == 1, (words, error)
    assert not list(tmp_path.glob("*drawn*")) and not list(tmp_path.glob(".*"))


def test_a_library_that_is_not_built_says_how(run: Run, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(abi.LIBRARY_VARIABLE, "/nowhere/libsignedge.so")
    status, _, error = run(video)
    assert status == 2 and "make library" in error and len(error.splitlines()) == 1


# -------------------------------------------------------------------------------------------------------- cameras ---


def test_the_oldest_frames_of_a_camera_are_lost_while_nobody_asks() -> None:
    latest = Latest(range(100), 10)
    items = iter(latest)
    given = [next(items)]
    while latest.lost < 100 - 10:
        time.sleep(0.001)
    given += items
    assert given[-8:] == list(range(92, 100)) and len(given) + latest.lost == 100


def test_a_fault_of_a_camera_comes_after_what_it_gave() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise RuntimeError("unplugged")

    given = iter(Latest(items(), 10))
    assert next(given) == 1
    with pytest.raises(RuntimeError, match="unplugged"):
        next(given)


# ------------------------------------------------------------------------------------------------- times and cues ---


def times(*given: float | None) -> list[float]:
    return [time_ns * 1e-9 for time_ns, _ in clocked([Frame(np.empty(0), time) for time in given], 25)]


def test_clocks_only_go_forward() -> None:
    assert times(0.5, 0.54, 0.58) == pytest.approx([0.5, 0.54, 0.58])
    assert times(None, None, None) == pytest.approx([0, 0.04, 0.08])
    assert times(0, 0.04, None, 0.12) == pytest.approx([0, 0.04, 0.08, 0.12])
    assert times(0, 0.04, 0.04, 0.08) == pytest.approx([0, 0.04, 0.040001, 0.08])
    assert times(10, 10.04, 0.0, 0.04) == pytest.approx([10, 10.04, 10.08, 10.12])
    assert times(-0.2, -0.1, 0.1) == pytest.approx([0, 1e-6, 0.1])


def test_nothing_readable_is_a_fault_at_once() -> None:
    from runtime.errors import BadInput

    def items() -> Iterator[int]:
        raise BadInput("broken")
        yield 1

    with pytest.raises(BadInput, match="broken"):
        list(Readable(items()))


def gloss(text: str, start: float, end: float) -> Any:
    from runtime.binding import Gloss

    return Gloss(text, start, end, 0, 1, 1.0, 1.0, True)


def test_cues_end_at_a_pause_or_when_full() -> None:
    spoken = [gloss(f"G{i}", i, i + 0.5) for i in range(8)]
    assert [cue.text for cue in cues(spoken)] == ["G0 G1 G2 G3 G4 G5", "G6 G7"]
    assert [cue.text for cue in cues([gloss("A", 0, 1), gloss("B", 1.7, 2), gloss("C", 2.6, 3)])] == ["A", "B C"]
    assert cues([]) == []


def test_a_cue_stays_long_enough_to_be_read() -> None:
    shown = cues([gloss("A", 0, 0.2), gloss("B", 0.95, 1.1), gloss("C", 5, 5.1)])
    assert shown == [Cue(0, 0.95, ("A",)), Cue(0.95, 1.95, ("B",)), Cue(5, 6, ("C",))]


def test_caption_files_escape_what_their_format_reads() -> None:
    shown = [Cue(3599.9996, 3661.5, ("R&D", "<b>"))]
    assert webvtt(shown) == "WEBVTT\n\n01:00:00.000 --> 01:01:01.500\nR&amp;D &lt;b&gt;\n"
    assert subrip(shown).startswith("1\n01:00:00,000 --> 01:01:01,500\n")
