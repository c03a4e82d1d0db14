"""Runtimes behind one interface, and the choice between those of a CPU."""

from __future__ import annotations

import json
from itertools import pairwise, permutations
from pathlib import Path

import numpy as np
import onnx
import pytest
from export_stage import colour_clip, contract

from devices import profile as profiles
from export.backends.base import MODULES, backend, write_graph
from export.backends.choice import choose
from export.backends.race import race, ratio
from export.onnx_graph import ExportReport, metadata
from runtime import abi
from runtime.contract import METADATA_KEY, Contract
from runtime.engine import CONTRACT_FILE, ENGINE_FILE, PLAN_FACTS, PLAN_FILE, Engine
from runtime.errors import BadInput
from runtime.trt import cuda

X86 = profiles.resolve("x86-cpu").profile
ADA = profiles.load("rtx-4090")
CLIP = colour_clip(["RED", "BLUE"], np.random.default_rng(0))


@pytest.fixture
def here(request: pytest.FixtureRequest) -> str:
    """A CPU runtime that this machine has."""
    found = backend(request.param).available(X86)
    if not found.here:
        pytest.skip(found.why_not)
    return str(request.param)


def test_every_runtime_of_manifests_has_an_adapter() -> None:
    assert [backend(name).name for name in MODULES] == list(MODULES)
    with pytest.raises(BadInput, match="no runtime 'tea leaves'; known: onnxruntime, openvino, tensorrt"):
        backend("tea leaves")


@pytest.mark.parametrize("here", ["onnxruntime", "openvino"], indirect=True)
def test_what_a_cpu_runtime_builds_it_loads_and_reads(here: str, exported: ExportReport, tmp_path: Path) -> None:
    graph = onnx.load(exported.path)
    built = backend(here).build(graph, contract(), tmp_path)
    assert built.files == (ENGINE_FILE,) and [path.name for path in tmp_path.iterdir()] == [ENGINE_FILE]
    assert built.versions.keys() == {here}
    engine = backend(here).load(tmp_path, 1)
    assert engine.recognise(CLIP) == ["RED", "BLUE"] and here in engine.through and engine.threads == 1
    assert (tmp_path / ENGINE_FILE).read_bytes() == Path(exported.path).read_bytes()  # nothing was changed on the way


def test_the_contract_is_written_into_a_graph_that_lost_it(exported: ExportReport, tmp_path: Path) -> None:
    graph = onnx.load(exported.path)
    other = contract(name="renamed")
    for kept in (list(graph.metadata_props), [item for item in graph.metadata_props if item.key != METADATA_KEY]):
        del graph.metadata_props[:]
        graph.metadata_props.extend(kept)
        write_graph(graph, other, tmp_path / ENGINE_FILE)
        told = metadata(onnx.load(tmp_path / ENGINE_FILE))
        assert Contract.from_json(told[METADATA_KEY]) == other
        assert len(told) == len(metadata(onnx.load(exported.path)))


def test_what_is_missing_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("onnxruntime", "openvino", "tensorrt"):
        monkeypatch.setattr(f"export.backends.{name}.find_spec", lambda module: None)
    monkeypatch.delenv("SIGNEDGE_OPENVINO_LIBRARY", raising=False)
    monkeypatch.setattr(cuda, "gpu", lambda: cuda.Gpu("Stand-in", "8.9", 128, "13.0"))
    extras = {"onnxruntime": "export", "openvino": "openvino", "tensorrt": "tensorrt", "tensorrt-rtx": "rtx"}
    for name, extra in extras.items():
        found = backend(name).available(ADA if "tensorrt" in name else X86)
        assert not found.here and f"signedge[{extra}]" in found.why_not
    monkeypatch.setenv("SIGNEDGE_OPENVINO_LIBRARY", "libopenvino_c.so")
    monkeypatch.setenv(abi.LIBRARY_VARIABLE, str(tmp_path / "none.so"))
    assert "make library" in backend("openvino").available(X86).why_not


def test_tensorrt_is_built_where_its_gpu_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be installed here could build nothing: that is not what is told."""
    monkeypatch.setattr("export.backends.tensorrt.find_spec", lambda module: module == "tensorrt_rtx")
    for gpu in (None, cuda.Gpu("Stand-in", "8.7", 8, "12.6")):
        monkeypatch.setattr(cuda, "gpu", lambda gpu=gpu: gpu or cuda._call("nothing"))
        monkeypatch.setattr(cuda, "_caller", [lambda name, *inputs: (100,)])
        found = backend("tensorrt").available(ADA)
        assert not found.builds and "only on a machine with the target's GPU, where a bundle" in found.why_not
        assert "pip install" not in found.why_not
        rtx = backend("tensorrt-rtx").available(ADA)
        assert rtx.builds and not rtx.runs and rtx.why_not


def test_an_engine_for_another_machine_is_built_but_not_run_here() -> None:
    elsewhere = X86.model_copy(update={"name": "elsewhere", "machines": ("vax",)})
    found = backend("onnxruntime").available(elsewhere)
    assert found.builds and not found.runs and not found.here and "elsewhere is another machine" in found.why_not


def test_a_plan_needs_a_request(exported: ExportReport, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="needs a build request"):
        backend("tensorrt-rtx").build(onnx.load(exported.path), contract(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_plan_is_built_with_what_its_manifest_must_say(exported: ExportReport, tmp_path: Path) -> None:
    module = pytest.importorskip("tensorrt_rtx")
    from runtime.trt.build import BuildRequest

    rtx, ampere = backend("tensorrt-rtx"), profiles.load("rtx-3090")
    request = BuildRequest(({"min": 8, "opt": 32, "max": 64},), compute_capabilities=("8.6",))
    built = rtx.build(onnx.load(exported.path), contract(), tmp_path, request)
    assert built.files == (PLAN_FILE, CONTRACT_FILE)
    assert sorted(path.name for path in tmp_path.iterdir()) == [CONTRACT_FILE, PLAN_FILE]
    assert built.versions == {"tensorrt_rtx": module.__version__} and built.facts["layers"]
    assert built.facts[PLAN_FACTS]["compute_capabilities"] == ["8.6"] and json.loads(json.dumps(built.facts))
    found = rtx.available(ampere)
    assert found.builds
    if found.runs:
        assert rtx.load(tmp_path, 1).recognise(CLIP) == ["RED", "BLUE"]
    else:
        assert found.why_not


def test_only_plans_load_as_plans(exported: ExportReport, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="loads a plan"):
        Engine.from_plan(tmp_path, "onnxruntime")
    with pytest.raises(BadInput, match="loads an ONNX file"):
        Engine.from_onnx(exported.path, 1, "tensorrt")
    (tmp_path / PLAN_FILE).write_bytes(b"")
    with pytest.raises(BadInput, match=CONTRACT_FILE):
        Engine.from_plan(tmp_path, "tensorrt-rtx")


def clock_of(costs: dict[str, float]) -> tuple[dict[str, object], object]:
    """Calls that take a stated time of a clock of their own, and the clock."""
    now = [0.0]

    def call(name: str) -> object:
        def spend(x: np.ndarray) -> None:
            now[0] += costs[name] * len(x)

        return spend

    return {name: call(name) for name in costs}, lambda: int(now[0])


def test_races_pair_calls_on_the_same_input() -> None:
    calls, clock = clock_of({"a": 1000, "b": 1500})
    times = race(calls, [np.zeros(2), np.zeros(8)], seconds=0, fewest=3, clock=clock)  # type: ignore[arg-type]
    assert times["a"].tolist() == [[2000, 8000]] * 3 and times["b"].tolist() == [[3000, 12000]] * 3
    assert ratio(times["b"], times["a"]) == (1.5, 1.5, 1.5, 6)
    with pytest.raises(BadInput, match="nothing to time"):
        race({}, [np.zeros(1)])


def test_no_call_always_follows_the_same_one() -> None:
    seen: list[str] = []
    calls = {name: lambda x, name=name: seen.append(name) for name in "abc"}
    race(calls, [np.zeros(1)], seconds=0, fewest=20)
    turns = seen[3:][::2]  # after each saw its input once; the second of two calls is the one in the clock
    assert turns == seen[4:][::2] and all(sorted(turns[i : i + 3]) == ["a", "b", "c"] for i in range(0, 60, 3))
    assert {(first, second) for first, second in pairwise(turns)} >= set(permutations("abc", 2))


def test_ties_go_to_the_first_and_the_faster_wins() -> None:
    rng = np.random.default_rng(0)
    times = {"onnxruntime": rng.normal(100, 5, (20, 4)), "openvino": rng.normal(99.9, 5, (20, 4))}
    assert choose(times, "onnxruntime") == "onnxruntime" and choose(times, "openvino") == "openvino"
    times["openvino"] -= 20
    assert choose(times, "onnxruntime") == "openvino"
    found = ratio(times["onnxruntime"], times["openvino"])
    assert 1 < found.low < found.value < found.high and found.pairs == 80
