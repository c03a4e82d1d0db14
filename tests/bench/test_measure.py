"""Measure: from engines and runs to records, with who is compared with whom read from the runs."""

from __future__ import annotations

import base64
import io
import json
import shutil

import numpy as np
import pytest
from bench_stage import TRKD, write_corpus, write_engine, write_run

from bench.accuracy import difference, judge, wer_result
from bench.context import corpus_record, notes, pictures
from bench.latency import Timing, TimingPlan
from bench.measure import (
    Options,
    find_against,
    full_precision,
    invalid,
    measure,
    open_all,
    plain_twins,
    size_of,
    spread,
)
from bench.provenance import checkout, provenance
from bench.record import (
    ComparisonRecord,
    CorpusRecord,
    CurveRecord,
    ExampleRecord,
    KeypointTrack,
    NoteRecord,
    SystemRecord,
    read_records,
    write_records,
)
from devices.load import OtherWork
from distill.corpus.check import warnings
from runtime.errors import BadInput
from runtime.windows import windows

QUICK = TimingPlan(window=1, repeats=1, min_samples=2, max_samples=2, max_warmup=4, tolerance=1e9, pause=0, drift=1e9)


def options(**changes):
    return Options(timing=QUICK, timing_clips=2, memory=False, **changes)


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """A teacher, a student with and without TRKD, engines of each; the student's in two precisions."""
    root = tmp_path_factory.mktemp("stage")
    corpus = write_corpus(root / "corpus")
    fingerprint = corpus.fingerprint()
    teacher = write_run(root / "runs/big", fingerprint, rgb=True)
    plain = write_run(root / "runs/light", fingerprint, seed=1)
    distilled = write_run(root / "runs/light-taught", fingerprint, teacher, TRKD, seed=2)
    engines = [
        write_engine(root / "engines/1", teacher, rgb=True, seed=3),
        write_engine(root / "engines/2", plain, seed=4),
        write_engine(root / "engines/3", distilled, seed=5),
        write_engine(root / "engines/4", distilled, "int8", seed=6),
    ]
    runs = [root / "runs" / name for name in ("big", "light", "light-taught")]
    return corpus, engines, runs


@pytest.fixture(scope="module")
def records(stage):
    corpus, engines, runs = stage
    systems, opened = open_all(engines, [runs[0]], runs, threads=1)
    return measure(systems, corpus, options(examples=2), opened, command="signedge bench")


def test_clips_with_glosses_that_a_system_does_not_know_are_refused(stage, tmp_path):
    _, engines, _ = stage
    corpus = write_corpus(tmp_path / "corpus")
    corpus.rows[1].glosses[0] = "HAIL"
    systems, _ = open_all(engines[:1], [], [], threads=1)
    with pytest.raises(BadInput, match=r"clips.jsonl:2: clip 'clip1': gloss 'HAIL' is not in the table"):
        measure(systems, corpus, options(), command="signedge bench")


def test_clips_at_another_frame_rate_than_that_of_training_are_noted(stage, tmp_path):
    _, engines, _ = stage
    corpus = write_corpus(tmp_path / "corpus")
    systems, _ = open_all(engines[:1], [], [], threads=1)
    origin = provenance("signedge bench")

    def texts():
        return [note.text for note in notes(systems, corpus, corpus.split("test"), [], origin)]

    assert not any("frame rate" in text for text in texts())
    for row in corpus.rows:
        row.fps = 25.0
    (text,) = [text for text in texts() if "frame rate" in text]
    assert text == "trained at another frame rate than the clips' 25/s: 1-fp32 (12.5/s)"


def of(records, kind):
    return [record for record in records if isinstance(record, kind)]


def test_every_system_becomes_a_row_named_by_run_and_precision(records):
    rows = {row.system: row for row in of(records, SystemRecord)}
    assert list(rows) == ["big-eager", "big-fp32", "light-fp32", "light-taught-fp32", "light-taught-int8"]
    assert [row.distillation for row in rows.values()] == ["", "", "", "TRKD", "TRKD"]
    assert [row.modality for row in rows.values()] == ["rgb", "rgb"] + ["keypoints"] * 3
    assert all(row.valid and row.target == "x86-cpu" for row in rows.values())
    assert rows["light-taught-int8"].provenance.seed == 2 and rows["light-taught-int8"].provenance.engine


def test_rows_carry_wer_latency_and_size(records, stage):
    for row in of(records, SystemRecord):
        wer = row.wer
        assert [item.id for item in wer.utterances] == [clip.id for clip in stage[0].split("test")]
        assert wer.reference_words == 18
        errors = wer.substitutions + wer.deletions + wer.insertions
        assert wer.wer.value == pytest.approx(100 * errors / 18) and wer.wer.low <= wer.wer.value <= wer.wer.high
        assert row.latency.clips == 2 and row.latency.samples == 2 and row.latency.threads == 1
        assert row.latency.p90_ms is None
        assert row.complexity.frames == 21 and row.complexity.parameters > 0 and row.complexity.macs_per_frame > 0
    eager, engine = of(records, SystemRecord)[:2]
    assert eager.complexity.parameters == engine.complexity.parameters
    assert eager.complexity.bytes_on_disk is None and engine.complexity.bytes_on_disk > 0


def test_all_are_compared_with_the_teachers_engine(records):
    rows = {row.system: row.wer for row in of(records, SystemRecord)}
    assert rows["big-fp32"].against is None and rows["big-fp32"].difference is None
    for name in ("big-eager", "light-fp32", "light-taught-int8"):
        assert rows[name].against == "big-fp32"
        assert rows[name].difference.value == pytest.approx(rows[name].wer.value - rows["big-fp32"].wer.value)
        assert rows[name].difference.pairs == 6


def test_comparisons_follow_the_lineage(records):
    found = {(row.quantity, row.system, row.against) for row in of(records, ComparisonRecord)}
    assert found == {
        ("wer", "light-taught-fp32", "light-fp32"),
        ("wer", "light-taught-int8", "light-taught-fp32"),
        ("latency_ratio", "light-taught-int8", "light-taught-fp32"),
        *(
            ("latency_ratio", name, "big-fp32")
            for name in ("big-eager", "light-fp32", "light-taught-fp32", "light-taught-int8")
        ),
    }
    for row in of(records, ComparisonRecord):
        assert (row.ratio is None) == (row.quantity == "wer") and (row.difference is None) == (row.quantity != "wer")


def test_skeleton_rows_say_that_the_pose_estimator_is_not_in_them(records):
    for row in of(records, SystemRecord):
        assert row.pose_ms_per_frame is None
        assert ("not measured here" in row.pose_note) == (row.modality == "keypoints")


def test_the_corpus_and_each_runs_curve_are_recorded(records, stage):
    (corpus,) = of(records, CorpusRecord)
    assert (corpus.clips, corpus.glosses, corpus.signers) == ({"test": 6, "train": 2}, 4, {"test": 2, "train": 2})
    assert corpus.provenance.corpus == stage[0].fingerprint()
    assert corpus.warnings == warnings(stage[0]) and corpus.keypoint_track is None
    assert any(warning.startswith("dev: there are no clips") for warning in corpus.warnings)
    assert any("signed by people who also sign in train" in warning for warning in corpus.warnings)
    curves = {curve.run: curve for curve in of(records, CurveRecord)}
    assert list(curves) == ["big", "light", "light-taught"]
    assert [point.dev_wer for point in curves["light"].points] == [None, 90.0] and curves["light"].seconds == 3
    assert "somewhere" not in curves["light-taught"].recipe and "teacher: teacher" in curves["light-taught"].recipe


def test_examples_carry_pictures_in_time_order(records):
    examples = of(records, ExampleRecord)
    assert len(examples) == 2
    assert all(len(example.pictures) == 8 and len(example.reference) == 3 for example in examples)


def test_records_survive_writing_and_name_no_folder_of_the_machine(records, stage, tmp_path):
    write_records(tmp_path / "results.jsonl", records)
    assert read_records(tmp_path / "results.jsonl") == records
    assert str(stage[0].folder.parent) not in (tmp_path / "results.jsonl").read_text()


def test_pictures_are_small_jpegs():
    from PIL import Image

    frames = np.zeros((30, 120, 200, 3), np.uint8)
    frames[-1] = 255
    uris = pictures(frames)
    decoded = [Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) for uri in uris]
    assert len(uris) == 8 and all(image.size == (96, 58) and image.format == "JPEG" for image in decoded)
    assert np.asarray(decoded[0]).mean() < 5 and np.asarray(decoded[-1]).mean() > 250
    assert pictures(None) == [] and len(pictures(frames[:3])) == 3


def test_a_stranger_is_measured_and_says_what_is_missing(stage, tmp_path):
    corpus, _, _ = stage
    systems, runs = open_all([write_engine(tmp_path / "foreign", "", target="jetson")], [], [], 1)
    rows = of(measure(systems, corpus, options(limit_clips=3), runs, command="x"), SystemRecord)
    assert rows[0].system == "foreign-fp32" and rows[0].complexity is None and rows[0].wer.against is None
    assert any("run folder was not given" in reason for reason in rows[0].reasons)
    assert "made for a test" in rows[0].reasons
    assert any("compiled for jetson" in reason for reason in rows[0].reasons)
    assert len(rows[0].wer.utterances) == 3 and rows[0].valid


def test_others_work_and_the_commit_are_recorded(stage, monkeypatch):
    corpus, engines, runs = stage
    monkeypatch.setattr(OtherWork, "cores", lambda self: 0.75)
    systems, opened = open_all(engines[1:2], [], runs[1:2], 1)
    (row,) = of(measure(systems, corpus, options(), opened, command="x"), SystemRecord)
    assert row.latency.other_work == 0.75 and (row.provenance.commit is None) == (checkout()[0] is None)


def test_limits_and_strange_corpora_become_notes(stage, tmp_path):
    _corpus, engines, runs = stage
    other = write_corpus(tmp_path / "other", clips=4)
    systems, opened = open_all(engines[:1], [], runs[:1], 1)
    notes = [note.text for note in of(measure(systems, other, options(limit_clips=2), opened, command="x"), NoteRecord)]
    assert any("2 of the 4 clips" in note for note in notes)
    assert any("not trained on this corpus" in note and "big-fp32" in note for note in notes)


@pytest.mark.parametrize(
    ("track", "expected"),
    [
        ("full", KeypointTrack(name="full")),
        ("hard", KeypointTrack(name="hard", noise=0.12, lost=0.15)),
    ],
)
def test_the_track_of_a_composed_corpus_is_recorded(stage, tmp_path, track, expected):
    corpus = write_corpus(tmp_path / "corpus", clips=1)
    config = {"track": track, "handicap": {"noise": 0.12, "lost": 0.15, "spell": [4, 15]}}
    corpus.metadata = corpus.metadata.model_copy(update={"kind": "composed", "generator": {"config": config}})
    assert corpus_record(corpus, provenance("x")).keypoint_track == expected


def test_what_a_training_was_warned_of_becomes_a_note(stage, tmp_path):
    corpus, engines, runs = stage
    shutil.copytree(runs[1], tmp_path / "light")
    summary = json.loads((tmp_path / "light/run.json").read_text())
    (tmp_path / "light/run.json").write_text(json.dumps(summary | {"warnings": ["meant for the hard track"]}))
    systems, opened = open_all(engines[1:2], [], [tmp_path / "light", runs[0]], 1)
    texts = [note.text for note in notes(systems, corpus, corpus.split("test"), opened, provenance("x"))]
    assert texts.count("training of light: meant for the hard track") == 1


def test_a_measured_pose_estimator_is_stated(stage, tmp_path):
    _, engines, runs = stage
    corpus = write_corpus(tmp_path / "posed", clips=2, pose_ms=41.5)
    systems, opened = open_all(engines[1:2], [], runs[1:2], 1)
    (row,) = of(measure(systems, corpus, options(), opened, command="x"), SystemRecord)
    assert row.pose_ms_per_frame == 41.5 and "not included in the latency" in row.pose_note


def test_memory_is_measured_and_a_failure_is_a_reason(stage, tmp_path):
    corpus, _, _ = stage
    engine = write_engine(tmp_path / "engine", "")
    systems, _ = open_all([engine], [], [], 1)
    plan = Options(timing=QUICK, timing_clips=1, limit_clips=2, examples=0)
    (row,) = of(measure(systems, corpus, plan, command="x"), SystemRecord)
    assert 20 < row.peak_memory_mb < 1000
    (engine / "manifest.json").unlink()
    (row,) = of(measure(systems, corpus, plan, command="x"), SystemRecord)
    assert row.peak_memory_mb is None and any("peak memory not measured" in reason for reason in row.reasons)


def test_times_that_did_not_settle_make_a_row_invalid_with_the_reason():
    plan = TimingPlan(drift=0.15)

    def timing(last, stable=True):
        times = np.array([[[100.0]], [[last]]])
        return Timing("a", [10], [10.0], times, np.ones(1), 60, stable, 1)

    assert invalid(timing(105.0), plan) == []
    assert invalid(timing(140.0), plan) == ["times changed by +40% between the first and the last half of the rounds"]
    assert invalid(timing(100.0, stable=False), plan) == ["times had not settled after 60 warm-up calls"]


def test_a_named_system_can_be_what_all_are_compared_with(stage):
    _, engines, runs = stage
    systems, opened = open_all(engines, [], runs, 1)
    assert find_against(systems, opened, None).name == "big-fp32"
    assert find_against(systems, opened, "light-fp32").name == "light-fp32"
    with pytest.raises(BadInput, match=r"no system 'nobody'.*big-fp32"):
        find_against(systems, opened, "nobody")


def test_the_teacher_may_be_there_in_eager_mode_only_or_not_at_all(stage):
    _, engines, runs = stage
    systems, opened = open_all(engines[2:], [runs[0]], runs, 1)
    assert find_against(systems, opened, None).name == "big-eager"
    systems, opened = open_all(engines[1:], [], runs, 1)
    assert find_against(systems, opened, None) is None


def test_twins_keep_runtime_and_precision(stage):
    _, engines, runs = stage
    systems, _ = open_all(engines, [runs[1]], runs, 1)
    by_name = {system.name: system for system in systems}
    assert [twin.name for twin in plain_twins(by_name["light-taught-fp32"], systems)] == ["light-fp32"]
    assert plain_twins(by_name["light-taught-int8"], systems) == []  # there is no int8 engine of the plain run
    assert full_precision(by_name["light-taught-int8"], systems).name == "light-taught-fp32"
    assert full_precision(by_name["light-fp32"], systems) is None


def test_engines_of_one_length_are_told_apart_and_pay_for_every_window(stage, tmp_path):
    corpus, engines, runs = stage
    checkpoint = json.loads((engines[1] / "manifest.json").read_text())["chain"]["checkpoint"]
    made = [
        write_engine(tmp_path / f"{precision}-{frames}", checkpoint, precision, seed=4, frames=frames)
        for frames in (16, 0) for precision in ("fp32", "int8")
    ]  # fmt: skip
    systems, opened = open_all(made, [], runs, 1)
    by_name = {system.name: system for system in systems}
    assert set(by_name) == {"light-fp32", "light-int8", "light-fp32-16f", "light-int8-16f"}
    for name in ("light-int8", "light-int8-16f"):
        assert full_precision(by_name[name], systems).name == name.replace("int8", "fp32")
    rows = corpus.split("test")
    frames = sorted(row.frames for row in rows)[len(rows) // 2]
    whole, windowed = (size_of(by_name[name], opened, rows) for name in ("light-fp32", "light-fp32-16f"))
    runs_of_a_clip = len(windows(by_name["light-fp32-16f"].contract, frames))
    assert runs_of_a_clip > 1 and windowed.counts[0].macs < whole.counts[0].macs
    one_run = windowed.macs_per_frame * frames / runs_of_a_clip
    assert any(one_run == pytest.approx(count.macs) for count in windowed.counts)
    assert windowed.macs_per_frame > whole.macs_per_frame


def test_clips_are_spread_over_the_lengths(stage):
    rows = stage[0].split("test")
    assert [row.frames for row in spread(rows, 3)] == [12, 18, 27]
    assert spread(rows, 99) == rows
    with pytest.raises(BadInput, match="must be positive"):
        spread(rows, 0)


def test_an_empty_split_and_no_systems_are_errors(stage):
    corpus, engines, _ = stage
    systems, _ = open_all(engines[:1], [], [], 1)
    with pytest.raises(BadInput, match=r"no clips in split 'dev'; it has: test, train"):
        measure(systems, corpus, options(split="dev"))
    with pytest.raises(BadInput, match="nothing to measure"):
        measure([], corpus, options())


def test_a_corpus_without_what_a_system_reads_is_an_error(stage, tmp_path):
    _, engines, runs = stage
    corpus = write_corpus(tmp_path / "blind", clips=2, frames=False)
    systems, opened = open_all(engines[:1], [], runs[:1], 1)
    with pytest.raises(BadInput, match="reads frames; this clip has none"):
        measure(systems, corpus, options(), opened)


def test_readings_are_scored_and_paired_by_clip():
    first = [judge("a", ["X", "Y"], ["X"]), judge("b", ["Z"], ["Z"])]
    second = [judge("a", ["X", "Y"], ["X", "Y"]), judge("b", ["Z"], ["Q", "R"])]
    result = wer_result(first, "test", "second", second)
    assert (result.deletions, result.reference_words) == (1, 3) and result.wer.value == pytest.approx(100 / 3)
    assert result.difference.value == pytest.approx(-100 / 3)
    with pytest.raises(ValueError, match="same clips"):
        difference(first, second[::-1])


def test_runs_may_be_given_as_the_folder_that_holds_them(stage, tmp_path):
    _, engines, runs = stage
    (tmp_path / "runs/begun").mkdir(parents=True)
    (tmp_path / "runs/begun/run.json").write_text('{"status": "running"}')
    (tmp_path / "runs/light").symlink_to(runs[1])
    systems, opened = open_all(engines[1:2], [runs[1]], [tmp_path / "runs"], 1)
    assert [run.recipe.name for run in opened] == ["light"]  # once, though named twice; the unfinished one is left out
    assert [system.name for system in systems] == ["light-eager", "light-fp32"]
    with pytest.raises(BadInput, match="not a run folder"):
        open_all(engines[:1], [], [stage[0].folder], 1)
