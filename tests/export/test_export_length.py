"""Engines of one length: the graph computes the same, every clip is read, and what DLA needs is built and judged."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from bundle_stage import run_command, stand_in_driver, stand_in_trtexec
from network_stage import NETWORKS, Networks
from onnx import TensorProto, helper

import signedge
from distill.corpus.store import Corpus
from export.engine import Order, build_here, read_exported, start
from export.length import of_one_length, window, with_length
from export.onnx_graph import ExportReport, metadata
from export.precision import Int8Plan
from export.tailor import Calibration
from runtime.contract import METADATA_KEY, Contract
from runtime.device.folder import read_bundle
from runtime.engine import Engine, read_manifest
from runtime.errors import BadInput, CriterionFailed
from runtime.windows import windows

DLA = "jetson-orin-nx-16gb@6.2"


def sizes(value: onnx.ValueInfoProto) -> list[int]:
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_can_be_of_one_length(name: str, networks: Networks) -> None:
    model, agreed = read_exported(networks(name).report.path)
    before = model.SerializeToString(deterministic=True)
    graph, fixed, difference = of_one_length(model, agreed, 48)
    assert model.SerializeToString(deterministic=True) == before
    assert difference <= 1e-4
    assert sizes(graph.graph.input[0])[:2] == [1, agreed.padding.total(48)]
    assert sizes(graph.graph.output[0]) == [1, 12, len(agreed.glosses)]
    assert not [node.name for node in graph.graph.node if node.op_type in ("Shape", "Size", "ConstantOfShape")]
    assert (fixed.padding.frames, fixed.chunk, fixed.sources) == (48, 48, agreed.sources)
    kept = metadata(graph)
    assert Contract.from_json(kept.pop(METADATA_KEY)) == fixed
    assert kept.items() <= metadata(model).items()


def test_lengths_that_the_contract_does_not_allow_are_told_with_those_that_it_does(exported: ExportReport) -> None:
    model, agreed = read_exported(exported.path)
    for frames in (2, 30, 4100):
        with pytest.raises(BadInput, match=rf"cannot be made for {frames} frames: it takes from 4 to 4096 in steps"):
            of_one_length(model, agreed, frames)
    assert window(agreed) == 256


def test_a_length_that_computes_something_else_is_not_taken(
    exported: ExportReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of constants that errs, as one with a defect would, is found out by running both graphs."""
    import onnxsim

    def wrong(model: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
        biases = [item for item in model.graph.initializer if len(item.dims) == 1 and item.data_type == 1]
        values = onnx.numpy_helper.to_array(biases[-1]) + 1
        values[0] += 1
        biases[-1].CopyFrom(onnx.numpy_helper.from_array(values, biases[-1].name))
        return model, True

    monkeypatch.setattr(onnxsim, "simplify", wrong)
    with pytest.raises(CriterionFailed):
        of_one_length(*read_exported(exported.path), 32)


@pytest.mark.parametrize("shape", [["n"], [1, 48, 3]])
def test_a_graph_that_has_no_length_to_choose_is_told(shape: list[str | int]) -> None:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    made = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    with pytest.raises(BadInput, match=r"an engine of 64 frames|made for 48 where 64"):
        with_length(model, 64)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_an_engine_of_one_length_reads_shorter_and_longer_clips(
    exported: ExportReport, corpus: Corpus, tmp_path: Path, precision: str
) -> None:
    manifest = build_here(start(exported.path, Order(precision=precision, frames=32), corpus), tmp_path / "engine")
    assert any(says.startswith("made for clips of 32 frames") for says in manifest["warnings"])
    engine = Engine.open(tmp_path / "engine", 1)
    for row in corpus.split("test"):
        frames = corpus.load(row).frames
        assert frames is not None
        assert engine.recognise(frames=frames) == row.glosses
        assert engine.recognise(frames=frames[:3]) == []
        assert len(frames) > 32
    assert engine.log_probs(np.zeros((2, 32, 3, 8, 8), np.float32)).shape == (2, 8, 4)
    with pytest.raises(BadInput, match="cannot run an input"):
        engine.log_probs(np.zeros((1, 36, 3, 8, 8), np.float32))


def test_ranges_come_from_windows_and_times_from_clips(exported: ExportReport, corpus: Corpus) -> None:
    _, agreed, _ = of_one_length(*read_exported(exported.path), 16)
    calibration = Calibration(agreed, corpus, Int8Plan(clips=4))
    clips, inputs = list(calibration.clips()), list(calibration.inputs())
    assert len(clips) == 4 and all(len(clip) == len(windows(agreed, row.frames)) > 1
                                   for clip, row in zip(clips, calibration.rows, strict=True))  # fmt: skip
    np.testing.assert_array_equal(np.concatenate(clips), np.concatenate(inputs))
    assert {x.shape[:2] for x in inputs} == {(1, 16)}


def test_what_windows_cost_must_be_seen(exported: ExportReport, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="one length needs --corpus"):
        start(exported.path, Order(precision="fp32", frames=32), None)


def test_what_is_no_exported_file_any_more_is_no_measure_of_itself(
    exported: ExportReport, corpus: Corpus, tmp_path: Path
) -> None:
    """The gate compares with the file it is given: that must be the float graph of any length."""
    words = ["check", str(exported.path), "--target", "x86-cpu", "--precision", "fp32", "--frames", "32"]
    assert signedge.main([*words, "--out", str(tmp_path / "one.onnx")]) == 0
    for frames in (0, 32, 64):
        with pytest.raises(BadInput, match="of one length already, 32 frames: give the one it is from"):
            start(tmp_path / "one.onnx", Order(precision="fp32", frames=frames), corpus)
    build_here(start(exported.path, Order(precision="int8"), corpus), tmp_path / "engine")
    with pytest.raises(BadInput, match="quantised already: give the file that `signedge export` wrote"):
        start(tmp_path / "engine" / "engine.onnx", Order(precision="fp32"), corpus)


def test_a_bundle_for_dla_is_of_one_length_and_takes_fp16_from_the_flag(
    exported: ExportReport, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--target", DLA, "--precision", "fp16", "--dla", "--corpus", str(corpus.folder)]
    assert signedge.main(["engine", str(exported.path), *words, "--out", str(tmp_path / "nx")]) == 0
    assert "made for clips of 256 frames" in capsys.readouterr().err
    request = json.loads((tmp_path / "nx" / "request.json").read_text())
    assert (request["profiles"], request["dla_core"]) == ([], 0)
    assert request["fp16"] and not request["strongly_typed"] and request["keep_fp32"]
    assert read_bundle(tmp_path / "nx")["gate"]["wer"] == 0
    made = json.loads((tmp_path / "nx" / "made.json").read_text())
    assert made["frames"] == 256 and made["dla"].startswith("DLA takes ")
    graph = onnx.load(tmp_path / "nx" / "model.onnx").graph
    assert sizes(graph.input[0]) == [1, 256, 3, 8, 8]
    assert not [node for node in graph.node if node.op_type == "Cast"]


def test_eight_bits_on_dla_are_ranges_beside_the_graph(
    exported: ExportReport, corpus: Corpus, tmp_path: Path
) -> None:
    """Its builder reads no Q/DQ: what is judged here has them, and the same ranges."""
    words = ["--target", DLA, "--precision", "int8", "--dla", "--frames", "64", "--corpus", str(corpus.folder)]
    assert signedge.main(["engine", str(exported.path), *words, "--out", str(tmp_path / "nx")]) == 0
    request = json.loads((tmp_path / "nx" / "request.json").read_text())
    assert request["int8"] and request["fp16"] and request["keep_fp32"]
    graph = onnx.load(tmp_path / "nx" / "model.onnx").graph
    assert not [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear", "Cast")]
    made = json.loads((tmp_path / "nx" / "made.json").read_text())
    eight = {item["node"] for item in made["decisions"] if item["precision"] == "int8"}
    constants = {item.name for item in graph.initializer}
    assert [node for node in graph.node if node.op_type == "Conv" and node.name in eight]
    for node in graph.node:
        if node.name in eight:
            assert {node.output[0], *node.input} - constants - {""} <= set(request["ranges"])
    for name, (low, high) in made["ranges"].items():
        assert request["ranges"][name] == pytest.approx(max(-low, high), rel=1e-4)
    judged = onnx.load(tmp_path / "nx" / "judged.onnx").graph
    stored = [node for node in judged.node if node.op_type == "QuantizeLinear"]
    assert len({node.input[0] for node in stored}) >= len(request["ranges"]), "each range that is given is judged"
    assert read_bundle(tmp_path / "nx")["gate"]["wer"] == 0


def test_a_plan_of_one_length_is_judged_on_clips_of_any(exported: ExportReport, corpus: Corpus, tmp_path: Path) -> None:
    """The whole way on the device, with stand-ins for what needs a GPU: driver and trtexec."""
    words = ["--target", "t4@tensorrt-10.3", "--precision", "fp16", "--frames", "32", "--corpus", str(corpus.folder)]
    assert signedge.main(["engine", str(exported.path), *words, "--out", str(tmp_path / "t4")]) == 0
    program, driver = stand_in_trtexec(tmp_path / "programs"), stand_in_driver(tmp_path / "driver")
    path = f"{program.parent}:{os.environ['PATH']}"
    done = run_command(tmp_path / "t4", LD_LIBRARY_PATH=str(driver), HOST_CUDA_CAPABILITY="7.5", PATH=path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "t4" / "engine"
    assert read_manifest(folder)["gate"]["wer"] == 0
    assert Contract.from_json((folder / "contract.json").read_text()).padding.frames == 32
    built = (folder / "build.log").read_text().splitlines()[0]
    assert "--stronglyTyped" in built and "Shapes" not in built


def test_the_check_makes_the_graph_of_one_length_first(
    exported: ExportReport, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["check", str(exported.path), "--target", DLA, "--precision", "fp16"]
    assert signedge.main([*words, "--dla"]) == 0
    assert "in fp16, 256 frames a clip: fits" in capsys.readouterr().out
    assert signedge.main([*words, "--frames", "64", "--out", str(tmp_path / "one.onnx")]) == 0
    assert sizes(onnx.load(tmp_path / "one.onnx").graph.input[0])[:2] == [1, 64]
    capsys.readouterr()
    assert signedge.main([*words, "--frames", "30"]) == 2
    assert "in steps of 4" in capsys.readouterr().err
