"""Plans are built for real, by TensorRT-RTX, which needs no GPU for that; what it chose is read from its log."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from trt_graphs import CHANNELS, graph

from runtime.errors import BadInput, MissingExtra, Refused
from runtime.trt import compat
from runtime.trt.apart import build_apart
from runtime.trt.build import BuildRequest, BuildResult, _keep_fp32, _set_ranges, build_plan, known_capabilities
from runtime.trt.inspect import summary

rtx: Any = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed: pip install 'signedge[rtx]'")
ROOT = Path(__file__).parents[2]
BUCKETS = ({"min": 8, "opt": 32, "max": 64}, {"min": 65, "opt": 96, "max": 128})
ONE = BuildRequest(BUCKETS[:1])
VARIABLE = "SIGNEDGE_TENSORRT_PYTHON"


def build(precision: str = "fp32", **changes: Any) -> BuildResult:
    request = dataclasses.replace(ONE, **changes)
    return build_plan(rtx, graph(precision).SerializeToString(), request)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("capability", ["8.0", "8.6", "8.9", "12.0"])
def test_products_are_computed_in_the_precision_of_the_graph(precision: str, capability: str) -> None:
    result = build(precision, compute_capabilities=(capability,))
    wanted = {"conv": precision, "classifier": precision}
    found = summary(result.layers, wanted)
    assert found["products"] == {precision: 2} and found["fallbacks"] == []
    assert found["unknown"] == 0


def test_turing_takes_fp16_and_refuses_fp32_products_by_the_name_of_the_node() -> None:
    fp16 = graph("fp16").SerializeToString()
    request = dataclasses.replace(ONE, compute_capabilities=("7.5",))
    assert summary(build_apart("tensorrt_rtx", fp16, request).layers)["products"] == {"fp16": 2}
    with pytest.raises(Refused, match=r"'classifier'.*FP32 GEMM is not supported.*FP16"):
        build_apart("tensorrt_rtx", graph().SerializeToString(), request)


def test_a_plan_of_several_targets_holds_each() -> None:
    result = build(compute_capabilities=("8.6", "8.9"))
    assert b"sm86 sm89" in result.plan


def test_the_same_build_chooses_the_same_layers() -> None:
    """Bytes of plans differ from build to build: they hold numbers of temporary names."""
    first, second = build("int8"), build("int8")
    assert [(layer["kind"], layer["precision"]) for layer in first.layers] == [
        (layer["kind"], layer["precision"]) for layer in second.layers
    ]


def test_ranges_reach_the_tensors_of_their_names() -> None:
    """What DLA before TensorRT 11 takes eight bits from; written from its documentation, here on a stand-in."""

    class Tensor:
        def __init__(self, name: str) -> None:
            self.name, self.range = name, (0.0, 0.0)

        def set_dynamic_range(self, low: float, high: float) -> None:
            self.range = (low, high)

    class Layer:
        num_outputs = 1

        def get_output(self, number: int) -> Tensor:
            return made[1]

    class Network:
        num_inputs, num_layers = 1, 1

        def get_input(self, number: int) -> Tensor:
            return made[0]

        def get_layer(self, number: int) -> Layer:
            return Layer()

    made = [Tensor("input"), Tensor("convolved")]
    _set_ranges(Network(), dataclasses.replace(ONE, ranges={"convolved": 2.5, "folded": 1.0}))
    assert [tensor.range for tensor in made] == [(0.0, 0.0), (-2.5, 2.5)]


def test_every_bucket_gets_its_profile() -> None:
    result = build(profiles=BUCKETS)
    assert any("65,32" in line and "128,32" in line for line in result.log)
    assert len(result.layers) == 2 * len(build().layers)


def test_a_graph_of_one_length_needs_no_profile() -> None:
    made = graph("fp16")
    for end in (*made.graph.input, *made.graph.output):
        end.type.tensor_type.shape.dim[1].dim_value = 64
    request = dataclasses.replace(ONE, profiles=())
    assert summary(build_apart("tensorrt_rtx", made.SerializeToString(), request).layers)["products"] == {"fp16": 2}
    with pytest.raises(BadInput, match=rf"'input' has shape \(1, -1, {CHANNELS}\): the request needs a profile"):
        build(profiles=())


def test_a_graph_that_cannot_be_read_names_node_operator_and_reason() -> None:
    with pytest.raises(BadInput, match=r"node 'last' \(Det\)") as caught:
        build_plan(rtx, graph(op="Det").SerializeToString(), ONE)
    assert "\n" not in str(caught.value)


def test_what_is_no_graph_is_bad_input() -> None:
    with pytest.raises(BadInput, match="cannot read"):
        build_plan(rtx, b"no graph", ONE)


def test_a_profile_that_does_not_fit_the_input_is_bad_input() -> None:
    with pytest.raises(BadInput, match=rf"'input' has shape \(1, -1, {CHANNELS}\).*batch 2"):
        build(batch=2)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"fp16": True}, "takes types from the graph, not from fp16"),
        ({"keep_fp32": ("conv",), "strongly_typed": False}, "not from keep_fp32"),
        ({"ranges": {"convolved": 1.0}, "strongly_typed": False}, "not from ranges"),
        ({"compute_capabilities": ("8.7",)}, "no GPU of compute capability 8.7; it has: 7.5, 8.0, 8.6, 8.9"),
        ({"dla_core": 0}, "no DLA"),
        ({"version_compatible": True}, "no version-compatible plans"),
        ({"hardware_compatible": "ampere_plus"}, "no hardware-compatible plans"),
    ],
)
def test_what_the_module_lacks_is_refused_before_the_build(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(Refused, match=says):
        build(**changes)


def test_what_is_asked_and_there_is_done() -> None:
    result = build(workspace_mb=64, optimisation_level=1)
    assert result.built_by.startswith("tensorrt_rtx ") and result.timing_cache == b""
    assert compat.plan_header(result.plan)["module"] == "tensorrt_rtx"
    assert rtx.__version__.startswith(compat.plan_header(result.plan)["version"])


def test_stages_are_told() -> None:
    stages: list[str] = []
    build_apart("tensorrt_rtx", graph().SerializeToString(), ONE, stages.append)
    assert stages[0] == "reading the graph" and any("tensorrt_rtx" in stage for stage in stages)


def test_a_process_whose_build_failed_builds_no_more() -> None:
    """The plan that would come next silently computes INT8 layers in FP32: seen with 1.7.1."""
    script = """
import sys
from trt_graphs import graph
from runtime.errors import Refused
from runtime.trt import module
from runtime.trt.build import BuildRequest, build_plan
rtx = module.load("tensorrt_rtx")
for capability in ("7.5", "8.6"):
    request = BuildRequest(({"min": 8, "opt": 32, "max": 64},), compute_capabilities=(capability,))
    try:
        build_plan(rtx, graph("int8" if capability == "8.6" else "fp32").SerializeToString(), request)
    except Refused as error:
        print(error)
"""
    paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    python = [sys.executable, "-c", script]
    done = subprocess.run(python, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths}, check=True)
    first, second = done.stdout.splitlines()
    assert "FP32 GEMM" in first and "failed in this process" in second and "INT8 to FP32" in second


def test_a_build_that_dies_is_bad_input(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho torn >&2\nkill -SEGV $$\n")
    python.chmod(0o755)
    with pytest.raises(BadInput, match=r"died \(status -11\): torn"):
        build_apart("tensorrt_rtx", b"", ONE, python=str(python))


def test_a_missing_module_names_its_extra() -> None:
    with pytest.raises(MissingExtra, match=r"signedge\[tensorrt\]"):
        build_apart("tensorrt", b"", ONE)


def test_a_request_survives_json() -> None:
    request = BuildRequest(
        BUCKETS, keep_fp32=("conv",), compute_capabilities=("8.9",), dla_core=1, fp16=True, ranges={"x": 0.1}
    )
    assert BuildRequest.read(json.loads(json.dumps(request.as_json()))) == request


@pytest.mark.parametrize(
    "plain",
    [
        {"profiles": [{"min": 9, "opt": 8, "max": 10}]},
        {"profiles": [{"min": 8, "max": 10}]},
        {"profiles": list(BUCKETS), "batch": 0},
        {"profiles": list(BUCKETS), "ranges": {"x": 0.0}},
        {"profiles": list(BUCKETS), "ranges": {"x": float("inf")}},
        {"profiles": list(BUCKETS), "hardware_compatible": "all"},
        {"profiles": list(BUCKETS), "compute_capabilities": ["sm_89"]},
        {"profiles": list(BUCKETS), "precision": "fp16"},
        {},
    ],
)
def test_a_broken_request_is_bad_input(plain: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        BuildRequest.read(plain)


def test_the_targets_of_the_module_are_known() -> None:
    assert {"7.5", "8.6", "8.9", "12.0"} <= set(known_capabilities(rtx))


@pytest.mark.slow
def test_classic_tensorrt_gets_as_far_as_the_missing_driver() -> None:
    """With a Python that has tensorrt ($SIGNEDGE_TENSORRT_PYTHON): all but the GPU is there."""
    python = os.environ.get(VARIABLE)
    if not python:
        pytest.skip(f"${VARIABLE} names no Python with tensorrt")
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has an NVIDIA driver")
    with pytest.raises(Refused, match=r"tensorrt \d+\..* cannot start here: CUDA initialization failure"):
        build_apart("tensorrt", graph().SerializeToString(), ONE, python=python)


class Layer:
    """What a parser made of a node, or of a part of one."""

    num_outputs = 1

    def __init__(self, name: str) -> None:
        self.name, self.precision, self.outputs = name, "", [""]

    def set_output_type(self, index: int, kind: str) -> None:
        self.outputs[index] = kind


def test_every_layer_of_a_node_is_held_in_fp32() -> None:
    """LogSoftmax becomes two layers, of which the second bears the node's name and a number."""
    layers = [Layer("conv"), Layer("softmax"), Layer("softmax_12"), Layer("softmax2")]
    network = SimpleNamespace(num_layers=len(layers), get_layer=layers.__getitem__)
    trt = SimpleNamespace(DataType=SimpleNamespace(FLOAT="float"))
    _keep_fp32(trt, network, BuildRequest(BUCKETS, keep_fp32=("softmax",)))
    assert [layer.precision for layer in layers] == ["", "float", "float", ""]
    assert layers[2].outputs == ["float"] and layers[0].outputs == [""]
    with pytest.raises(BadInput, match="no layer is named pool"):
        _keep_fp32(trt, network, BuildRequest(BUCKETS, keep_fp32=("softmax", "pool")))
