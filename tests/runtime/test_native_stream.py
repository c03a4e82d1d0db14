"""Streams of libsignedge: windows, settling, back-pressure, resampling, batches, against the Python engine."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from streaming import PERIOD, end, play, push, sentence, words
from test_engine import CONTRACT, clip, write_engine, write_model

from runtime import abi
from runtime.binding import Decoding, LanguageModel, LibraryError, Model, QueueFull, step_together
from runtime.engine import ENGINE_FILE, Engine
from runtime.errors import BadInput
from runtime.preprocess import prepare

pytestmark = pytest.mark.usefixtures("library_in_use")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_engine(tmp_path / "engine")


@pytest.fixture
def model(folder: Path) -> Model:
    return Model(folder, threads=1)


def test_model_tells_what_its_contract_says(model: Model) -> None:
    assert model.glosses == CONTRACT.glosses and model.modality == "rgb" and model.layout == ()
    assert (model.info.width, model.info.height, model.info.classes, model.info.fps) == (4, 4, 4, 25.0)
    assert model.backend.startswith("onnxruntime ") and '"primary"' in model.contract


def test_log_probs_are_the_engines(model: Model, folder: Path) -> None:
    x = prepare(CONTRACT, clip(1, 2, 3), None)
    np.testing.assert_array_equal(model.run(x, 3), Engine.open(folder, threads=1).log_probs(x))


@pytest.mark.parametrize("frames", [1, 3, 4, 7, 8, 61, 400])
def test_a_whole_clip_is_recognised_as_the_engine_does(model: Model, folder: Path, frames: int) -> None:
    video = sentence(100, frames)[:frames]
    assert model.recognise(video) == Engine.open(folder, threads=1).recognise(frames=video)


@pytest.mark.parametrize(
    ("chunk", "shift", "lookahead"), [(16, 4, 4), (16, 8, 8), (64, 16, 32), (128, 8, 120), (0, 0, 0)]
)
def test_a_stream_of_any_window_gives_what_the_whole_clip_gives(
    model: Model, folder: Path, chunk: int, shift: int, lookahead: int
) -> None:
    """This network looks no further than a step, so windows may not change anything, however short."""
    video = sentence(90, 5)[:-2]
    expected = Engine.open(folder, threads=1).recognise(frames=video)
    assert play(model.stream(chunk=chunk, shift=shift, lookahead=lookahead), video) == expected
    beam = model.stream(chunk=chunk, shift=shift, lookahead=lookahead, decoding=Decoding(beam_width=4))
    assert play(beam, video) == expected


def test_what_is_pushed_at_once_gives_the_same_as_frame_by_frame(model: Model) -> None:
    video = sentence(60, 6)
    one = model.stream(chunk=32, shift=8)
    expected = play(one, video)
    late = model.stream(chunk=32, shift=8, queue=1000)
    push(late, video)
    assert end(late) == expected
    assert late.statistics()["runs"] == one.statistics()["runs"]


def test_glosses_carry_the_times_of_their_frames(model: Model) -> None:
    stream = model.stream(chunk=32, shift=8)
    start = 1_000_000_000
    found = []
    for number, frame in enumerate(clip(0, 1, 1, 0, *[0] * 20, 2, 2, 2)):
        stream.push(frame, start + number * PERIOD)
        stream.step()
        found += [gloss for gloss in stream.poll() if gloss.final]
    stream.finish()
    stream.step()
    red, green = found + stream.poll()
    assert (red.text, red.start_step, red.end_step) == ("RED", 1, 3)
    assert red.start == pytest.approx(1 + 4 * 0.04) and red.end == pytest.approx(1 + 12 * 0.04)
    assert (green.text, green.start_step, green.end_step) == ("GREEN", 24, 27)
    assert green.end == pytest.approx(1 + 27 * 4 * 0.04)
    assert 0.9 < red.confidence <= 1 and red.stability == 1


def test_trial_glosses_grow_stable_and_then_final(model: Model) -> None:
    stream = model.stream(chunk=32, shift=4, lookahead=16)
    stability, final_at = [], None
    for number, frame in enumerate(clip(1, *[0] * 20)):
        stream.push(frame, number * PERIOD)
        stream.step()
        glosses = stream.poll()
        if glosses and not glosses[0].final:
            stability.append(glosses[0].stability)
        if glosses and glosses[0].final:
            final_at = number
            break
    assert stability == sorted(stability) and stability[0] == 0.5 and stability[-1] > 0.8
    assert final_at is not None and final_at >= 32, "nothing is settled while the window covers the clip"
    assert stream.statistics()["retractions"] == 0


def test_silence_for_a_long_time_gives_nothing_and_costs_no_memory(model: Model) -> None:
    stream = model.stream(chunk=32, shift=16)
    dark = np.zeros((8, 8, 3), np.uint8)
    for number in range(10 * 60 * 25):
        stream.push(dark, number * PERIOD)
        stream.step()
    assert stream.poll() == []
    push(stream, clip(3, 0, 0), first=10 * 60 * 25)
    stream.finish()
    stream.step()
    (blue,) = stream.poll()
    assert blue.text == "BLUE" and blue.start == pytest.approx(600)


def test_a_full_queue_blocks_refuses_or_drops(model: Model) -> None:
    video = sentence(20, 7)
    blocking = model.stream(chunk=32, shift=8, queue=8)
    push(blocking, video)
    counts = blocking.statistics()
    assert counts["runs"] > 0 and counts["frames_dropped"] == 0 and counts["frames_pushed"] == 80

    refusing = model.stream(chunk=32, shift=8, queue=8, when_full=abi.REFUSE)
    for number in range(16):
        refusing.push(video[number], number * PERIOD)
    with pytest.raises(QueueFull, match="16 frames wait"):
        refusing.push(video[16], 16 * PERIOD)
    refusing.step()
    refusing.push(video[16], 16 * PERIOD)
    assert refusing.statistics()["frames_waiting"] == 1

    dropping = model.stream(chunk=32, shift=8, queue=8, when_full=abi.DROP_OLDEST)
    push(dropping, video)
    counts = dropping.statistics()
    assert (counts["frames_waiting"], counts["frames_dropped"], counts["runs"]) == (16, 64, 0)
    dropping.finish()
    dropping.step()
    alone = model.recognise(video[64:])
    glosses = dropping.poll()
    assert [gloss.text for gloss in glosses] == alone
    assert glosses[0].start >= 64 * 0.04


def test_time_that_does_not_advance_is_refused_and_nothing_is_lost(model: Model) -> None:
    video = clip(1, 2)
    stream = model.stream()
    for number in range(4):
        stream.push(video[number], number * PERIOD)
    for wrong in (3 * PERIOD, 2 * PERIOD, -1):
        with pytest.raises(LibraryError, match="is not after") as refusal:
            stream.push(video[4], wrong)
        assert refusal.value.status == 8
    for number in range(4, 8):
        stream.push(video[number], number * PERIOD)
    assert end(stream) == ["RED", "GREEN"]


def test_the_end_and_a_new_beginning(model: Model) -> None:
    stream = model.stream()
    for _ in range(3):
        assert play(stream, clip(1, 0, 3)) == ["RED", "BLUE"]
        with pytest.raises(LibraryError, match="has ended"):
            stream.push(clip(1)[0], 10**12)
        stream.step()
        assert stream.poll() == []
        stream.reset()
    stream.finish()
    stream.step()
    assert stream.poll() == [], "an empty clip has no glosses"


def test_resampling_gives_the_models_frame_rate(model: Model) -> None:
    """A camera of 50 frames/s loses every second frame, one of 12.5 has each twice, jitter does not matter."""
    video = sentence(12, 8)
    expected = model.recognise(video)
    fast = model.stream(resample=True)
    for number, frame in enumerate(video.repeat(2, axis=0)):
        fast.push(frame, number * PERIOD // 2)
    assert fast.statistics()["frames_skipped"] == len(video)
    slow = model.stream(resample=True)
    for number, frame in enumerate(video[::2]):
        slow.push(frame, number * PERIOD * 2)
    assert slow.statistics()["frames_repeated"] == len(video) // 2 - 1
    shaky = model.stream(resample=True)
    jitter = np.random.default_rng(1).integers(-PERIOD // 5, PERIOD // 5, len(video))
    for number, frame in enumerate(video):
        shaky.push(frame, number * PERIOD + int(jitter[number]))
    counts = shaky.statistics()
    assert (counts["frames_skipped"], counts["frames_repeated"]) == (0, 0)
    for stream in (fast, slow, shaky):
        assert end(stream) == expected


def test_a_long_gap_is_not_filled(model: Model) -> None:
    stream = model.stream(resample=True)
    stream.push(clip(1)[0], 0)
    stream.push(clip(1)[0], 10**15)
    assert stream.statistics()["frames_repeated"] == 0


@pytest.mark.parametrize("workers", [1, 3])
def test_streams_stepped_together_give_what_each_gives_alone(folder: Path, workers: int) -> None:
    model = Model(folder, threads=1, workers=workers)
    clips = [sentence(10 + number % 3, number) for number in range(9)]
    alone = [play(model.stream(chunk=32, shift=8), video) for video in clips]
    streams = [model.stream(chunk=32, shift=8) for _ in clips]
    together: list[list[str]] = [[] for _ in clips]
    for number in range(max(map(len, clips))):
        for video, stream in zip(clips, streams, strict=True):
            if number < len(video):
                stream.push(video[number], number * PERIOD)
            elif number == len(video):
                stream.finish()
        step_together(streams)
        for texts, stream in zip(together, streams, strict=True):
            texts += words(stream)
    for texts, stream in zip(together, streams, strict=True):
        texts += end(stream)
    assert together == alone


def test_final_glosses_wait_for_who_has_no_room(model: Model) -> None:
    stream = model.stream()
    for number, frame in enumerate(clip(*[1, 0] * 100)):
        stream.push(frame, number * PERIOD)
        stream.step()
    assert end(stream) == ["RED"] * 100
    assert stream.poll() == []


def test_hypotheses_of_a_clip(model: Model) -> None:
    stream = model.stream(decoding=Decoding(beam_width=8, nbest=3))
    with pytest.raises(BadInput):
        stream.nbest(0)
    assert play(stream, clip(1, 0, 2)) == ["RED", "GREEN"]
    scores = []
    for rank in range(3):
        score, glosses = stream.nbest(rank)
        scores.append(score)
        assert rank > 0 or [gloss.text for gloss in glosses] == ["RED", "GREEN"]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"chunk": 30}, "multiples"),
        ({"shift": 6}, "multiples"),
        ({"chunk": 32, "shift": 16, "lookahead": 20}, "fit into the chunk"),
        ({"chunk": 1 << 30}, "at most"),
        ({"when_full": 7}, "when_full is 7"),
    ],
)
def test_impossible_options_are_named(model: Model, options: dict[str, int], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        model.stream(**options)


def test_frames_for_a_model_of_keypoints_and_the_reverse(model: Model) -> None:
    stream = model.stream()
    points = np.zeros((3, 3), np.float32)
    with pytest.raises(LibraryError, match="reads frames, not keypoints"):
        stream._push_keypoints(points, 0)


def test_a_bare_file_without_a_hash_runs_too(folder: Path) -> None:
    assert Model(folder / ENGINE_FILE, threads=1).recognise(clip(2)) == ["GREEN"]


def test_an_engine_removed_from_disk_goes_on(folder: Path) -> None:
    model = Model(folder, threads=1)
    stream = model.stream()
    (folder / ENGINE_FILE).unlink()
    assert play(stream, clip(1, 2)) == ["RED", "GREEN"]


def test_a_stream_outlives_its_closed_model(folder: Path) -> None:
    model = Model(folder, threads=1)
    stream = model.stream()
    model.close()
    assert play(stream, clip(1, 2)) == ["RED", "GREEN"]


def test_the_contracts_window_is_the_default(tmp_path: Path) -> None:
    contract = dataclasses.replace(CONTRACT, chunk=32, shift=8)
    model = Model(write_model(tmp_path / "model.onnx", contract), threads=1)
    assert (model.info.chunk, model.info.shift) == (32, 8)
    stream = model.stream()
    for number, frame in enumerate(clip(1, 2)):
        stream.push(frame, number * PERIOD)
        stream.step()
    assert stream.statistics()["runs"] == 1


def test_a_refusing_queue_takes_frames_again_after_a_step(model: Model) -> None:
    """Even where a gap asks for more copies than the queue holds."""
    stream = model.stream(chunk=32, shift=16, queue=4, when_full=abi.REFUSE, resample=True)
    for number in range(10):
        stream.push(clip(1)[0], number * PERIOD)
    stream.push(clip(1)[0], 30 * PERIOD)
    stream.step()
    assert stream.statistics()["frames_repeated"] == 20


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ({"chunk": 64, "shift": 4, "lookahead": 0}, (64, 4, 0)),
        ({"chunk": 64, "shift": 64}, (64, 64, 0)),
        ({"chunk": 16}, (16, 16, 0)),
        ({"chunk": 24, "shift": 16}, (24, 16, 8)),
        ({"lookahead": 300}, (316, 16, 300)),
        ({"chunk": 64, "shift": 16, "lookahead": 61}, (80, 16, 64)),
        ({}, (256, 16, 128)),
    ],
)
def test_what_is_left_open_fits_what_the_engine_says(
    tmp_path: Path, window: dict[str, int], expected: tuple[int, int, int]
) -> None:
    contract = dataclasses.replace(CONTRACT, **window)
    stream = Model(write_model(tmp_path / "model.onnx", contract), threads=1).stream()
    counts = stream.statistics()
    assert (counts["chunk"], counts["shift"], counts["lookahead"]) == expected
    assert play(stream, clip(1, 0, 2)) == ["RED", "GREEN"]


def test_streams_of_other_lengths_do_not_spoil_a_batch(model: Model) -> None:
    streams = [model.stream(chunk=32, shift=8) for _ in range(8)]
    late = model.stream(chunk=1024, shift=8)
    for number in range(400):
        for stream in [*streams, late]:
            stream.push(clip(1)[0], number * PERIOD)
        step_together([late, *streams])
    runs = [stream.statistics()["last_run_ns"] for stream in streams]
    assert len(set(runs)) < len(runs), "streams that shared a run were given the same time"


def test_messages_are_of_the_call_that_failed_last(model: Model) -> None:
    stream = model.stream()
    stream.push(clip(1)[0], 0)
    with pytest.raises(LibraryError, match="not after"):
        stream.push(clip(1)[0], 0)
    with pytest.raises(BadInput, match="hypotheses are there after the end"):
        stream.nbest(0)
    closed = model.stream()
    closed.close()
    with pytest.raises(BadInput, match="was closed"):
        step_together([stream, closed])


def test_a_language_model_may_go_before_its_stream(model: Model, tmp_path: Path) -> None:
    words = "".join(f"-1\t{word}\n" for word in ("<s>", "</s>", "RED", "GREEN", "BLUE"))
    (tmp_path / "lm.arpa").write_text(f"\\data\\\nngram 1=5\n\n\\1-grams:\n{words}\n\\end\\\n")
    lm = LanguageModel(tmp_path / "lm.arpa")
    stream = model.stream(decoding=Decoding(beam_width=4, lm=lm))
    lm.close()
    assert play(stream, clip(1, 0, 2)) == ["RED", "GREEN"]
    with pytest.raises(BadInput, match="this lm was closed"):
        model.stream(decoding=Decoding(beam_width=4, lm=lm))


def test_planes_of_any_layout_are_read_right(model: Model) -> None:
    """Turned round, mirrored, flat: copied where the library could not read them."""
    frame = np.zeros((8, 8, 3), np.uint8)
    frame[..., 0] = 255
    for plane in (
        frame[::-1],
        frame[:, ::-1],
        frame.reshape(-1),
        np.asfortranarray(frame),
        frame[..., ::-1][..., ::-1],
    ):
        stream = model.stream()
        for number in range(4):
            stream.push_planes([plane], 8, 8, number * PERIOD, abi.RGB)
        assert end(stream) == ["RED"]
    for planes, pixels in (
        ([frame[:7]], abi.RGB),
        ([frame.astype(np.float32)], abi.RGB),
        ([frame], abi.NV12),
        ([frame[..., 0], frame[:2, :2, 0]], abi.NV12),
        ([frame], 99),
    ):
        with pytest.raises(BadInput, match="plane"):
            stream.push_planes(planes, 8, 8, 10**10, pixels)


def test_an_engine_of_fixed_size_is_refused(tmp_path: Path) -> None:
    for side, size in ((0, 4), (1, 64)):
        path = write_model(tmp_path / f"fixed{side}.onnx")
        fixed = onnx.load(path)
        fixed.graph.input[0].type.tensor_type.shape.dim[side].dim_value = size
        onnx.save(fixed, path)
        with pytest.raises(BadInput, match="is made for"):
            Model(path)


def test_another_library_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(abi.LIBRARY_VARIABLE, "libc.so.6")
    with pytest.raises(BadInput, match="is no libsignedge"):
        abi.load()
