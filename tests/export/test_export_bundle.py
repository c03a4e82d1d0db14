"""Bundles: whole, the same bytes every time, and one command that makes an engine or leaves none."""

from __future__ import annotations

import ast
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from bundle_stage import (
    HERE,
    MADE,
    ORIN,
    RTX,
    T4,
    bundle_for,
    fake_jetson,
    gate_clips,
    python_of,
    rewrite_clips,
    run_command,
    stand_in_t4,
    stand_in_trtexec,
)
from export_stage import contract
from onnx import numpy_helper

from devices.profile import resolve
from export.bundle import device_sources
from export.onnx_graph import ExportReport, read_model
from export.precision import make_precision
from runtime import abi
from runtime.device.folder import CLIPS, read_bundle, read_clips, write_json
from runtime.engine import Engine, read_manifest
from runtime.errors import BadInput, CriterionFailed, Refused
from runtime.preprocess import prepare
from runtime.trt.compat import check_plan

ARM_ROOT, ARM_ONNXRUNTIME = "SIGNEDGE_AARCH64_ROOT", "SIGNEDGE_AARCH64_ONNXRUNTIME"  # see runtime/TESTING.md
PYTHONS = ("3.8", "3.10", "3.12")  # of JetPack 5, 6 and 7
IMPORTS = """
import importlib, sys
from pathlib import Path
folder = Path(sys.argv[1])
sys.path.insert(0, str(folder))
before = set(sys.modules)
for path in sorted(folder.rglob("*.py")):
    name = ".".join(path.relative_to(folder).with_suffix("").parts)
    importlib.import_module(name[: -len(".__init__")] if name.endswith(".__init__") else name)
new = [module for name, module in list(sys.modules.items()) if name not in before]
files = [getattr(module, "__file__", None) or "" for module in new]
print(sorted({file.split("site-packages/")[1].split("/")[0] for file in files if "site-packages/" in file}))
"""


@pytest.fixture(scope="module")
def orin(exported: ExportReport, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for Orin Nano."""
    return bundle_for(ORIN, exported, tmp_path_factory.mktemp("bundles") / "orin").folder


@pytest.fixture
def here(exported: ExportReport, tmp_path: Path) -> Path:
    """A bundle for a CPU like this one, which may be broken."""
    return bundle_for(HERE, exported, tmp_path / "here").folder


def test_same_arguments_same_bytes(exported: ExportReport, tmp_path: Path) -> None:
    archives = []
    for name in ("one", "two"):
        made = bundle_for(ORIN, exported, tmp_path / name / "orin", archive=True)
        assert made.archive is not None
        archives.append(made.archive.read_bytes())
    assert archives[0] == archives[1]
    with tarfile.open(tmp_path / "one" / "orin.tar") as tar:
        entries = tar.getmembers()
    names = [entry.name for entry in entries]
    assert names == sorted(names) and "orin/build.sh" in names and "orin/manifest.json" in names
    assert {(entry.mtime, entry.uid, entry.uname) for entry in entries} == {(0, 0, "")}


def test_manifest_names_every_file_and_the_chain(orin: Path) -> None:
    manifest = read_bundle(orin)
    found = {path.relative_to(orin).as_posix() for path in orin.rglob("*") if path.is_file()}
    assert found == {*manifest["files"], "manifest.json"}
    assert manifest["needs"]["compute_capability"] == "8.7" and manifest["needs"]["software"] == "JetPack 6.2"
    assert manifest["chain"]["onnx"] == MADE["chain"]["onnx"]
    assert manifest["chain"]["graph"] == manifest["files"]["model.onnx"]
    assert manifest["gate"]["passed"] and manifest["gate"]["wer"] == 0
    assert [item.expected for item in read_clips(orin)] == [item.reference for item in gate_clips()]


def test_graph_that_reads_badly_makes_no_bundle(exported: ExportReport, tmp_path: Path) -> None:
    graph = read_model(exported.path)
    weight = max(graph.graph.initializer, key=lambda item: numpy_helper.to_array(item).size)
    weight.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weight), weight.name))
    with pytest.raises(CriterionFailed, match="failed the WER gate"):
        bundle_for(ORIN, exported, tmp_path / "orin", graph=graph)
    assert not list(tmp_path.iterdir())


def test_what_does_not_fit_together(exported: ExportReport, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="another contract"):
        bundle_for(ORIN, exported, tmp_path / "orin", contract=contract(name="other"))
    with pytest.raises(BadInput, match="no chain"):
        bundle_for(ORIN, exported, tmp_path / "orin", made={})
    with pytest.raises(BadInput, match="nothing can be judged"):
        bundle_for(ORIN, exported, tmp_path / "orin", gate_clips=[])
    openvino = resolve(ORIN)._replace(software=resolve(ORIN).software.model_copy(update={"runtime": "openvino"}))
    with pytest.raises(Refused, match="no bundle is made"):
        bundle_for(ORIN, exported, tmp_path / "orin", target=openvino)
    assert not list(tmp_path.iterdir())


def test_contract_is_put_into_a_graph_without_one(exported: ExportReport, tmp_path: Path) -> None:
    graph = read_model(exported.path)
    del graph.metadata_props[:]
    made = bundle_for(ORIN, exported, tmp_path / "orin", graph=graph)
    assert Engine.from_onnx(made.folder / "model.onnx", 1).contract == contract()
    assert not graph.metadata_props, "the caller's graph was changed"


def test_float16_is_judged_with_every_rounding(exported: ExportReport, tmp_path: Path) -> None:
    clips = [prepare(contract(), item.clip, None) for item in gate_clips()]
    half = make_precision(read_model(exported.path), "fp16", clips).model
    made = bundle_for(ORIN, exported, tmp_path / "orin", graph=half, precision="fp16")
    assert made.manifest["gate"]["passed"]
    graphs = {name: read_model(made.folder / name) for name in ("model.onnx", "judged.onnx")}
    types = {name: {item.data_type for item in graph.graph.initializer} for name, graph in graphs.items()}
    assert onnx.TensorProto.FLOAT16 in types["model.onnx"] and onnx.TensorProto.FLOAT16 not in types["judged.onnx"]
    done = run_command(made.folder, "--cpu")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("version", PYTHONS)
def test_sources_are_closed(orin: Path, version: str) -> None:
    """Everything in the bundle imports alone, with numpy and nothing else."""
    command = [python_of(version), "-I", "-B", "-c", IMPORTS, str(orin / "python")]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    assert [name for name in ast.literal_eval(done.stdout) if not name.startswith("numpy")] == []


def test_sources_hold_nothing_of_the_workshop() -> None:
    names = {path.name for path in device_sources()}
    assert {"build.py", "decode.py", "wer.py", "bootstrap.py", "preprocess.py", "contract.py", "atomic.py"} <= names
    assert not {"video.py", "overlay.py", "live.py", "cli.py"} & names


def test_engine_on_this_cpu(here: Path, tmp_path: Path) -> None:
    done = run_command(here, "--out", "made")
    assert done.returncode == 0, done.stderr
    engine = Engine.open(tmp_path / "made" / "engine", threads=1)
    clip = gate_clips()[0]
    assert tuple(engine.recognise(clip.clip)) == clip.reference
    manifest = dict(engine.manifest)
    assert manifest["gate"]["passed"] and manifest["latency"]["samples"] >= 10 and manifest["plan"] == MADE["plan"]
    assert set(manifest["chain"]) >= {"onnx", "graph", "bundle", "engine", "gate_clips"}
    again = run_command(here, "--out", "made")
    assert again.returncode == 2 and "already exists" in again.stderr


@pytest.mark.parametrize("version", PYTHONS)
def test_engine_on_pythons_of_devices(here: Path, tmp_path: Path, version: str) -> None:
    python = python_of(version)
    if not abi.installed():
        pytest.skip("libsignedge is not built (make library)")
    done = run_command(here, python=python, SIGNEDGE_LIBRARY=abi.library_path())
    assert done.returncode == 0, done.stderr
    assert f"python: {version}" in done.stdout and "through libsignedge" in done.stdout
    manifest = json.loads((here / "engine" / "manifest.json").read_text())
    assert manifest["gate"]["wer"] == 0 and manifest["versions"]["python"].startswith(version)


def test_engine_that_reads_badly_is_not_kept(here: Path) -> None:
    rewrite_clips(here, reference=["RED"], baseline=["RED"])
    done = run_command(here)
    assert done.returncode == 1 and "failed the WER gate" in done.stderr
    assert not (here / "engine").exists() and (here / "logs" / "gate.json").is_file()
    assert "failed the WER gate" in (here / "logs" / "error.log").read_text()


def test_what_else_lies_in_logs_stays(here: Path, tmp_path: Path) -> None:
    """`--out` is any folder, and its `logs` may be somebody's."""
    theirs = tmp_path / "home" / "logs" / "letters.txt"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    (theirs.parent / "error.log").write_text("of an earlier build")
    assert run_command(here, "--out", str(tmp_path / "home")).returncode == 0
    assert theirs.read_text() == "mine" and not (theirs.parent / "error.log").exists()
    assert not (tmp_path / "home" / "engine" / "letters.txt").exists()


def test_what_nobody_foresaw_is_no_failed_gate(here: Path) -> None:
    manifest = json.loads((here / "manifest.json").read_text())
    write_json(here / "manifest.json", {**manifest, "budget": "much"})
    done = run_command(here)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "unexpected ValueError" in done.stderr and "error.log" in done.stderr
    assert "Traceback" in (here / "logs" / "error.log").read_text() and not (here / "engine").exists()


def test_changed_and_missing_files_are_named(here: Path) -> None:
    with (here / "model.onnx").open("ab") as handle:
        handle.write(b"\0")
    done = run_command(here)
    assert done.returncode == 2 and "model.onnx is not the file" in done.stderr and not (here / "engine").exists()
    (here / "model.onnx").unlink()
    assert "model.onnx is missing" in run_command(here).stderr
    (here / "manifest.json").write_text("{}")
    assert "is not a bundle" in run_command(here).stderr


def test_cpu_check(orin: Path, tmp_path: Path) -> None:
    """The CPU path of a bundle for another machine: the same glosses, no engine."""
    done = run_command(orin, "--cpu", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "all 6 clips are read as where the bundle was made" in done.stdout
    assert not (tmp_path / "out" / "engine").exists()


def test_cpu_check_finds_another_reading(here: Path) -> None:
    rewrite_clips(here, expected=["RED"])
    done = run_command(here, "--cpu")
    assert done.returncode == 1 and "6 of 6 clips are read otherwise here" in done.stderr and "dev0" in done.stderr


def test_wrong_machine_is_refused_with_every_reason(orin: Path, tmp_path: Path) -> None:
    root = fake_jetson(tmp_path / "root", l4t="35 4.1", chip="tegra194", model="AGX Xavier")
    done = run_command(orin, "--out", str(tmp_path / "out"), SIGNEDGE_ROOT=str(root))
    assert done.returncode == 3 and len(done.stderr.splitlines()) == 1
    for reason in ("for JetPack 6.2, this machine has JetPack 5 (L4T 35.4.1)", "compute capability 8.7", "has 7.2"):
        assert reason in done.stderr
    told = json.loads((tmp_path / "out" / "logs" / "machine.json").read_text())
    assert told["model"] == "NVIDIA Jetson AGX Xavier Developer Kit"


def test_missing_tensorrt_says_how_to_get_it(orin: Path, tmp_path: Path) -> None:
    done = run_command(orin, "--out", str(tmp_path / "out"), SIGNEDGE_ROOT=str(fake_jetson(tmp_path / "root")))
    assert done.returncode == 3 and "JetPack 5" not in done.stderr
    assert "tensorrt is missing" in done.stderr and "sudo apt install tensorrt" in done.stderr


def test_rtx_plan_is_built_and_cannot_be_judged_without_a_gpu(exported: ExportReport, tmp_path: Path) -> None:
    python = python_of("", "tensorrt_rtx")
    bundle = bundle_for(RTX, exported, tmp_path / "rtx").folder
    done = run_command(bundle, python=python)
    if done.returncode == 0:
        pytest.skip("this machine has the GPU")
    assert done.returncode == 3, done.stderr
    if "compute capability" in done.stderr:
        pytest.skip("this machine has another GPU")
    assert "KiB with tensorrt_rtx" in done.stdout and "without a working CUDA driver it cannot be judged" in done.stderr
    assert not (bundle / "engine").exists() and (bundle / "logs" / "build.log").stat().st_size > 0
    assert isinstance(json.loads((bundle / "logs" / "layers.json").read_text()), list)


@pytest.fixture
def t4(exported: ExportReport, tmp_path: Path) -> dict[str, str]:
    """A bundle for a T4 in `bundle`, and the variables of a machine that has a stand-in of one, without a module."""
    bundle_for(T4, exported, tmp_path / "bundle")
    return stand_in_t4(tmp_path)


def test_plan_by_trtexec_passes_its_gate(t4: dict[str, str], tmp_path: Path) -> None:
    """The whole way to a TensorRT engine, with stand-ins for what needs a GPU: driver and trtexec."""
    done = run_command(tmp_path / "bundle", **t4)
    assert done.returncode == 0, done.stderr
    assert "gpu: Stand-in" in done.stdout and "building with trtexec 10.3.0" in done.stdout
    assert "of its layers nothing is told" in done.stdout
    folder = tmp_path / "bundle" / "engine"
    manifest = read_manifest(folder)
    assert manifest["runtime"] == "tensorrt"
    assert {"engine.plan", "contract.json", "layers.json", "build.log"} <= set(manifest["files"])
    assert manifest["plan_facts"]["compute_capability"] == "7.5" and manifest["plan_facts"]["version"] == "10.3.0.26"
    assert manifest["gate"]["wer"] == 0 and manifest["latency"]["what"] == "not timed"
    check_plan(manifest["plan_facts"], manifest["plan_facts"], (folder / "engine.plan").read_bytes())


def test_what_was_not_left_to_the_dla_is_told(
    exported: ExportReport, t4: dict[str, str], tmp_path: Path
) -> None:
    """A T4 has none; the stand-in builds whatever is asked for, and lists a layer that is not on it."""
    request = {"profiles": [{"min": 4, "opt": 64, "max": 160}], "dla_core": 0}
    bundle_for(T4, exported, tmp_path / "dla", request=request)
    done = run_command(tmp_path / "dla", **t4)
    assert done.returncode == 0 and "fell back: convolution (DLA, got GPU)" in done.stdout, done.stdout + done.stderr
    kept = read_manifest(tmp_path / "dla" / "engine")["inside"]["fallbacks"]
    assert kept == [{"node": "convolution", "wanted": "DLA", "got": "GPU"}]


def test_the_next_build_starts_from_the_timings_of_the_last(t4: dict[str, str], tmp_path: Path) -> None:
    for number in (1, 2):
        assert run_command(tmp_path / "bundle", "--out", str(tmp_path / f"out{number}"), **t4).returncode == 0
    (kept,) = (tmp_path / "cache").rglob("*.timing")
    assert kept.read_bytes() == b"timed timed " and kept.name.startswith("trtexec-10.3.0-Stand-in")


def test_other_gpu_and_older_tensorrt_are_refused(t4: dict[str, str], tmp_path: Path) -> None:
    done = run_command(tmp_path / "bundle", **{**t4, "HOST_CUDA_CAPABILITY": "8.9"})
    assert done.returncode == 3 and "for compute capability 7.5, Stand-in has 8.9" in done.stderr
    stand_in_trtexec(tmp_path / "programs", "8601", (8, 6, 1, 0))
    done = run_command(tmp_path / "bundle", **t4)
    assert done.returncode == 3 and "lowered for tensorrt 10.3, this machine has 8.6.1" in done.stderr


def test_old_python_and_missing_numpy_are_told(here: Path, tmp_path: Path) -> None:
    assert "there is no no-such-python here" in run_command(here, python="no-such-python").stderr
    old = tmp_path / "old"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.6.9\nexit 1\n')
    old.chmod(0o755)
    done = run_command(here, python=str(old))
    assert done.returncode == 2 and "Python 3.6.9 is too old" in done.stderr
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    done = run_command(here, python=str(bare))
    assert done.returncode == 2 and "has no numpy" in done.stderr


def test_two_builds_do_not_meet(here: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with (tmp_path / "out" / ".building").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        done = run_command(here, "--out", str(tmp_path / "out"))
    assert done.returncode == 2 and "another build is at work" in done.stderr


def test_full_disk_leaves_no_engine(here: Path, tiny_disk: Path) -> None:
    done = run_command(here, "--out", str(tiny_disk / "out"))
    assert done.returncode == 2 and "No space left on device" in done.stderr and "Traceback" not in done.stderr
    assert not (tiny_disk / "out" / "engine").exists()


@pytest.mark.parametrize("target, run", [("jetson-nano@4.6", False), ("jetson-xavier-nx@5.1", True), (RTX, True)])
def test_readme_promises_to_run_only_what_is_run(
    exported: ExportReport, tmp_path: Path, target: str, run: bool
) -> None:
    """Plans of TensorRT before 8.5 are built, judged and kept; trtexec runs them."""
    text = (bundle_for(target, exported, tmp_path / "bundle").folder / "README.txt").read_text()
    assert ('Engine.open("engine")' in text) is run and ("with TensorRT in it" in text) is run
    assert ("trtexec --loadEngine=engine/engine.plan" in text) is not run
    assert ("runs plans of TensorRT\n8.2.1, which is older" in text) is not run
    assert "{" not in text


def test_graph_that_readme_names_is_read_on_the_cpu(exported: ExportReport, tmp_path: Path) -> None:
    engine = Engine.from_onnx(bundle_for("jetson-nano@4.6", exported, tmp_path / "bundle").folder / "model.onnx", 1)
    assert [tuple(engine.recognise(item.clip)) for item in gate_clips()] == [item.reference for item in gate_clips()]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="a C++ compiler is needed")
@pytest.mark.parametrize("headers", ["", "#define NV_TENSORRT_MAJOR 8\n#define NV_TENSORRT_MINOR 2\n"])
def test_library_builds_from_the_sources_in_the_bundle(here: Path, tmp_path: Path, headers: str) -> None:
    """Without TensorRT's headers, and with those of a version that its backend does not know."""
    if headers:
        (tmp_path / "NvInfer.h").write_text(headers)
        (tmp_path / "cuda.h").touch()
    done = subprocess.run(
        ["sh", str(here / "native" / "build.sh")], capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "CPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = run_command(here, "--cpu", python=python_of("3.8"))
    assert done.returncode == 0 and "through libsignedge" in done.stdout, done.stderr


@pytest.fixture
def arm(tmp_path: Path) -> tuple[str, Path]:
    """A real Python of 64-bit ARM with numpy, emulated by qemu, and ONNX Runtime's library for it."""
    root, library = (Path(os.environ.get(name) or "/nowhere") for name in (ARM_ROOT, ARM_ONNXRUNTIME))
    found = sorted(root.glob("usr/bin/python3.*[0-9]"))
    tools = [shutil.which(tool) for tool in ("qemu-aarch64-static", "aarch64-linux-gnu-gcc", "aarch64-linux-gnu-g++")]
    if not all(tools) or not found or not library.is_file():
        pytest.skip(f"qemu-user-static, g++-aarch64-linux-gnu, ${ARM_ROOT} and ${ARM_ONNXRUNTIME} are needed")
    cpuinfo = tmp_path / "libarm_cpuinfo.so"
    source = Path(__file__).parents[1] / "runtime" / "native" / "arm_cpuinfo.c"
    subprocess.run([str(tools[1]), "-shared", "-fPIC", str(source), "-o", str(cpuinfo), "-ldl"], check=True)
    python = tmp_path / "python-arm"
    emulated = f"{tools[0]} -cpu cortex-a76 -L {root} -E LD_PRELOAD={cpuinfo} {found[0]}"
    python.write_text(f'#!/bin/sh\nexec {emulated} "$@"\n')
    python.chmod(0o755)
    return str(python), library


def test_arm_reads_what_x86_reads(exported: ExportReport, arm: tuple[str, Path], tmp_path: Path) -> None:
    """The one command of a Jetson's bundle on an emulated ARM, with the libraries that the bundle brings."""
    python, library = arm
    made = bundle_for(ORIN, exported, tmp_path / "orin", onnxruntime=library)
    done = run_command(made.folder, "--cpu", python=python, SIGNEDGE_ONNXRUNTIME_LIBRARY="")
    assert done.returncode == 0, done.stderr
    assert "machine: aarch64" in done.stdout and "through libsignedge" in done.stdout
    assert "all 6 clips are read as where the bundle was made" in done.stdout


def test_arm_makes_its_own_engine(exported: ExportReport, arm: tuple[str, Path], tmp_path: Path) -> None:
    python, library = arm
    made = bundle_for("raspberry-pi-5", exported, tmp_path / "pi", onnxruntime=library)
    done = run_command(made.folder, python=python, SIGNEDGE_ONNXRUNTIME_LIBRARY="")
    assert done.returncode == 0, done.stderr
    engine = Engine.open(made.folder / "engine", threads=1)
    assert engine.manifest["target"] == "raspberry-pi-5" and engine.manifest["host"]["machine"] == "aarch64"
    assert engine.manifest["gate"]["wer"] == 0


def test_clips_of_keypoints(tmp_path: Path) -> None:
    points = np.arange(24, dtype="<f4").reshape(2, 4, 3)
    (tmp_path / CLIPS).parent.mkdir()
    points.tofile(tmp_path / "clips" / "0.float32")
    row = {"id": "a", "file": "clips/0.float32", "type": "float32", "shape": [2, 4, 3]}
    told = {"reference": ["A"], "baseline": [], "expected": []}
    write_json(tmp_path / CLIPS, {"clips": [{**row, **told}]})
    (read,) = read_clips(tmp_path)
    np.testing.assert_array_equal(read.clip, points)
    write_json(tmp_path / CLIPS, {"clips": [{**row, **told, "shape": [3, 4, 3]}]})
    with pytest.raises(BadInput, match="24 values"):
        list(read_clips(tmp_path))
