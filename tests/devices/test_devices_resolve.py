"""Families and software: the module, the JetPack and the CPU at hand, from files as real devices have them."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from device_files import BOARDS, board, written

from devices import jetson, nvidia
from devices import profile as profiles
from devices.host import Host
from runtime.errors import BadInput, Refused


@pytest.mark.parametrize("name", BOARDS)
def test_jetson_is_the_module_at_hand_with_its_jetpack(tmp_path: Path, name: str) -> None:
    model, compatible, l4t, memory_kb, wanted, key, jetpack = BOARDS[name]
    found = profiles.resolve("jetson", board(tmp_path, model, compatible, l4t, memory_kb))
    assert (found.profile.name, found.software.key, found.at_hand) == (wanted, key, True)
    assert len(found.said) == 1 and f"{wanted} at hand: {jetpack} (L4T" in found.said[0]
    assert [item.name for item in profiles.here(tmp_path)] == [wanted]


def test_the_default_elsewhere_is_said_aloud(tmp_path: Path) -> None:
    found = profiles.resolve("jetson", tmp_path)
    assert (found.profile.name, found.software.name, found.at_hand) == ("jetson-orin-nano-8gb", "JetPack 6.2", False)
    assert "no Jetson here: jetson means jetson-orin-nano-8gb with JetPack 6.2" in found.said[0]
    assert profiles.resolve("jetson@7.2", tmp_path).software.dialect == "tensorrt-10.16"


def test_software_is_chosen_after_the_at(tmp_path: Path) -> None:
    found = profiles.resolve("jetson-xavier-nx@5.1", tmp_path)
    assert found.software.dialect == "tensorrt-8.5" and not found.said and not found.at_hand
    assert profiles.resolve("jetson-orin-nano-8gb@6.2.1", tmp_path).software.key == "6.2"  # a release within the row
    assert profiles.resolve("rtx-4090@tensorrt-rtx", tmp_path).software.runtime == "tensorrt-rtx"
    with pytest.raises(BadInput, match=r"jetson-nano has no software '6\.2'; it has: 4\.6"):
        profiles.resolve("jetson-nano@6.2", tmp_path)
    with pytest.raises(BadInput, match="no target 'toaster'"):
        profiles.resolve("toaster@6.2", tmp_path)


def test_other_software_than_at_hand_is_not_at_hand(tmp_path: Path) -> None:
    root = board(tmp_path, *BOARDS["orin nano 4gb"][:4])
    same, other = (profiles.resolve(f"jetson-orin-nano-4gb{key}", root) for key in ("@6.2", "@5.1"))
    assert same.at_hand and not other.at_hand
    assert other.said == ("JetPack 5.1 was asked for; this machine has JetPack 6.2",)
    assert not profiles.resolve("jetson-orin-nano-8gb", root).at_hand


def test_memory_tells_sisters_apart(tmp_path: Path) -> None:
    tree = "nvidia,p3768-0000+p3767-0003 nvidia,tegra234"
    found = profiles.resolve("jetson", board(tmp_path / "a", "NVIDIA Jetson Orin Nano", tree, memory_kb=3608000))
    assert found.profile.name == "jetson-orin-nano-4gb" and "though the device tree names" in found.said[0]
    tree = "nvidia,p3737-0000+p3701-0000 nvidia,tegra234"  # the first developer kits: the full GPU, 32 GB
    found = profiles.resolve("jetson", board(tmp_path / "b", "NVIDIA Jetson AGX Orin", tree, memory_kb=31282560))
    assert found.profile.name == "jetson-agx-orin-64gb" and "30549 MiB" in found.said[0]


def test_foreign_carrier_is_recognised_by_chip_memory_and_model(tmp_path: Path) -> None:
    names = {3608000: "jetson-orin-nano-4gb", 15655940: "jetson-orin-nx-16gb", 31282560: "jetson-agx-orin-32gb",
             64325016: "jetson-agx-orin-64gb"}  # fmt: skip
    for memory_kb, name in names.items():
        root = board(tmp_path / str(memory_kb), "Some Robot", "acme,robot nvidia,tegra234", memory_kb=memory_kb)
        found = profiles.resolve("jetson", root)
        assert found.profile.name == name and "acme,robot" in found.said[0]
    worded = board(tmp_path / "worded", "ACME carrier with Orin NX", "acme,robot nvidia,tegra234")
    assert profiles.resolve("jetson", worded).profile.name == "jetson-orin-nx-8gb"


@pytest.mark.parametrize(
    "model, compatible, l4t, memory_kb, words",
    [
        ("Some Robot", "acme,robot nvidia,tegra234", ("36", "4.3"), 7802996,
         "module is not known; read: 'Some Robot', acme,robot nvidia,tegra234, L4T 36.4.3, 7620 MiB; .*orin-nx-8gb"),
        ("TX2 NX", "nvidia,p3509-0000+p3636-0001 nvidia,tegra186", ("32", "7.1"), 3900000, "not known.*jetson-tx2"),
        ("Next", "nvidia,p9999-0000 nvidia,tegra999", ("45", "1.0"), 7802996, "not known.*tegra999.*jetson-t5000"),
        (*BOARDS["nano"][:2], ("32", "6.1"), 4059304, "JetPack 4.6 .L4T 32.6.1. has TensorRT 8.0.1.*4.6.1 or later"),
        (*BOARDS["nano"][:2], ("36", "4.3"), 4059304, "JetPack 6.2 .L4T 36.4.3. is not known to run on jetson-nano"),
        (*BOARDS["thor"][:2], ("41", "1.0"), 128800000, "L4T 41.1.0 is not known.*by hand: jetson-t5000@7.2"),
        (*BOARDS["thor"][:2], None, 128800000, "tells no L4T release, neither in /etc/nv_tegra_release nor"),
    ],
)  # fmt: skip
def test_what_is_unknown_is_refused_with_what_was_read(
    tmp_path: Path, model: str, compatible: str, l4t: tuple[str, str] | None, memory_kb: int, words: str
) -> None:
    root = board(tmp_path, model, compatible, l4t, memory_kb)
    with pytest.raises(Refused, match=words):
        profiles.resolve("jetson", root)


def test_a_choice_by_hand_overrides_an_unknown_release(tmp_path: Path) -> None:
    root = board(tmp_path, *BOARDS["thor"][:2], ("41", "1.0"), 128800000)
    found = profiles.resolve("jetson@7.2", root)
    assert found.software.key == "7.2" and not found.at_hand
    assert found.said == ("JetPack 7.2 was asked for; this machine has L4T 41.1.0",)


def test_a_container_tells_its_release_by_package(tmp_path: Path) -> None:
    root = board(tmp_path, *BOARDS["orin nano 4gb"][:2], None, 3608000)
    status = "Package: libc6\nVersion: 2.35\n\nPackage: nvidia-l4t-core\nStatus: install ok installed\nSection: base\n"
    status += "Description: core\n of it\nVersion: 36.4.4-20250616085344\nDepends: x\n\nPackage: zlib\nVersion: 9.9\n"
    written(root, {jetson.PACKAGES: status})
    assert "JetPack 6.2.1 (L4T 36.4.4)" in profiles.resolve("jetson", root).said[0]


def test_tokens_are_numbers_without_vendor_and_revision(tmp_path: Path) -> None:
    found = jetson.read(board(tmp_path, *BOARDS["nano"][:2]))
    assert found is not None and found.soc == "tegra210" and found.model == "NVIDIA Jetson Nano Developer Kit"
    assert jetson.tokens(found) == ["p3449-0000", "p3448-0000", "jetson-nano", "tegra210"]
    assert jetson.read(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    "flags, name, present",
    [
        ("flags : fpu sse4_2 avx avx2 avx512f avx512_vnni", "x86-vnni", True),
        ("flags : fpu sse4_2 avx avx2 avx_vnni", "x86-vnni", True),
        ("flags : fpu sse4_2 avx avx2", "x86-avx2", True),
        ("flags : fpu sse4_2", "x86-avx2", True),
        ("Features : fp asimd", "x86-vnni", False),
    ],
)
def test_x86_cpu_is_the_cpu_at_hand(tmp_path: Path, flags: str, name: str, present: bool) -> None:
    found = profiles.resolve("x86-cpu", written(tmp_path, {"proc/cpuinfo": f"model name : CPU\n{flags}\n"}))
    assert (found.profile.name, found.at_hand, found.software.runtime) == (name, present, "onnxruntime")
    assert bool(found.said) == ("avx2" not in flags)  # the nearest target, or the default: said
    if present:  # what stands for a machine runs on it
        host = Host("CPU", "x86_64", 1, tuple(flags.split()[2:]), None, "Linux")
        assert found.profile.runs_on(host)


def test_raspberry_pi_is_recognised_by_its_board(tmp_path: Path) -> None:
    files = {"proc/cpuinfo": "Features : fp asimd asimddp\n", jetson.MODEL: "Raspberry Pi 5 Model B Rev 1.0\0",
             jetson.COMPATIBLE: "raspberrypi,5-model-b\0brcm,bcm2712\0"}  # fmt: skip
    root = written(tmp_path, files)
    assert jetson.read(root) is None
    assert [item.name for item in profiles.here(root)] == ["raspberry-pi-5"]
    assert profiles.resolve("raspberry-pi-5", root).at_hand and not profiles.resolve("raspberry-pi-4", root).at_hand


def test_gpus_are_what_nvidia_smi_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert nvidia.gpus() == []
    tool = tmp_path / "nvidia-smi"
    for body in ("echo 'NVIDIA H200, 9.0, 143771, 550.90.07'", "exit 9", "echo 'Failed to initialize NVML'"):
        tool.write_text(f"#!/bin/sh\n{body}\n")
        tool.chmod(0o755)
        assert [gpu.name for gpu in nvidia.gpus()] == ["NVIDIA H200"] * ("H200" in body)
    tool.write_text("#!/bin/sh\necho 'NVIDIA H200, 9.0, 143771, 550.90.07'\n")
    assert "h200" in [item.name for item in profiles.here()] and profiles.resolve("h200").at_hand
    assert not profiles.resolve("h100").at_hand


def test_device_side_runs_on_the_oldest_python(tmp_path: Path) -> None:
    python = shutil.which(os.environ.get("SIGNEDGE_OLD_PYTHON", "python3.8"))
    if python is None or subprocess.run([python, "-V"], capture_output=True).returncode != 0:
        pytest.skip("no python3.8 here, nor does $SIGNEDGE_OLD_PYTHON name one")
    root = board(tmp_path, *BOARDS["xavier nx"][:4])
    code = "import sys; from pathlib import Path; from devices import host, jetson, nvidia; root = Path(sys.argv[1]); "
    code += "nvidia.gpus(); host.detect(root); print(jetson.read(root).l4t)"
    house = Path(profiles.__file__).parents[1]
    words = [python, "-c", code, str(root)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=house)
    assert done.stdout == "35.4.1\n"


@pytest.mark.parametrize("module", ["devices.host", "devices.jetson", "devices.nvidia"])
def test_device_side_needs_the_standard_library_only(module: str) -> None:
    code = f"import {module}, sys; print(sorted({{'pydantic', 'numpy', 'typer'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    path = Path(profiles.__file__).parent / f"{module.split('.')[1]}.py"
    ast.parse(path.read_text(), feature_version=(3, 8))
