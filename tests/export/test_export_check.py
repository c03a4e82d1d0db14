"""Verdicts on every network of the project, for every dialect and precision, and on graphs that must be refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from network_stage import NETWORKS, Networks
from onnx import TensorProto, helper, numpy_helper

import signedge
from devices import dialect as dialects
from devices import profile as profiles
from devices.schema import PRECISIONS
from export.check import Verdict, check, summary
from export.check_cli import LOWERING_KEY
from export.graph import GraphView
from export.length import with_length
from export.lowering import lower, prove
from export.onnx_graph import ExportReport, metadata, read_model
from export.rules import graph_findings
from runtime.contract import METADATA_KEY, Contract
from runtime.errors import BadInput

TARGETS = [
    ("jetson-nano", "tensorrt-8.2"), ("jetson-tx2", "tensorrt-8.2"), ("jetson-xavier-nx", "tensorrt-8.5"),
    ("a10", "tensorrt-8.6"), ("jetson-orin-nano-8gb", "tensorrt-10.3"), ("jetson-t5000", "tensorrt-10.16"),
    ("h200", "tensorrt-11"), ("rtx-4090", "tensorrt-rtx"), ("x86-vnni", "onnxruntime"), ("raspberry-pi-5", "openvino"),
]  # fmt: skip


@pytest.fixture(scope="session")
def network(networks: Networks) -> Callable[[str], onnx.ModelProto]:
    """The graph of each network."""
    return lambda name: read_model(networks(name).report.path)


# Networks of the project.


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_fits_every_dialect_after_lowering_and_computes_the_same(
    name: str, network: Callable[[str], onnx.ModelProto]
) -> None:
    model = network(name)
    agreed = Contract.from_json(metadata(model)[METADATA_KEY])
    proved: set[bytes] = set()  # dialects that are near each other get the same graph
    for dialect in map(dialects.load, dialects.names()):
        after, done = lower(model, dialect)
        assert graph_findings(GraphView(after), dialect) == [], dialect.name
        assert metadata(after) == metadata(model)
        written = after.SerializeToString(deterministic=True)
        if done and written not in proved:
            onnx.checker.check_model(after, full_check=True)
            prove(model, after, agreed)
            proved.add(written)
        assert bool(done) == dialect.name.startswith("tensorrt-8")


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("target", TARGETS, ids=lambda item: f"{item[0]}-{item[1]}")
def test_every_verdict_fits_or_is_explained(
    name: str, target: tuple[str, str], network: Callable[[str], onnx.ModelProto]
) -> None:
    profile, dialect = profiles.load(target[0]), dialects.load(target[1])
    for precision in PRECISIONS:
        verdict = check(network(name), profile, dialect, precision)
        assert verdict.fits == (precision in profile.precisions)
        assert_explained(verdict)
        if name == "bilstm" and precision == "int8" and verdict.fits:
            assert {"LSTM"} == {item.op for item in verdict.notes if item.rule == "stays-float-int8"}


def assert_explained(verdict: Verdict) -> None:
    assert verdict.fits == (not verdict.refusals)
    for item in verdict.refusals:
        assert item.rule and item.says and item.remedy
    for item in verdict.notes:
        assert item.rule and item.says


# Refusals and notes.


def test_int8_on_nano_is_refused_with_the_best_alternative(exported: ExportReport) -> None:
    verdict = check(read_model(exported.path), profiles.load("jetson-nano"), dialects.load("tensorrt-8.2"), "int8")
    (refusal,) = verdict.refusals
    assert refusal.rule == "hardware-int8"
    assert "Maxwell" in refusal.says
    assert refusal.remedy.startswith("fp16")


def quantised(kind: type, zero: int = 0) -> onnx.ModelProto:
    constants = {"s": np.float32(0.1), "z": kind(zero)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="to_int"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], name="to_float"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "frames"]) for name in "xy"]
    made = helper.make_graph(nodes, "quantised", ends[:1], ends[1:], [
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    ])  # fmt: skip
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_quantised_graph_needs_hardware_and_a_flavour_that_is_read() -> None:
    orin, trt = profiles.load("jetson-orin-nano-8gb"), dialects.load("tensorrt-10.3")
    assert check(quantised(np.int8), orin, trt, "int8").fits
    unsigned = check(quantised(np.uint8, 128), orin, trt, "int8")
    assert {"qdq-zero-point", "qdq-unsigned"} <= {item.rule for item in unsigned.refusals}
    assert all("s8s8" in item.remedy for item in unsigned.refusals if item.rule.startswith("qdq"))
    nano = check(quantised(np.int8), profiles.load("jetson-nano"), dialects.load("tensorrt-8.2"), "fp16")
    assert [(item.node, item.rule) for item in nano.refusals] == [("to_int", "hardware-int8")]
    already = check(quantised(np.int8), orin, trt, "fp16")
    assert already.fits and "already-int8" in {item.rule for item in already.notes}


def test_signed_activations_are_noted_as_slow_for_onnx_runtime() -> None:
    cpu, ort = profiles.load("x86-vnni"), dialects.load("onnxruntime")
    slow = check(quantised(np.int8), cpu, ort, "int8")
    assert slow.fits and "slow-flavour" in {item.rule for item in slow.notes}
    fast = check(quantised(np.uint8, 128), cpu, ort, "int8")
    assert "slow-flavour" not in {item.rule for item in fast.notes}


def test_refused_operator_names_the_software_of_the_target_that_reads_it() -> None:
    node = helper.make_node("Mod", ["x", "two"], ["y"], name="remainder")
    ends = [helper.make_tensor_value_info(name, TensorProto.INT64, ["n"]) for name in "xy"]
    made = helper.make_graph([node], "g", ends[:1], ends[1:], [numpy_helper.from_array(np.array([2]), "two")])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    profile = profiles.load("jetson-xavier-nx")
    old = {row.dialect for row in profile.software}
    assert {"tensorrt-8.2", "tensorrt-8.5"} <= old
    verdict = check(model, profile, dialects.load("tensorrt-8.2"), "fp32")
    (refusal,) = verdict.refusals
    assert (refusal.node, refusal.rule) == ("remainder", "operator-missing")
    assert "JetPack 5.1" in refusal.remedy


def test_what_a_lowering_could_not_rewrite_is_told_with_the_reason() -> None:
    nodes = [
        helper.make_node("Attention", ["x", "x", "x"], ["a"], name="near", left_window_size=1),
        helper.make_node("Swish", ["a"], ["y"], name="bend"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, "t", 4]) for name in "xy"]
    made = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 25)], ir_version=11)
    verdict = check(model, profiles.load("a10"), dialects.load("tensorrt-8.6"), "fp32")
    told = {item.rule: item for item in verdict.refusals}
    assert set(told) == {"operator-missing", "opset-too-new"}
    assert told["operator-missing"].node == "near" and "its left_window_size" in told["operator-missing"].says
    assert "node near: Attention changed in opset 25" in told["opset-too-new"].says
    for item in verdict.refusals:
        assert "written as" not in item.remedy and "rewritten in opset" not in item.remedy


def test_unknown_precision_is_bad_input(exported: ExportReport) -> None:
    with pytest.raises(BadInput, match="fp32, fp16, int8"):
        check(read_model(exported.path), profiles.load("a10"), dialects.load("tensorrt-8.6"), "fp8")


def test_the_given_graph_is_not_changed(exported: ExportReport) -> None:
    model = read_model(exported.path)
    before = model.SerializeToString(deterministic=True)
    check(model, profiles.load("jetson-nano"), dialects.load("tensorrt-8.2"), "fp16", dla=True)
    assert model.SerializeToString(deterministic=True) == before


# DLA.


def test_dla_takes_convolutions_of_one_length_in_fp16(network: Callable[[str], onnx.ModelProto]) -> None:
    model, xavier, trt = network("lrinet"), profiles.load("jetson-agx-xavier"), dialects.load("tensorrt-8.5")
    open_length = check(model, xavier, trt, "fp16", dla=True)
    assert [item.rule for item in open_length.refusals] == ["dla-dynamic"]
    assert "--frames" in open_length.refusals[0].remedy
    one = with_length(model, 64)
    fixed = check(one, xavier, trt, "fp16", dla=True)
    assert fixed.fits
    told = {item.rule: item.says for item in fixed.notes}
    assert "flag" in told["how-fp16"]
    taken, every, parts = map(int, re.findall(r"\d+", told["dla-share"]))
    assert every == len(one.graph.node) and taken >= 11 > parts > 1  # convolutions and what lies between two shifts
    on_gpu = {item.op for item in fixed.notes if item.rule == "dla-fallback"}
    assert "Conv" not in on_gpu and {"Reshape", "LogSoftmax"} <= on_gpu
    eight = check(one, xavier, trt, "int8", dla=True)
    assert eight.fits and "beside the graph" in next(item.says for item in eight.notes if item.rule == "how-int8")


def test_dla_of_10_takes_fp16_from_the_flag_and_that_of_11_from_the_graph(
    network: Callable[[str], onnx.ModelProto],
) -> None:
    model, orin = with_length(network("lrinet"), 64), profiles.load("jetson-agx-orin-64gb")
    for dialect, says in (("tensorrt-10.3", "flag"), ("tensorrt-11", "types of the graph")):
        verdict = check(model, orin, dialects.load(dialect), "fp16", dla=True)
        assert says in next(item.says for item in verdict.notes if item.rule == "how-fp16")
    refused = check(model, orin, dialects.load("tensorrt-11"), "int8", dla=True)
    assert [item.rule for item in refused.refusals] == ["dla-int8"]


@pytest.mark.parametrize(
    ("target", "dialect", "rule"),
    [
        ("jetson-orin-nano-8gb", "tensorrt-10.3", "dla-missing"),
        ("jetson-agx-orin-64gb", "tensorrt-10.16", "dla-not-driven"),
        ("jetson-orin-nx-16gb", "tensorrt-11", "dla-not-driven"),
    ],
)
def test_dla_that_is_not_there_or_not_driven(target: str, dialect: str, rule: str, exported: ExportReport) -> None:
    model = read_model(exported.path)
    verdict = check(model, profiles.load(target), dialects.load(dialect), "fp16", dla=True)
    assert [item.rule for item in verdict.refusals] == [rule]
    assert "--dla" in verdict.refusals[0].remedy


def test_dla_with_nothing_to_take_is_refused() -> None:
    node = helper.make_node("Softmax", ["x"], ["y"], name="soft")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8]) for name in "xy"]
    made = helper.make_graph([node], "g", ends[:1], ends[1:])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    verdict = check(model, profiles.load("jetson-agx-xavier"), dialects.load("tensorrt-8.5"), "fp16", dla=True)
    assert [item.rule for item in verdict.refusals] == ["dla-nothing"]


# The command.


def run(*words: str) -> int:
    return signedge.main(["check", *words])


def test_command_says_which_passes_make_it_fit(
    network: Callable[[str], onnx.ModelProto], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "stgt.onnx", tmp_path / "lowered.onnx"
    onnx.save(network("stgt"), str(path))
    assert run(str(path), "--target", "jetson-nano", "--precision", "fp16", "--out", str(out)) == 0
    told = capsys.readouterr().out
    assert "fits after lowering" in told
    assert "lowering layer_norm: tensorrt-8.2 has no LayerNormalization" in told
    assert "lowering opset" in told
    written = read_model(out)
    assert not graph_findings(GraphView(written), dialects.load("tensorrt-8.2"))
    record = json.loads(metadata(written)[LOWERING_KEY])
    assert record["dialect"] == "tensorrt-8.2"
    assert {item["pass_name"] for item in record["changes"]} == {"layer_norm", "opset"}
    assert max(item["difference"] for item in record["lengths"]) < 1e-4
    assert metadata(written)[METADATA_KEY] == metadata(network("stgt"))[METADATA_KEY]


def test_command_writes_the_same_bytes_twice(exported: ExportReport, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("one.onnx", "two.onnx")]
    for path in paths:
        assert run(exported.path, "--target", "jetson-nano", "--out", str(path)) == 0
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_command_refuses_with_status_3_and_writes_nothing(
    exported: ExportReport, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "lowered.onnx"
    assert run(exported.path, "--target", "jetson-tx2", "--precision", "int8", "--out", str(out)) == 3
    told = capsys.readouterr().out
    assert "does not fit" in told and "refused by hardware-int8" in told and "would fit: " in told
    assert not out.exists()


def test_command_speaks_json(exported: ExportReport, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(exported.path, "--target", "jetson-tx2", "--precision", "int8", "--json") == 3
    facts: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert facts["fits"] is False and facts["dialect"] == "tensorrt-8.2" and facts["contract"] == "colours"
    assert [item["rule"] for item in facts["findings"] if item["refuses"]] == ["hardware-int8"]
    assert facts["lowered"][0]["pass_name"] == "opset"


def test_command_chooses_software_by_name(exported: ExportReport, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(exported.path, "--target", "jetson-xavier-nx@4.6", "--json") == 0
    assert json.loads(capsys.readouterr().out)["dialect"] == "tensorrt-8.2"


def test_file_without_a_contract_is_judged_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "theirs.onnx", tmp_path / "lowered.onnx"
    onnx.save(quantised(np.int8), str(path))
    assert run(str(path), "--target", "x86-vnni", "--precision", "int8", "--out", str(out)) == 0
    assert "no contract" in capsys.readouterr().out
    assert out.exists()


def test_bad_files_and_names_are_bad_input(tmp_path: Path, exported: ExportReport) -> None:
    assert run(str(tmp_path / "none.onnx"), "--target", "jetson-nano") == 2
    assert run(exported.path, "--target", "jetson-mars") == 2
    assert run(exported.path, "--target", "jetson-nano", "--precision", "int4") == 2
    assert run(exported.path, "--target", "jetson-nano", "--out", str(tmp_path)) == 2


def test_summary_puts_equal_notes_together(network: Callable[[str], onnx.ModelProto]) -> None:
    verdict = check(network("bilstm"), profiles.load("a10"), dialects.load("tensorrt-8.6"), "int8")
    lines = summary(verdict)
    assert len([line for line in lines if "LSTM" in line]) == 1
    assert len(lines) < 8
