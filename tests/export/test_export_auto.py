"""`--precision auto` on a real network: what it chooses, keeps and says, here and for targets that are elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import export.search.auto as auto
import export.search.places as places
import signedge
from distill.corpus.store import Corpus
from export.backends.base import backend
from export.engine import Job, Order, start
from export.onnx_graph import ExportReport
from export.precision.nearness import has_float16
from export.search.kept import Kept
from export.search.search import Assignment, Judged
from export.search.space import REST, Space
from export.tailor import in_precision, precisions_of
from runtime.engine import Engine
from runtime.errors import BadInput
from runtime.windows import windows

PLACES = ("x86-cpu", "jetson-orin-nano-8gb@6.2", "jetson-xavier-nx@5.1", "rtx-4090@tensorrt-rtx", "raspberry-pi-5")


@pytest.fixture(autouse=True)
def short_races(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is chosen by time is not asserted here, so little of it will do."""
    monkeypatch.setattr(places, "SECONDS", 0.05)
    monkeypatch.setattr(auto, "SECONDS", 0.05)


def job_for(exported: ExportReport, corpus: Corpus, target: str, precision: str = "auto", **changes: Any) -> Job:
    return start(exported.path, Order(target, precision, **changes), corpus)


def space_of(job: Job, scratch: Path) -> Space:
    assert job.calibration is not None
    return Space(job, job.calibration, precisions_of(job.target), scratch)


@pytest.mark.parametrize("target", PLACES)
def test_anchors_are_the_plain_precisions(
    exported: ExportReport, corpus: Corpus, tmp_path: Path, target: str
) -> None:
    space = space_of(job_for(exported, corpus, target), tmp_path)
    for precision, assignment in space.anchors().items():
        job = job_for(exported, corpus, target, precision)
        plain = in_precision(job.lowering.graph, precision, job.calibration, job.target, job.plan)
        cut = space.cut(assignment)
        assert cut.graph.SerializeToString() == plain.graph.SerializeToString(), precision
        assert cut.complete.SerializeToString() == plain.complete.SerializeToString(), precision
        assert cut.flags == plain.flags, precision


def test_of_one_length_whole_clips_are_timed_and_compared_not_windows(
    exported: ExportReport, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_for(exported, corpus, "x86-cpu", frames=16)
    space = space_of(job, tmp_path)
    assert job.calibration is not None
    frames = [row.frames for row in job.calibration.rows]
    assert [len(clip) for clip in space.clips] == [len(windows(job.contract, count)) for count in frames]
    assert places.usual_runs(space) > 1 and len(space.inputs) > len(space.clips)
    raced: list[int] = []
    monkeypatch.setattr(places, "race", lambda calls, clips, seconds: raced.extend(map(len, clips)) or {})
    here = places.Here(job, space, tmp_path)
    here.race({"fp32": here.engine(space.cut(space.wide()))})
    assert raced and raced == [len(clip) for clip in space.clips][: len(raced)]
    bench = auto._Bench(job, corpus, space, here, Kept(tmp_path / "kept", "key"), print)
    read = bench._log_probs(space.cut(space.wide()))
    assert [len(found) for found in read] == [job.contract.steps(count) for count in frames[: len(read)]]


def test_where_flags_tell_precision_they_tell_what_was_chosen(
    exported: ExportReport, corpus: Corpus, tmp_path: Path
) -> None:
    """TensorRT 8 rounds to FP16 by a flag: the graph keeps float32, and what is judged has the roundings."""
    space = space_of(job_for(exported, corpus, "jetson-xavier-nx@5.1"), tmp_path)
    cut = space.cut(space.narrow())
    assert cut.flags["fp16"] and cut.flags["int8"] and not cut.flags["strongly_typed"]
    names = {node.name for node in cut.graph.graph.node}
    assert set(cut.flags["keep_fp32"]) <= names, "what is held in FP32 must be nodes of the graph"
    assert {"LogSoftmax"} <= {node.op_type for node in cut.graph.graph.node if node.name in cut.flags["keep_fp32"]}
    assert not has_float16(cut.graph) and has_float16(cut.complete)
    assert "QuantizeLinear" in {node.op_type for node in cut.graph.graph.node}
    wide = space.cut({**space.wide(), REST: "fp32"} | dict.fromkeys(space.products, "fp32"))
    assert wide.flags == {} and wide.graph is space.graph


def test_it_chooses_here_keeps_what_it_tried_and_goes_on(
    exported: ExportReport, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["engine", str(exported.path), "--precision", "auto", "--corpus", str(corpus.folder)]
    assert signedge.main([*words, "--out", str(tmp_path / "auto"), "--json"]) == 0
    told = capsys.readouterr()
    manifest = json.loads(told.out)
    search = manifest["search"]
    assert manifest["precision"] == "auto" and manifest["gate"]["passed"] and search["complete"]
    assert "measured here" in search["times"] and search["known_before"] == 0
    passed = {item["name"] for item in search["trials"] if item["high"] <= 0.5 and not item["unsound"]}
    assert search["chosen"] in passed
    assert all(item["ratio"]["value"] > 0 for item in search["trials"] if item["name"] in passed)
    assert any(name.startswith("fp32") for name in search["against"]) or search["chosen"] == "fp32"
    assert "ranking" in told.err and "fp32: WER 0.00 %" in told.err
    clip = corpus.load(corpus.split("test")[0])
    assert Engine.open(tmp_path / "auto", 1).recognise(frames=clip.frames) == clip.glosses

    kept = (tmp_path / ".auto.search" / "tried.jsonl").read_text()
    (tmp_path / "auto").rename(tmp_path / "first")
    assert signedge.main([*words, "--out", str(tmp_path / "auto"), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)["search"]
    assert again["known_before"] == len(kept.splitlines()) > 0
    assert {item["name"] for item in again["trials"]} == {item["name"] for item in search["trials"]}


@pytest.mark.parametrize("reads_well", [True, False])
def test_a_faster_runtime_is_chosen_if_it_reads_as_well(
    exported: ExportReport, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads_well: bool
) -> None:
    job = job_for(exported, corpus, "x86-cpu")
    if not backend("openvino").available(job.target.profile).here:
        pytest.skip("OpenVINO, run by libsignedge, is needed")

    def race(place: places.Here, engines: dict[str, Engine]) -> dict[str, np.ndarray]:
        return {name: np.full((5, 2), 1e6 if "openvino" in name else 2e6) for name in engines}

    def judge(bench: Any, assignment: Assignment, runtime: str = "") -> Judged | None:
        found = real(bench, assignment, runtime)
        return found if reads_well or runtime != "openvino" else Judged(50.0, 50.0, 40.0, 60.0)

    real = auto._Bench.judge
    monkeypatch.setattr(places.Here, "race", race)
    monkeypatch.setattr(auto._Bench, "judge", judge)
    record = auto.find(job, tmp_path / "search").record
    assert record["runtime"] == ("openvino" if reads_well else "onnxruntime")
    assert any("does not read as well" in line for line in record["left_out"]) is not reads_well
    if reads_well:
        assert record["ms"] == 1.0 and record["against"]["fp32 in onnxruntime"]["value"] == 2.0


def test_a_search_without_time_still_tries_the_plain_ones(
    exported: ExportReport, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_for(exported, corpus, "x86-cpu", minutes=1e-6)
    found = auto.find(job, tmp_path / "search")
    assert not found.record["complete"] and {item["name"] for item in found.record["trials"]} == {"fp32", "int8"}


def test_where_a_race_of_all_would_take_too_long_arithmetic_ranks(
    exported: ExportReport, corpus: Corpus, tmp_path: Path
) -> None:
    job = job_for(exported, corpus, "x86-cpu")
    space = space_of(job, tmp_path)
    gains = places.Here(job, space, tmp_path).gains(seconds=1e-6)
    assert set(gains) == set(space.products) and all(gain > 0 for gain in gains.values())
    first, second = (gains[name] for name in space.products if "Conv" in name)
    assert second == pytest.approx(first * 16 / 3)  # channels that they read


def test_a_search_that_is_killed_goes_on(
    exported: ExportReport, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranking is work, too: what was ranked before the kill is not ranked again."""
    calls: list[int] = []
    real = auto.harm

    def dying(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(auto, "harm", dying)
    job = job_for(exported, corpus, "jetson-orin-nano-8gb@6.2")
    with pytest.raises(KeyboardInterrupt):
        auto.find(job, tmp_path / "search")
    first = len(calls)
    found = auto.find(job, tmp_path / "search")
    whole = auto.find(job, tmp_path / "other")
    nodes = len(whole.record["ranking"])
    assert first == 2 and len(calls) - first == (nodes - 1) + nodes, "one was known"
    assert found.record["known_before"] >= 3  # the plain precisions at least
    assert found.record["ranking"] == whole.record["ranking"]
    assert found.cut.graph.SerializeToString() == whole.cut.graph.SerializeToString()


def test_elsewhere_times_are_predicted_and_said_to_be(
    exported: ExportReport, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["engine", str(exported.path), "--precision", "auto", "--corpus", str(corpus.folder)]
    for target, kinds in (("jetson-orin-nano-8gb@6.2", {"fp32", "fp16", "int8"}), ("jetson-nano", {"fp32", "fp16"})):
        out = tmp_path / target
        assert signedge.main([*base, "--target", target, "--out", str(out)]) == 0
        told = capsys.readouterr()
        assert "a bundle, not yet an engine" in told.out and "predicted by a roofline" in told.out
        search = json.loads((out / "made.json").read_text())["search"]
        assert kinds <= {item["name"] for item in search["trials"]} and "predicted" in search["times"]
        request = json.loads((out / "request.json").read_text())
        assert request["strongly_typed"] is (target != "jetson-nano")


def test_a_precision_whose_time_nobody_can_predict_is_left_out_aloud(
    exported: ExportReport, corpus: Corpus, tmp_path: Path
) -> None:
    told: list[str] = []
    found = auto.find(job_for(exported, corpus, "raspberry-pi-4"), tmp_path / "search", told.append)
    assert any("int8 is left out" in line for line in told)
    assert {item["name"] for item in found.record["trials"]} == {"fp32"}


def test_auto_needs_a_corpus(exported: ExportReport) -> None:
    with pytest.raises(BadInput, match="auto needs --corpus"):
        start(exported.path, Order("x86-cpu", "auto"), None)
