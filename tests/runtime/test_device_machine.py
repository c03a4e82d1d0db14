"""The device side: what a machine tells of itself, whether it fits, how it is judged and timed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from runtime.device.builders import _built_on
from runtime.device.fitting import Needs, misfits, reads, require_fit, way
from runtime.device.folder import GateClip
from runtime.device.judging import judge, require
from runtime.device.machine import Machine, look
from runtime.device.timing import time_calls
from runtime.errors import BadInput, CriterionFailed, Refused
from runtime.trt import cuda
from runtime.trt.build import BuildResult

ORIN = Machine(
    architecture="aarch64", python="3.10.12", model="NVIDIA Jetson Orin Nano Developer Kit", l4t="36.4.3", jetpack="6",
    gpu="Orin", driver="12.6", compute_capability="8.7", tensorrt={"tensorrt": "10.3.0", "trtexec": "10.3.0"},
    trtexec="/usr/src/tensorrt/bin/trtexec", notes=(),
)  # fmt: skip
NEEDS = Needs("jetson-orin-nano-8gb", ("aarch64",), "JetPack 6.2", "tensorrt", "10.3.0", "8.7")


def jetson(root: Path, release: str, compatible: str = "nvidia,p3768-0000+p3767-0005\0nvidia,tegra234\0") -> Path:
    for name, text in {
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
        "proc/device-tree/compatible": compatible,
        "etc/nv_tegra_release": release,
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_jetson_tells_what_it_is(tmp_path: Path) -> None:
    found = look(jetson(tmp_path, "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n"))
    assert (found.l4t, found.jetpack, found.model) == ("36.4.3", "6", "NVIDIA Jetson Orin Nano Developer Kit")
    if not found.driver:
        assert found.compute_capability == "8.7", "by its chip"
    assert found.described()["jetpack"] == "6 (L4T 36.4.3)"


@pytest.mark.parametrize("release", ["", "R36", "# R99 (release), REVISION: 1.0"])
def test_what_is_not_known_stays_empty(tmp_path: Path, release: str) -> None:
    found = look(jetson(tmp_path, release, "nvidia,tegra999\0"))
    assert found.jetpack == "" and (found.driver or found.compute_capability == "")


def test_a_machine_that_is_no_jetson(tmp_path: Path) -> None:
    found = look(tmp_path)
    assert (found.model, found.l4t, found.jetpack) == ("", "", "") and "jetpack" not in found.described()


def test_the_right_machine_fits() -> None:
    assert misfits(NEEDS, ORIN) == []
    require_fit(NEEDS, ORIN)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architecture": "x86_64"}, "this machine is x86_64, the target is aarch64"),
        ({"l4t": "", "jetpack": ""}, "no Jetson with JetPack 6.2"),
        ({"l4t": "35.4.1", "jetpack": "5"}, "has JetPack 5 (L4T 35.4.1)"),
        ({"l4t": "99.1", "jetpack": ""}, "a JetPack unknown here"),
        ({"compute_capability": "7.2"}, "Orin has 7.2"),
        ({"tensorrt": {}}, "tensorrt is missing"),
        ({"tensorrt": {"tensorrt": "8.5.2"}}, "lowered for tensorrt 10.3.0, this machine has 8.5.2"),
        ({"tensorrt": {"trtexec": ""}}, "of a version that it does not tell"),
        ({"driver": ""}, "no working CUDA driver"),
    ],
)
def test_every_reason_against_a_machine(changes: dict[str, object], reason: str) -> None:
    (found,) = misfits(NEEDS, dataclasses.replace(ORIN, **changes))
    assert reason in found
    with pytest.raises(Refused, match="is not built here"):
        require_fit(NEEDS, dataclasses.replace(ORIN, **changes))


def test_a_broken_module_is_told() -> None:
    note = "the Python module tensorrt is there and cannot be imported: libnvinfer.so.10: cannot open"
    (found,) = misfits(NEEDS, dataclasses.replace(ORIN, tensorrt={}, notes=(note, "no trtexec")))
    assert note in found and "no trtexec" not in found


def test_rtx_builds_without_a_driver() -> None:
    needs = dataclasses.replace(NEEDS, runtime="tensorrt-rtx", version="1.5", software="TensorRT-RTX")
    assert misfits(needs, dataclasses.replace(ORIN, driver="", tensorrt={"tensorrt_rtx": "1.7.1.116"})) == []
    (reason,) = misfits(needs, ORIN)
    assert "tensorrt-rtx is missing" in reason and "trtexec" not in reason


@pytest.mark.parametrize(
    ("tensorrt", "expected"),
    [
        ({"tensorrt": "10.3.0", "trtexec": "10.3.0"}, "tensorrt"),
        ({"trtexec": "10.3.0"}, "trtexec"),
        ({"tensorrt": "8.2.1", "trtexec": "8.2.1"}, "trtexec"),
        ({"tensorrt": "8.2.1"}, "tensorrt"),
        ({"tensorrt_rtx": "1.7.1"}, ""),
    ],
)
def test_how_tensorrt_is_reached(tensorrt: dict[str, str], expected: str) -> None:
    assert way(NEEDS, dataclasses.replace(ORIN, tensorrt=tensorrt)) == expected


@pytest.mark.parametrize(
    ("version", "asked", "expected"),
    [("10.3.0", "10.3", True), ("10.16.2", "10.3", True), ("10.3.0", "10.13.3", False), ("8.6.1", "10.3", False),
     ("11.1", "10.3", False), ("", "10.3", False), ("10", "10.3", False)],
)  # fmt: skip
def test_versions_that_read_what_was_lowered(version: str, asked: str, expected: bool) -> None:
    assert reads(version, asked) is expected


def test_needs_must_be_whole() -> None:
    raw = {**dataclasses.asdict(NEEDS), "machines": ["aarch64"]}
    assert Needs.from_dict(raw) == NEEDS
    for broken in ({}, None, {**raw, "more": 1}, {name: raw[name] for name in list(raw)[1:]}):
        with pytest.raises(BadInput, match="must say of its machine"):
            Needs.from_dict(broken)


def clip(number: int, reference: str, baseline: str, expected: str) -> GateClip:
    words = (tuple(text.split()) for text in (reference, baseline, expected))
    return GateClip(f"c{number}", np.full((1, 1), number, np.uint8), *words)


def test_verdict_counts_what_changed() -> None:
    clips = [clip(0, "A B", "A B", "A B"), clip(1, "A B", "A", "A C")]
    read = {0: ["A", "B"], 1: ["A", "C"]}
    verdict = judge(lambda values: read[int(values[0, 0])], clips, budget=0.5)
    assert (verdict.wer, verdict.baseline_wer, verdict.rise) == (25.0, 25.0, 0.0)
    assert verdict.changed == 1 and verdict.unexpected == () and verdict.passed
    worse = judge(lambda values: [], clips, budget=0.5)
    assert worse.rise == 75.0 and worse.unexpected == ("c0", "c1")
    with pytest.raises(CriterionFailed, match=r"X failed the WER gate: WER 100\.00 % on 2 clips, fp32 25\.00 %"):
        require(worse, "X")
    require(verdict, "X")


def test_no_clips_no_verdict() -> None:
    for clips in ([], [clip(0, "", "", "")]):
        with pytest.raises(BadInput, match="nothing can be judged"):
            judge(lambda values: [], clips, budget=0.5)


def test_percentiles_need_samples() -> None:
    calls = []
    few = time_calls(lambda: calls.append(1), seconds=0)
    assert few["samples"] == 10 and len(calls) == 10 + few["warm_up"] and "p90_ms" not in few
    many = time_calls(lambda: None, seconds=60)
    assert many["samples"] == 2000 and many["min_ms"] <= many["median_ms"] <= many["p90_ms"] <= many["p99_ms"]


def test_a_plan_of_old_trtexec_is_of_the_version_that_it_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans name their version since 8.6 alone: JetPack 4 and 5 have older."""
    monkeypatch.setattr(cuda, "gpu", lambda: cuda.Gpu("Xavier", "7.2", 6, "11.4"))
    for version, plan, told in (
        ("8.2.1", b"ptrt" + bytes(60), "8.2.1"), ("8.5.2", b"ptrt" + bytes(60), "8.5.2"),
        ("10.3.0", b"ftrt" + bytes(20) + bytes([10, 3, 0, 30]), "10.3.0.30"),
    ):  # fmt: skip
        machine = dataclasses.replace(ORIN, tensorrt={"trtexec": version})
        found = _built_on("tensorrt", "trtexec", BuildResult(plan, [], [], b""), machine)
        assert (found["version"], found["gpu"], found["sms"]) == (told, "Xavier", "6")
    with pytest.raises(BadInput, match="not a TensorRT plan"):
        _built_on("tensorrt", "trtexec", BuildResult(b"ptrt" + bytes(60), [], [], b""), machine)
