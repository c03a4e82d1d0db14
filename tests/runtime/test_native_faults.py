"""Faults around libsignedge: no memory, senseless input, a network that fails. What was recognised before stays."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from ctypes import byref
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from native_programs import link_driver
from onnx import TensorProto, helper, numpy_helper
from streaming import PERIOD, end, feed, play, push, sentence, words
from test_engine import CONTRACT, clip, write_engine, write_model
from test_native_backends import BACKEND_FAILED, refusal

from runtime import abi
from runtime.binding import Decoding, LibraryError, Model, step_together
from runtime.contract import BLANK, METADATA_KEY, Contract, KeypointInput, Padding, RgbInput
from runtime.errors import BadInput

pytestmark = pytest.mark.usefixtures("library_in_use")

ROOT = Path(__file__).parents[2]
INVALID, OUT_OF_MEMORY, FINISHED = 1, 6, 9


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model(write_engine(tmp_path / "engine"), threads=1)


# --------------------------------------------------------------------------------------------------------- memory ---


@pytest.fixture(scope="session")
def driver(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Builds a driver of native/ with the library's objects and a backend of a few loops, in place of the real ones.

    $CXXFLAGS are those that the library was built with, where these are unusual ("-fsanitize=thread").
    """
    archive, compiler = library.parent / "libsignedge.a", shutil.which("c++")
    if compiler is None or not archive.exists():
        pytest.skip("a C++ compiler and libsignedge.a beside the library are needed")

    def run(name: str, *arguments: object) -> str:
        program = tmp_path_factory.mktemp(name) / name
        flags = ("-O1", "-g", "-Wall", "-Wextra", "-Werror", *os.environ.get("CXXFLAGS", "").split())
        link_driver(program, archive, name, "fake_backend", compiler=compiler, flags=flags)
        leaks = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1"}  # all that runs in a driver is ours
        done = subprocess.run([str(program), *map(str, arguments)], env=leaks, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_any_allocation_may_fail_and_nothing_is_lost(driver: Any, tmp_path: Path) -> None:
    """Each in turn, from opening the model to the last gloss: the call fails in words, and works when called again."""
    lm = ROOT / "runtime" / "fuzz" / "corpus" / "arpa" / "weather.arpa"
    assert int(driver("memory_driver", write_model(tmp_path / "model.onnx"), lm)) > 300


LIMITED = """
import ctypes, json, resource, sys
import numpy as np
from runtime import abi
from runtime.binding import WHOLE_CLIP, LibraryError, Model

def used():
    return int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()

def limit(more):
    resource.setrlimit(resource.RLIMIT_AS, (used() + more if more else resource.RLIM_INFINITY, resource.RLIM_INFINITY))

def refused(call):
    limit(24 << 20)
    try:
        call()
    except LibraryError as error:
        return error.status, str(error)
    finally:
        limit(0)

path, large = sys.argv[1:]
told = {}
model = Model(path, threads=1)
told["open"] = refused(lambda: Model(large, threads=1))
told["create"] = refused(lambda: model.stream(chunk=1 << 20))

red, dark = np.zeros((2, 8, 8, 3), np.uint8)
red[:, :, 0] = 255
stream, early = model.stream(chunk=WHOLE_CLIP), model.stream(chunk=32, shift=8)
for number in range(64):
    early.push(red if number < 4 else dark, number * 40_000_000)
early.step()
frames = 0

def grow():
    global frames
    while frames < 1_000_000:
        stream.push(red if frames % 8 < 4 else dark, frames * 40_000_000)
        frames += 1

told["grow"] = refused(grow)
told["kept"] = [gloss.text for gloss in early.poll()]
taken = frames
for number in range(taken, taken + 16 - taken % 8):
    stream.push(dark if number % 8 >= 4 else red, number * 40_000_000)
stream.finish()
stream.step()
told["frames"] = taken
told["glosses"] = len(stream.poll())
told["expected"] = (taken + 16 - taken % 8) // 8
print(json.dumps(told))
"""


def test_a_process_without_memory_goes_on(library: Path, tmp_path: Path) -> None:
    """Under a limit of address space: opening, creating and pushing fail in words; later the stream goes on."""
    if "asan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("the address sanitizer needs terabytes of addresses")
    large = tmp_path / "large"
    write_engine(large)
    with (large / "engine.onnx").open("ab") as file:
        file.truncate(512 << 20)
    command = [sys.executable, "-c", LIMITED, str(write_engine(tmp_path / "engine")), str(large)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    for name in ("open", "create", "grow"):
        assert told[name][0] in (BACKEND_FAILED, OUT_OF_MEMORY) and told[name][1], name
    assert told["kept"] == ["RED"]
    assert told["frames"] > 1000 and told["glosses"] == told["expected"]


def loose(path: Path) -> Path:
    """The model says nothing of its sizes any more: its contract is all that there is to believe."""
    network = onnx.load(path)
    for port in (*network.graph.input, *network.graph.output):
        for number, side in enumerate(port.type.tensor_type.shape.dim):
            side.dim_param = f"{port.name}_{number}"
    onnx.save(network, path)
    return path


@pytest.mark.parametrize(
    ("changes", "chunk"),
    [
        ({"input": RgbInput(4096, 4096)}, 0),
        ({"input": RgbInput(4096, 4096)}, abi.WHOLE_CLIP),
        ({"input": RgbInput(1024, 1024), "padding": Padding(65536, 65536, 65536)}, abi.WHOLE_CLIP),
        ({"chunk": 65536, "shift": 16384, "glosses": (BLANK, *(f"G{i}" for i in range(65535)))}, 0),
        ({"input": RgbInput(64, 64)}, 1 << 20),
    ],
)
def test_a_contract_cannot_ask_for_terabytes(tmp_path: Path, changes: dict[str, Any], chunk: int) -> None:
    contract = dataclasses.replace(CONTRACT, **changes)
    path = write_model(tmp_path / "model.onnx", contract, classes=len(contract.glosses))
    model = Model(loose(path), threads=1)
    with pytest.raises(LibraryError, match="more than 4 GiB: ask for a smaller chunk") as refusal:
        model.stream(chunk=chunk)
    assert refusal.value.status == OUT_OF_MEMORY


# -------------------------------------------------------------------------------------------------------- backends ---


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_what_is_no_library_is_told(tmp_path: Path, backend: str) -> None:
    engine = write_engine(tmp_path / "engine")
    (tmp_path / "text.so").write_text("no library")
    (tmp_path / "empty.so").write_bytes(b"")
    whole = Path(abi.backend_library("onnxruntime") or "").read_bytes()
    (tmp_path / "cut.so").write_bytes(whole[: len(whole) // 2])
    for name in ("text.so", "empty.so", "cut.so", "."):
        status, message = refusal(engine, backend, tmp_path / name)
        assert status == abi.NO_BACKEND and str(tmp_path / name) in message
        assert "\n" not in message and f"SIGNEDGE_{backend.upper()}_LIBRARY" in message


def test_a_model_that_fails_to_open_leaves_others_alone(model: Model, tmp_path: Path) -> None:
    stream = model.stream(chunk=32, shift=8)
    found = feed(stream, clip(1, 2))
    assert refusal(tmp_path / "nowhere", "onnxruntime")[0] == abi.BAD_FILE
    assert refusal(tmp_path / "engine", "onnxruntime", "libm.so.6")[0] == abi.NO_BACKEND
    assert found + feed(stream, clip(3), 8) + end(stream) == ["RED", "GREEN", "BLUE"]


# ---------------------------------------------------------------------------------------------------------- input ---


def write_keypoint_model(path: Path) -> Path:
    """SEEN where the confidence of the joints' mean is high, MOVED where a coordinate is: NaN would poison both."""
    contract = Contract(
        "points", KeypointInput(("a", "b", "c"), ("a", "b"), ("c", "c"), ("c",)), (BLANK, "SEEN", "MOVED"), 25.0
    )
    weight = np.zeros((5, 3), np.float32)
    weight[4, 1], weight[:4, 2] = 10, 1e-3
    constants = [
        numpy_helper.from_array(np.array([2]), "joints"),
        numpy_helper.from_array(np.array([0, -1, 4, 5]), "shape"),
        numpy_helper.from_array(weight, "weight"),
        numpy_helper.from_array(np.array([5, 0, 0], np.float32), "bias"),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["input", "joints"], ["mean"], keepdims=0),
        helper.make_node("Reshape", ["mean", "shape"], ["grouped"]),
        helper.make_node("ReduceMax", ["grouped", "joints"], ["steps"], keepdims=0),
        helper.make_node("MatMul", ["steps", "weight"], ["scores"]),
        helper.make_node("Add", ["scores", "bias"], ["logits"]),
        helper.make_node("LogSoftmax", ["logits"], ["log_probs"]),
    ]
    ends = (("input", ["batch", "frames", 2, 5]), ("log_probs", ["batch", "steps", 3]))
    given, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ends)
    graph = helper.make_graph(nodes, "points", [given], [made], constants)
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    network.metadata_props.append(onnx.StringStringEntryProto(key=METADATA_KEY, value=contract.to_json()))
    path.write_bytes(network.SerializeToString())
    return path


@pytest.fixture
def points(tmp_path: Path) -> Model:
    return Model(write_keypoint_model(tmp_path / "points.onnx"), threads=1)


SEEN = np.array([[0.4, 0.4, 1], [0.6, 0.6, 1], [0.5, 0.5, 1]], np.float32)
LOST = np.zeros((3, 3), np.float32)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3.4e38, -3.4e38])
def test_keypoints_without_sense_are_joints_not_seen(points: Model, value: float) -> None:
    senseless = np.full((3, 3), value, np.float32)
    senseless[:, 2] = 1 if abs(value) < np.inf else value
    stream = points.stream(chunk=32, shift=8)
    video = np.concatenate([[SEEN] * 4, [LOST] * 8, [senseless] * 8, [LOST] * 8, [SEEN] * 4])
    found = play(stream, video)
    assert found[0] == found[-1] == "SEEN"
    if not np.isfinite(value):
        assert found == ["SEEN", "SEEN"]


@pytest.mark.parametrize("chunk", [32, abi.WHOLE_CLIP])
def test_a_clip_of_lost_joints_is_silence(points: Model, chunk: int) -> None:
    stream = points.stream(chunk=chunk)
    assert play(stream, np.array([LOST] * 500)) == []


def test_frames_may_change_their_size_within_a_stream(model: Model) -> None:
    video = sentence(30, 1)
    expected = model.recognise(video)
    stream = model.stream(chunk=32, shift=8)
    rng = np.random.default_rng(2)
    found = []
    for number, frame in enumerate(video):
        height, width = rng.integers(1, 200, 2)
        found += feed(stream, np.broadcast_to(frame[:1, :1], (1, height, width, 3)), number)
    assert found + end(stream) == expected


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"width": 0}, "width is 0"),
        ({"height": 0}, "height is 0"),
        ({"width": 1 << 31}, "width is 2147483648"),
        ({"height": 0xFFFFFFFF}, "height is 4294967295"),
        ({"width": 16385}, "width is 16385"),
        ({"strides": (23, 0, 0)}, "strides[0] is 23"),
        ({"planes": (None, None, None)}, "planes[0] is NULL"),
        ({"crop_width": 9}, "crop_width is 9"),
        ({"crop_x": 0xFFFFFFFF, "crop_width": 2, "crop_height": 2}, "crop_x is 4294967295"),
        ({"format": -1}, "format is -1"),
    ],
)
def test_a_refused_frame_costs_nothing(model: Model, fields: dict[str, Any], said: str) -> None:
    """Not even the frame that it would have driven out of a full queue."""
    library = abi.load()
    video = sentence(4, 3)
    for when_full in (abi.BLOCK, abi.DROP_OLDEST):
        stream = model.stream(chunk=32, shift=8, queue=8, when_full=when_full)
        push(stream, video)
        before = stream.statistics()
        given = abi.Frame(format=abi.RGB, width=8, height=8, timestamp_ns=10**12)
        given.planes[0] = video.ctypes.data
        for name, value in fields.items():
            if name in ("strides", "planes"):
                getattr(given, name)[:] = value
            else:
                setattr(given, name, value)
        assert library.signedge_stream_push_frame(stream._handle, byref(given)) == INVALID
        message = ctypes.create_string_buffer(1024)
        library.signedge_stream_message(stream._handle, message, 1024, None)
        assert said in message.value.decode()
        after = stream.statistics()
        assert [after[name] - before[name] for name in ("frames_pushed", "frames_dropped")] == [0, 0]
        assert end(stream) == model.recognise(video)


def test_one_row_may_have_any_stride(model: Model) -> None:
    row = np.full((1, 8, 3), 255, np.uint8)
    given = abi.Frame(format=abi.RGB, width=8, height=1)
    given.planes[0], given.strides[0] = row.ctypes.data, 0xFFFFFFFF
    assert abi.load().signedge_stream_push_frame(model.stream()._handle, byref(given)) == abi.OK


@pytest.mark.parametrize("name", ["chunk", "shift", "lookahead", "queue"])
@pytest.mark.parametrize("frames", [0xFFFFFFFE, (1 << 20) + 4, 1 << 31])
def test_huge_windows_are_refused(model: Model, name: str, frames: int) -> None:
    with pytest.raises(BadInput, match="may be 1048576 frames at most"):
        model.stream(**{name: frames})


def test_times_at_the_ends_of_the_clock(model: Model) -> None:
    stream = model.stream(chunk=32, shift=8)
    last = (1 << 63) - 1
    for number, frame in enumerate(clip(1, 2)):
        stream.push(frame, last - 7 + number if number else -last - 1)
    stream.finish()
    stream.step()
    red, green = stream.poll()
    assert (red.text, green.text) == ("RED", "GREEN")
    assert red.start == pytest.approx(-9.22e9, rel=1e-2) and green.end == pytest.approx(9.22e9, rel=1e-2)


@pytest.mark.parametrize(("fps", "repeated"), [(25.0, 0), (1e-9, 17), (1e-300, 0)])
def test_resampling_over_all_of_the_clock(tmp_path: Path, fps: float, repeated: int) -> None:
    model = Model(write_model(tmp_path / "model.onnx", dataclasses.replace(CONTRACT, fps=fps)), threads=1)
    stream = model.stream(resample=True)
    red = clip(1)[0]
    stream.push(red, -(1 << 63))
    stream.push(red, (1 << 63) - 1)
    assert stream.statistics()["frames_repeated"] == repeated
    stream.finish()
    stream.step()
    (found,) = stream.poll()
    assert found.text == "RED" and found.start < found.end


@pytest.mark.parametrize("values", [0, 1 << 20])
def test_a_run_of_impossible_size_is_refused(model: Model, values: int) -> None:
    """Counts that multiply to more than 64 bits do not come out as what the caller has room for."""
    x = np.zeros(16, np.float32)
    run = abi.load().signedge_model_run
    for batch, frames in ((1 << 31, 1 << 31), (0xFFFFFFFF, 0xFFFFFFFF), (0, 16), (1, 0)):
        assert run(model._handle, x.ctypes.data, x.size, batch, frames, x.ctypes.data, values, None, 0) == INVALID


# ----------------------------------------------------------------------------------------------------- life of one ---


def test_polls_without_room_take_nothing(model: Model) -> None:
    library = abi.load()
    stream = model.stream(chunk=32, shift=8)
    for number, frame in enumerate(clip(1, 2, 3, *[0] * 12, 1)):
        stream.push(frame, number * PERIOD)
        stream.step()
    item, count = abi.GlossItem(), ctypes.c_uint32()

    def poll(capacity: int) -> int:
        given = byref(item) if capacity else None
        size = ctypes.sizeof(item)
        assert library.signedge_stream_poll(stream._handle, given, size, capacity, byref(count)) == abi.OK
        return count.value

    assert [poll(0), poll(0)] == [4, 4]
    found = []
    for left in (4, 3, 2):
        assert poll(1) == left and item.flags & abi.GLOSS_FINAL
        found.append(model.glosses[item.id])
    assert found == ["RED", "GREEN", "BLUE"]
    assert [poll(1), poll(1)] == [1, 1] and not item.flags & abi.GLOSS_FINAL, "what may change is seen, not taken"
    assert end(stream) == ["RED"]


def test_the_end_may_be_told_twice_and_a_beginning_at_any_time(model: Model) -> None:
    stream = model.stream(chunk=32, shift=8, decoding=Decoding(beam_width=4))
    for cut in (0, 1, 31, 32, 33, 50):
        feed(stream, sentence(20, cut)[:cut])
        stream.reset()
        assert stream.poll() == [] and stream.statistics()["frames_pushed"] == 0
    video = sentence(20, 9)
    assert play(stream, video) == model.recognise(video)
    assert end(stream) == [] and end(stream) == []
    with pytest.raises(LibraryError, match="has ended") as refusal:
        stream.push(video[0], 10**12)
    assert refusal.value.status == FINISHED
    stream.step()


def write_fragile_model(path: Path) -> Path:
    """The model of the primary colours; a white frame among those that it sees makes its run fail."""
    network = onnx.load(write_model(path))
    constants = (("channels", np.array([2])), ("half", np.float32(0.5)), ("zero", np.zeros(1, np.float32)))
    network.graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in constants)
    nodes = [
        helper.make_node("ReduceMin", ["mean", "channels"], ["whiteness"], keepdims=0),
        helper.make_node("ReduceMax", ["whiteness"], ["whitest"], keepdims=0),
        helper.make_node("Greater", ["whitest", "half"], ["is_white"]),
        helper.make_node("Cast", ["is_white"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["zero", "index"], ["nothing"]),
        helper.make_node("Add", ["mean", "nothing"], ["checked"]),
    ]
    mean, reshape, *rest = list(network.graph.node)
    reshape.input[0] = "checked"
    del network.graph.node[:]
    network.graph.node.extend([mean, *nodes, reshape, *rest])
    path.write_bytes(network.SerializeToString())
    return path


WHITE = np.full((1, 8, 8, 3), 255, np.uint8)


@pytest.fixture
def fragile(tmp_path: Path) -> Model:
    return Model(write_fragile_model(tmp_path / "fragile.onnx"), threads=1)


def test_a_run_that_fails_loses_nothing(fragile: Model) -> None:
    stream = fragile.stream(chunk=32, shift=8, when_full=abi.REFUSE)
    video = clip(1, 2, *[0] * 14)
    for number, frame in enumerate(video):
        stream.push(frame, number * PERIOD)
        stream.step()
    waiting = stream.statistics()["frames_waiting"]
    for number in range(8):
        stream.push(WHITE[0], (len(video) + number) * PERIOD)
    for _ in range(3):
        with pytest.raises(LibraryError, match=r"ONNX Runtime: .*Gather") as failure:
            stream.step()
        assert failure.value.status == BACKEND_FAILED
        assert stream.statistics()["frames_waiting"] == waiting + 8
    assert words(stream) == ["RED", "GREEN"], "what was final is there still"
    stream.finish()
    with pytest.raises(LibraryError, match="Gather"):
        stream.step()
    assert stream.poll() == []
    stream.reset()
    assert play(stream, clip(3, 0)) == ["BLUE"], "the stream is as good as new"


def test_a_stream_outlives_frames_that_its_network_cannot_take(fragile: Model) -> None:
    """The oldest frames give way, until those that made the runs fail have gone."""
    stream = fragile.stream(chunk=32, shift=8, lookahead=8, queue=8, when_full=abi.DROP_OLDEST)
    found, failures = [], 0
    for number, frame in enumerate(np.concatenate([clip(1, *[0] * 11), WHITE, clip(*[0] * 12, 2, 0)])):
        stream.push(frame, number * PERIOD)
        try:
            stream.step()
        except LibraryError:
            failures += 1
        found += words(stream)
    assert found + end(stream) == ["RED", "GREEN"]
    assert failures > 0 and stream.statistics()["frames_dropped"] > 0


@pytest.mark.parametrize("workers", [1, 3])
def test_a_stream_that_fails_takes_no_other_with_it(tmp_path: Path, workers: int) -> None:
    fragile = Model(write_fragile_model(tmp_path / "fragile.onnx"), threads=1, workers=workers)
    streams = [fragile.stream(chunk=32, shift=8) for _ in range(6)]
    clips = [sentence(20, seed) for seed in range(6)]
    expected = [fragile.recognise(video) for video in clips]
    clips[2] = np.concatenate([clips[2], WHITE])
    for stream, video in zip(streams, clips, strict=True):
        push(stream, video[:32])
    step_together(streams)
    found = [words(stream) for stream in streams]
    for stream, video in zip(streams, clips, strict=True):
        push(stream, video[32:], first=32)
        stream.finish()
    with pytest.raises(LibraryError, match="Gather"):
        step_together(streams)
    others = [stream for number, stream in enumerate(streams) if number != 2]
    step_together(others)
    for number, stream in enumerate(streams):
        found[number] += words(stream)
    del found[2], expected[2]
    assert found == expected


# ------------------------------------------------------------------------------------------------------- in company ---


def test_two_engines_in_one_process(model: Model, points: Model) -> None:
    """Their streams take turns; neither feels the other."""
    video = sentence(30, 4)
    skeletons = np.array([SEEN if number // 8 % 2 else LOST for number in range(len(video))])
    colours, bones = model.stream(chunk=32, shift=8), points.stream(chunk=64, shift=16)
    found: tuple[list[str], list[str]] = ([], [])
    for number in range(len(video)):
        for stream, what, texts in ((colours, video, found[0]), (bones, skeletons, found[1])):
            texts += feed(stream, what[number : number + 1], number)
    assert found[0] + end(colours) == model.recognise(video)
    assert found[1] + end(bones) == points.recognise(keypoints=skeletons) == ["SEEN"] * 7


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_threads_with_streams_of_their_own_on_one_model(tmp_path: Path, backend: str) -> None:
    if abi.backend_library(backend) is None:
        pytest.skip(f"no {backend}")
    model = Model(write_engine(tmp_path / "engine"), threads=1, workers=2, backend=backend)
    clips = [sentence(20 + seed, seed) for seed in range(16)]
    expected = [model.recognise(video) for video in clips]

    def alone(video: np.ndarray) -> list[str]:
        return play(model.stream(chunk=32, shift=8), video)

    def together(_: int) -> list[list[str]]:
        streams = [model.stream(chunk=32, shift=8) for _ in clips]
        for stream, video in zip(streams, clips, strict=True):
            push(stream, video)
        for stream in streams:
            stream.finish()
        step_together(streams)
        return [words(stream) for stream in streams]

    with ThreadPoolExecutor(8) as threads:
        singles, groups = threads.map(alone, clips), threads.map(together, range(3))
        assert list(singles) == expected
        assert list(groups) == [expected] * 3


def test_threads_find_the_same_in_a_storm(driver: Any, tmp_path: Path) -> None:
    """Streams, batches, workers, runs, opening and closing, all at once on one model (native/threads_driver.cpp)."""
    assert int(driver("threads_driver", write_model(tmp_path / "model.onnx"))) == 60
