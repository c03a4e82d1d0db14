"""Command lines of trtexec, version by version, and what is made of its answers. The program is a stand-in."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.errors import BadInput, Refused
from runtime.trt import trtexec
from runtime.trt.build import BuildRequest

BUCKETS = ({"min": 8, "opt": 32, "max": 64}, {"min": 65, "opt": 96, "max": 128})
VERSIONS = [(8, 2, 1), (8, 4, 1), (8, 5, 3), (8, 6, 1), (10, 3, 0), (10, 16, 2), (11, 4, 1)]


def command(version: tuple[int, ...], **changes: Any) -> list[str]:
    request = BuildRequest(changes.pop("profiles", BUCKETS[:1]), **changes)
    return trtexec.build_command("trtexec", version, request, (3, 56, 56), "a.onnx", "a.plan", "a.json", "a.cache")


@pytest.mark.parametrize("version", VERSIONS)
def test_what_every_version_is_told(version: tuple[int, ...]) -> None:
    words = command(version)
    assert words[:3] == ["trtexec", "--onnx=a.onnx", "--saveEngine=a.plan"]
    shapes = [f"--{word}Shapes=input:1x{frames}x3x56x56" for word, frames in BUCKETS[0].items()]
    assert {*shapes, "--profilingVerbosity=detailed", "--exportLayerInfo=a.json"} <= {*words}
    assert "--timingCacheFile=a.cache" in words
    assert all(trtexec.has_option(word.split("=")[0], version) for word in words)


@pytest.mark.parametrize(
    ("version", "changes", "word"),
    [
        ((8, 2, 1), {"workspace_mb": 512}, "--workspace=512"),
        ((8, 4, 1), {"workspace_mb": 512}, "--memPoolSize=workspace:512"),
        ((8, 2, 1), {}, "--buildOnly"),
        ((8, 6, 1), {}, "--skipInference"),
        ((8, 2, 1), {"fp16": True}, "--fp16"),
        ((8, 6, 1), {"int8": True}, "--int8"),
        ((8, 5, 3), {"fp16": True, "keep_fp32": ("a", "b")}, "--layerPrecisions=a:fp32,b:fp32"),
        ((10, 3, 0), {}, "--stronglyTyped"),
        ((10, 3, 0), {"strongly_typed": False, "fp16": True}, "--fp16"),
        ((8, 6, 1), {"version_compatible": True}, "--versionCompatible"),
        ((10, 3, 0), {"hardware_compatible": "ampere_plus"}, "--hardwareCompatibilityLevel=ampere+"),
        ((10, 3, 0), {"optimisation_level": 5}, "--builderOptimizationLevel=5"),
        ((8, 5, 3), {"dla_core": 1}, "--useDLACore=1"),
        ((8, 5, 3), {"dla_core": 1}, "--allowGPUFallback"),
    ],
)
def test_a_wish_becomes_the_option_of_its_version(
    version: tuple[int, ...], changes: dict[str, Any], word: str
) -> None:
    words = command(version, **changes)
    assert word in words
    assert all(trtexec.has_option(word.split("=")[0], version) for word in words)


@pytest.mark.parametrize(
    ("version", "changes", "says"),
    [
        ((8, 5, 3), {"version_compatible": True}, "no version-compatible plans"),
        ((8, 5, 3), {"optimisation_level": 3}, "no builder optimisation level"),
        ((10, 3, 0), {"fp16": True}, "takes types from the graph, not from fp16"),
        ((11, 4, 1), {"strongly_typed": False, "int8": True}, "takes types from the graph, not from int8"),
        ((10, 3, 0), {"compute_capabilities": ("8.9",)}, "GPU at hand"),
    ],
)
def test_what_a_version_lacks_is_refused(version: tuple[int, ...], changes: dict[str, Any], says: str) -> None:
    with pytest.raises(Refused, match=says):
        command(version, **changes)


def test_nodes_that_cannot_be_pinned_are_told() -> None:
    """JetPack 4.6 has no other way to FP16: it builds, and says what it could not hold."""
    request = BuildRequest(BUCKETS, strongly_typed=False, fp16=True, keep_fp32=("a", "b"))
    assert trtexec.unpinned((8, 2, 1), request) == ("a", "b") and trtexec.unpinned((8, 5, 3), request) == ()
    assert not any("precision" in word.lower() for word in command((8, 2, 1), fp16=True, keep_fp32=("a", "b")))


def test_buckets_are_profiles_from_9_on_and_one_span_before() -> None:
    new, old = command((10, 3, 0), profiles=BUCKETS), command((8, 5, 3), profiles=BUCKETS)
    at = new.index("--profile=1")
    assert "--maxShapes=input:1x64x3x56x56" in new[:at] and "--minShapes=input:1x65x3x56x56" in new[at:]
    assert not any(word.startswith("--profile=") for word in old)
    span = {"min": 8, "opt": 96, "max": 128}
    assert {f"--{word}Shapes=input:1x{frames}x3x56x56" for word, frames in span.items()} <= {*old}


def stand_in(tmp_path: Path, body: str) -> Path:
    """A program that is called as trtexec is; `options` are its --name=value."""
    program = tmp_path / "trtexec"
    program.write_text(
        f"#!{sys.executable}\nimport json, sys\nfrom pathlib import Path\n"
        "options = dict(word[2:].split('=', 1) for word in sys.argv[1:] if '=' in word)\n"
        "print('&&&& RUNNING TensorRT.trtexec [TensorRT v100300] [b26] # trtexec')\n"
        f"if '--help' in sys.argv:\n    sys.exit(0)\n{body}"
    )
    program.chmod(0o755)
    return program


def test_a_build_brings_plan_layers_log_and_timing_cache(tmp_path: Path) -> None:
    program = stand_in(tmp_path, """
Path(options['saveEngine']).write_bytes(Path(options['onnx']).read_bytes() + b' built')
cache = Path(options['timingCacheFile'])
cache.write_bytes((cache.read_bytes() if cache.is_file() else b'') + b'.')
Path(options['exportLayerInfo']).write_text(json.dumps({'Layers': ['conv'], 'Bindings': []}))
""")  # fmt: skip
    first = trtexec.build(program, b"graph", BuildRequest(BUCKETS), (3, 8, 8))
    second = trtexec.build(program, b"graph", BuildRequest(BUCKETS), (3, 8, 8), first.timing_cache)
    assert first.plan == b"graph built" and first.built_by == "trtexec 10.3.0"
    assert [layer["name"] for layer in first.layers] == ["conv"]
    assert (first.timing_cache, second.timing_cache) == (b".", b"..")
    assert any("RUNNING" in line for line in first.log)


def test_a_failure_tells_the_errors_of_trtexec(tmp_path: Path) -> None:
    program = stand_in(tmp_path, "print('[11/22/2026-10:00:00] [E] node 5 [Einsum]: ellipsis')\nsys.exit(1)\n")
    with pytest.raises(BadInput, match=r"trtexec failed \(status 1\): node 5 \[Einsum\]: ellipsis$"):
        trtexec.build(program, b"graph", BuildRequest(BUCKETS), (3, 8, 8))


def test_a_gpu_without_int8_is_refused_with_the_remedy(tmp_path: Path) -> None:
    said = "Networks with QuantizeLayer/DequantizeLayer layers require hardware with Int8 support"
    program = stand_in(tmp_path, f"print('[x] [E] {said}')\nsys.exit(1)\n")
    with pytest.raises(Refused, match="This GPU has no INT8: build FP16"):
        trtexec.build(program, b"graph", BuildRequest(BUCKETS), (3, 8, 8))


def test_success_without_a_plan_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="trtexec failed"):
        trtexec.build(stand_in(tmp_path, ""), b"graph", BuildRequest(BUCKETS), (3, 8, 8))


def test_a_plan_runs_through_trtexec(tmp_path: Path) -> None:
    program = stand_in(tmp_path, """
import struct
name, shape = options['shapes'].split(':')
data = Path(options['loadInputs'].split(':')[1]).read_bytes()
values = [2 * value for value in struct.unpack('<%df' % (len(data) // 4), data)]
Path(options['exportOutput']).write_text(json.dumps([{'name': 'log_probs', 'dimensions': shape, 'values': values}]))
""")  # fmt: skip
    x = np.arange(24, dtype=np.float32).reshape(1, 4, 6)
    np.testing.assert_array_equal(trtexec.log_probs(program, b"plan", x, BuildRequest(BUCKETS)), 2 * x)
    with pytest.raises(BadInput, match="no output 'scores'"):
        trtexec.log_probs(program, b"plan", x, BuildRequest(BUCKETS), output="scores")


@pytest.mark.parametrize(("said", "version"), [("v8201", (8, 2, 1)), ("v8503", (8, 5, 3)), ("v101602", (10, 16, 2))])
def test_the_version_is_read(tmp_path: Path, said: str, version: tuple[int, ...]) -> None:
    program = stand_in(tmp_path, "")
    program.write_text(program.read_text().replace("v100300", said))
    assert trtexec.version_of(program) == version


def test_what_is_not_trtexec_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not say"):
        trtexec.version_of("/bin/true")
    with pytest.raises(BadInput, match="cannot run"):
        trtexec.version_of(tmp_path / "absent")


def test_a_machine_without_trtexec_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trtexec, "PLACES", ())
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Refused, match="no trtexec here"):
        trtexec.find()


def test_a_plan_of_dla_runs_on_the_core_that_is_named() -> None:
    run = trtexec.run_command
    plain, dla = BuildRequest(BUCKETS), BuildRequest(BUCKETS, dla_core=1)
    assert "--useDLACore=1" in run("trtexec", "a.plan", "in", "out", (1, 8, 3), "input", dla)
    assert not [word for word in run("trtexec", "a.plan", "in", "out", (1, 8, 3), "input", plain) if "DLA" in word]


def test_ranges_go_through_a_calibration_cache() -> None:
    request = BuildRequest((), int8=True, strongly_typed=False, ranges={"conv1": 127.0, "a": 1.27})
    text = trtexec.calibration_cache((8, 5, 2), request)
    assert text == "TRT-8502-EntropyCalibration2\na: 3c23d70a\nconv1: 3f800000\n"
    assert trtexec.calibration_cache((10, 3, 0, 26), request).startswith("TRT-100300-")
    asked = {"int8": True, "strongly_typed": False, "ranges": {"a": 1.0}}
    assert "--calib=calibration" in command((8, 5, 3), **asked)
    with pytest.raises(Refused, match="not from int8, ranges"):
        command((11, 4, 1), **asked)


def test_a_network_of_one_length_is_given_no_shapes() -> None:
    """trtexec ends where it is given shapes for a network that leaves none open."""
    made = command((8, 5, 3), profiles=()) + command((10, 3, 0), profiles=())
    run = trtexec.run_command("trtexec", "a.plan", "in", "out", (1, 8, 3), "input", BuildRequest(()))
    assert not [word for word in [*made, *run] if "hapes" in word or "--profile=" in word]
