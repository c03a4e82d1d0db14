"""Windows over networks that look at the whole clip: libsignedge against the rule written out in numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from streaming import play, push

from distill.models import build
from export.length import of_one_length
from export.onnx_graph import export_onnx, metadata, read_model
from runtime.abi import REFUSE
from runtime.binding import WHOLE_CLIP, Model, step_together
from runtime.contract import (
    BLANK,
    METADATA_KEY,
    Contract,
    KeypointInput,
    Padding,
    RgbInput,
    body_and_hands_layout,
    hand_root,
)
from runtime.decode import greedy
from runtime.engine import Engine
from runtime.errors import BadInput
from runtime.preprocess import keypoint_features, pad_clip, prepare, rgb_features
from runtime.windows import joined

pytestmark = pytest.mark.usefixtures("library_in_use")

CLASSES = 12
WINDOWS = [(32, 8, 16), (32, 16, 8), (48, 4, 44)]


def skeleton() -> KeypointInput:
    joints = tuple(joint for joint in body_and_hands_layout() if joint.endswith(("wrist", "root", "4")))
    roots = tuple(hand_root(joint) or joint for joint in joints)
    shoulders = ("left_shoulder", "right_shoulder")
    return KeypointInput(body_and_hands_layout(), joints, roots, origin=shoulders, scale=shoulders)


@pytest.fixture(scope="module", params=["stgt", "lrinet"])
def onnx_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student with random weights whose classifier was levelled, so that its glosses change all the time."""
    torch.manual_seed(3)
    source = skeleton() if request.param == "stgt" else RgbInput(32, 32)
    network = build({"name": request.param, "preset": "small"}, CLASSES, source).eval()
    glosses = (BLANK, *(f"G{number}" for number in range(1, CLASSES)))
    contract = Contract(request.param, source, glosses, 25.0, padding=network.padding)
    video = clip(contract, 400, 0)
    x = prepare(contract, video, video)[0]
    with torch.no_grad():
        scores = network(torch.from_numpy(x), torch.tensor([len(x)])).logits[0]
        network.classifier.weight.mul_(8 / scores.std(dim=0).mean())
        network.classifier.bias.sub_(scores.mean(dim=0)).mul_(8 / scores.std(dim=0).mean())
    path = tmp_path_factory.mktemp("windows") / f"{request.param}.onnx"
    export_onnx(network.inference(), contract, path)
    return path


@pytest.fixture(scope="module")
def engine(onnx_file: Path) -> Engine:
    return Engine.from_onnx(onnx_file, threads=1)


@pytest.fixture
def model(onnx_file: Path) -> Model:
    return Model(onnx_file, threads=1)


def clip(contract: Contract, frames: int, seed: int) -> np.ndarray:
    """Pictures of noise, or joints that swing; some are lost, the shoulders seen from the first frame on."""
    rng = np.random.default_rng(seed)
    if contract.modality == "rgb":
        return rng.integers(0, 256, (frames // 6 + 1, 40, 40, 3)).repeat(6, axis=0)[:frames].astype(np.uint8)
    periods, phases = rng.uniform(8, 40, (49, 3)), rng.uniform(0, 7, (49, 3))
    points = 0.5 + 0.4 * np.sin(np.arange(frames)[:, None, None] / periods * 2 * np.pi + phases)
    points[..., 2] = 1
    lost = rng.random((frames, 49)) < 0.1
    lost[:, 1:3] = False
    points[lost] = 0
    return points.astype(np.float32)


def windowed(engine: Engine, video: np.ndarray, chunk: int, shift: int, lookahead: int) -> list[str]:
    """The rule of a stream's windows: a step is settled by the first run that saw `lookahead` frames after it."""
    contract = engine.contract
    stride = contract.frame_stride
    prepared = (keypoint_features if contract.modality == "keypoints" else rgb_features)(video, contract.input)
    settled: list[np.ndarray] = []
    seen: dict[int, np.ndarray] = {}
    last = 0
    ends = [*range(shift, len(video) + 1, shift)] if len(video) > chunk else []
    for end in [*ends, *([len(video)] if not ends or ends[-1] != len(video) else [])]:
        begin = -(-max(0, end - chunk) // stride) * stride
        while begin > 0 and len(settled) < max(begin, last - lookahead) // stride:
            settled.append(seen[len(settled)])
        last = end
        window = pad_clip(prepared[begin:end], contract.padding)[None]
        seen.update(enumerate(engine.log_probs(window)[0], start=begin // stride))
        while end > chunk and end < len(video) and len(settled) < (end - lookahead) // stride:
            settled.append(seen[len(settled)])
    settled += [seen[step] for step in range(len(settled), contract.steps(len(video)))]
    return [contract.glosses[label] for label in greedy(np.stack(settled))]


@pytest.mark.parametrize("frames", [1, 5, 64, 127, 128])
def test_a_clip_that_fits_the_window_is_recognised_as_offline(model: Model, engine: Engine, frames: int) -> None:
    video = clip(engine.contract, frames, frames)
    key = "keypoints" if model.modality == "keypoints" else "frames"
    offline = engine.recognise(**{key: video})
    assert frames < 64 or len(offline) > 3, "a test of nothing"
    assert play(model.stream(chunk=128, shift=16), video) == offline
    assert model.recognise(**{key: video}) == offline


@pytest.mark.parametrize(("chunk", "shift", "lookahead"), WINDOWS)
def test_longer_clips_follow_the_rule(model: Model, engine: Engine, chunk: int, shift: int, lookahead: int) -> None:
    for frames in (chunk + 1, 97, 150):
        video = clip(engine.contract, frames, frames)
        found = play(model.stream(chunk=chunk, shift=shift, lookahead=lookahead), video)
        assert found == windowed(engine, video, chunk, shift, lookahead)


def test_joints_seen_late_change_the_frames_before(model: Model, engine: Engine) -> None:
    """Shoulders come into sight in the tenth frame, one hand in the twentieth: as if there from the start."""
    if model.modality != "keypoints":
        pytest.skip("of keypoints only")
    video = clip(engine.contract, 60, 4)
    video[:10, 1:3] = 0
    video[:20, 7:28] = 0
    assert play(model.stream(chunk=64, shift=4), video) == engine.recognise(keypoints=video)


def test_a_batch_gives_what_single_streams_give(model: Model, engine: Engine) -> None:
    clips = [clip(engine.contract, 70 + 5 * (number % 3), number) for number in range(8)]
    alone = [play(model.stream(chunk=32, shift=8), video) for video in clips]
    streams = [model.stream(chunk=32, shift=8, queue=200) for _ in clips]
    for stream, video in zip(streams, clips, strict=True):
        push(stream, video)
        stream.finish()
    step_together(streams)
    assert [[gloss.text for gloss in stream.poll()] for stream in streams] == alone


# Networks of one length.


@pytest.fixture(scope="module", params=[48, 96])
def one_length(request: pytest.FixtureRequest, onnx_file: Path) -> Path:
    """The same network for clips of so many frames."""
    source = read_model(onnx_file)
    agreed = Contract.from_json(metadata(source)[METADATA_KEY])
    graph, _, difference = of_one_length(source, agreed, request.param)
    assert difference < 1e-4
    path = onnx_file.with_name(f"{onnx_file.stem}-{request.param}.onnx")
    path.write_bytes(graph.SerializeToString())
    return path


def test_clips_of_any_length_are_read_as_the_rule_says(one_length: Path) -> None:
    model, engine = Model(one_length, threads=1), Engine.from_onnx(one_length, threads=1)
    padding = engine.contract.padding
    assert model.info.frames == padding.frames == model.info.chunk
    for frames in (1, 7, padding.frames - 1, padding.frames, padding.frames + 1, 131, 200):
        video = clip(engine.contract, frames, frames)
        x = prepare(engine.contract, video, video)
        log_probs = joined(engine.contract, engine.log_probs(x), frames)
        expected = [engine.contract.glosses[label] for label in greedy(log_probs)]
        assert frames < 96 or len(expected) > 3, "a test of nothing"
        assert model.recognise(video, video) == expected
        stream = model.stream(chunk=WHOLE_CLIP)
        assert play(stream, video) == expected
        statistics = stream.statistics()
        assert (statistics["runs"], statistics["chunk"]) == (len(x), WHOLE_CLIP), "no window is run twice"
        assert statistics["retractions"] == 0, "nothing was shown before its time"


def test_a_stream_through_one_length_follows_the_rule_of_all_streams(one_length: Path) -> None:
    model, engine = Model(one_length, threads=1), Engine.from_onnx(one_length, threads=1)
    one = engine.contract.padding.frames
    for chunk, shift, lookahead in ((one, 8, 16), (one // 2, 8, 8)):
        for frames in (20, one + 3, 150):
            video = clip(engine.contract, frames, frames)
            found = play(model.stream(chunk=chunk, shift=shift, lookahead=lookahead), video)
            assert found == windowed(engine, video, chunk, shift, lookahead)
    with pytest.raises(BadInput, match=f"sees {one} frames at once; the chunk may not be {one + 4}"):
        model.stream(chunk=one + 4)
    assert play(model.stream(), clip(engine.contract, 150, 1)), "what the caller leaves open fits"


def test_a_network_of_one_length_equals_that_of_any_where_the_window_covers_what_it_looks_at(
    one_length: Path, engine: Engine
) -> None:
    """At the length itself nothing is added: the same clip gives the same."""
    fixed = Engine.from_onnx(one_length, threads=1)
    frames = fixed.contract.padding.frames
    video = clip(engine.contract, frames, 5)
    x = prepare(engine.contract, video, video)
    np.testing.assert_allclose(fixed.log_probs(x), engine.log_probs(x), atol=1e-4)


def test_streams_of_one_length_together_are_as_alone(one_length: Path) -> None:
    model = Model(one_length, threads=1)
    contract = Contract.from_json(model.contract)
    videos = [clip(contract, frames, frames) for frames in (30, 30, 77, 140)]
    streams = [model.stream(chunk=WHOLE_CLIP) for _ in videos]
    for stream, video in zip(streams, videos, strict=True):
        push(stream, video)
        stream.finish()
    step_together(streams)
    for stream, video in zip(streams, videos, strict=True):
        assert [gloss.text for gloss in stream.poll()] == model.recognise(video, video)


def test_frames_that_wait_behind_a_short_window_are_not_lost_to_its_padding(one_length: Path) -> None:
    model, engine = Model(one_length, threads=1), Engine.from_onnx(one_length, threads=1)
    one = engine.contract.padding.frames
    chunk, video = one // 2, clip(engine.contract, 300, 3)
    stream = model.stream(chunk=chunk, shift=8, lookahead=8, queue=400)
    push(stream, video)
    stream.step()
    found = [gloss.text for gloss in stream.poll() if gloss.final]
    stream.finish()
    stream.step()
    found += [gloss.text for gloss in stream.poll()]
    assert found == windowed(engine, video, chunk, 8, 8)


def test_joints_seen_late_change_every_window_of_a_whole_clip(one_length: Path) -> None:
    """What is only known at the end is known to all windows, however often the stream was stepped before."""
    engine = Engine.from_onnx(one_length, threads=1)
    if engine.contract.modality == "rgb":
        pytest.skip("of keypoints only")
    model, video = Model(one_length, threads=1), clip(engine.contract, 200, 9)
    video[:150, 1:3] = 0  # the shoulders, which are origin and scale
    log_probs = joined(engine.contract, engine.log_probs(prepare(engine.contract, None, video)), 200)
    expected = [engine.contract.glosses[label] for label in greedy(log_probs)]
    assert len(expected) > 3
    assert model.recognise(keypoints=video) == play(model.stream(chunk=WHOLE_CLIP), video) == expected


def test_a_whole_clip_of_one_length_may_follow_another(one_length: Path) -> None:
    model = Model(one_length, threads=1)
    contract = Contract.from_json(model.contract)
    stream = model.stream(chunk=WHOLE_CLIP, when_full=REFUSE)
    for frames in (200, 30, 140):
        video = clip(contract, frames, frames)
        assert play(stream, video) == model.recognise(video, video)
        stream.reset()


def write_mixer(path: Path, contract: Contract) -> None:
    """A network of one length whose every step depends on all of its input: other windows give other steps."""
    rng, classes = np.random.default_rng(0), len(contract.glosses)
    frames, stride = contract.padding.frames, contract.frame_stride
    constants = {
        "pixels": np.array([3, 4]), "grouped": np.array([1, frames // stride, 3 * stride]), "time": np.array([1]),
        "near": rng.normal(0, 30, (3 * stride, classes)), "far": rng.normal(0, 300, (3 * stride, classes)),
    }  # fmt: skip
    nodes = [
        helper.make_node("ReduceMean", ["input", "pixels"], ["means"], keepdims=0),
        helper.make_node("Reshape", ["means", "grouped"], ["steps"]),
        helper.make_node("ReduceMean", ["steps", "time"], ["mean"], keepdims=1),
        helper.make_node("MatMul", ["steps", "near"], ["here"]),
        helper.make_node("MatMul", ["mean", "far"], ["all"]),
        helper.make_node("Add", ["here", "all"], ["scores"]),
        helper.make_node("LogSoftmax", ["scores"], ["log_probs"]),
    ]
    stored = [
        numpy_helper.from_array(value if value.dtype == np.int64 else value.astype(np.float32), name)
        for name, value in constants.items()
    ]
    sides = {"input": [1, frames, 3, 4, 4], "log_probs": [1, frames // stride, classes]}
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in sides.items()]
    graph = helper.make_graph(nodes, "mixer", ends[:1], ends[1:], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    model.metadata_props.add(key=METADATA_KEY, value=contract.to_json())
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("frames", "lookahead", "stride"),
    [(16, -1, 4), (16, 0, 4), (16, 3, 4), (16, 12, 4), (48, 6, 4), (48, 20, 4), (48, 40, 4), (64, 32, 4), (27, 7, 3)],
)
def test_both_take_every_step_from_the_same_window(tmp_path: Path, frames: int, lookahead: int, stride: int) -> None:
    glosses = (BLANK, *(f"G{number}" for number in range(1, 200)))
    agreed = Contract(
        "mixer", RgbInput(4, 4), glosses, 25.0, stride, lookahead, frames, 0, Padding(0, 0, stride, frames)
    )
    write_mixer(tmp_path / "mixer.onnx", agreed)
    model, engine = Model(tmp_path / "mixer.onnx", threads=1), Engine.from_onnx(tmp_path / "mixer.onnx", threads=1)
    for length in (1, frames - 1, frames, frames + 1, 2 * frames + 5, 5 * frames):
        video = np.random.default_rng(length).integers(0, 256, (length, 4, 4, 3)).astype(np.uint8)
        log_probs = joined(agreed, engine.log_probs(prepare(agreed, video, None)), length)
        assert len(log_probs) == agreed.steps(length)
        assert model.recognise(video) == [glosses[label] for label in greedy(log_probs)]
        assert play(model.stream(), video), "a stream of which nothing is asked fits"
