"""`signedge devices`: lists, shows, recognises; without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from device_files import BOARDS, board, written

import devices.cli
import signedge
from devices import profile as profiles


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = signedge.main(["devices", *words])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def test_list_names_every_target_in_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "list")
    assert status == 0 and all(f"  {name} " in out for name in profiles.names())
    assert {profiles.load(name).family for name in profiles.profile_names()} == set(devices.cli.GROUPS)
    assert all(f"\n{heading}\n" in out for heading in devices.cli.GROUPS.values())
    assert max(map(len, out.splitlines())) <= 130
    nano = next(line for line in out.splitlines() if "jetson-nano " in line)
    assert "(no int8)" in nano and "0.472" in nano


def test_list_as_json_has_families_and_targets(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(run(capsys, "list", "--json")[1])
    assert [item["name"] for item in found["families"]] == ["jetson", "x86-cpu"]
    assert [item["name"] for item in found["targets"]] == profiles.profile_names()


def test_show_tells_figures_with_unit_and_source(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "show", "jetson-xavier-nx@4.6")
    assert status == 0
    told = {line.split("  ")[1].strip(): line for line in out.splitlines() if line.startswith("  ")}
    assert "1100 MHz" in told["gpu_clock"] and "UNVERIFIED" not in told["gpu_clock"]
    assert "derived: gpu_clock * sms * 1024 / 1000000" in told["fp16_peak"]
    assert "UNVERIFIED [" in told["dla_clock"] and "UNVERIFIED in dla_clock" in told["dla_int8"]
    assert "* 4.6 " in out and "tensorrt 8.2.1, dialect tensorrt-8.2, CUDA 10.2" in out
    assert "power modes  PARTLY UNVERIFIED [" in out and "MODE_20W_6CORE" in out
    sources = [line for line in out.splitlines() if line.startswith("[")]
    assert all(f"[{number}]" in out for number in range(1, len(sources) + 1))


def test_show_says_what_a_target_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, "show", "jetson-tx2")[1]
    assert "no int8" in out and "instead: fp16" in out and "weights of" not in out


@pytest.mark.parametrize("name", profiles.names())
def test_every_target_can_be_shown(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    profile, software, *_ = profiles.resolve(name)
    status, out, _ = run(capsys, "show", name)
    assert status == 0 and out.startswith("name ") and f"* {software.key} " in out
    assert "not built yet" not in out and f"signedge engine MODEL --target {profile.name}:" in out
    assert all(f"  {figure} " in out for figure in profile.figures)


def test_show_of_a_family_says_aloud_what_it_took(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(devices.cli, "ROOT", tmp_path)
    status, out, err = run(capsys, "show", "jetson", "--json")
    found = json.loads(out)
    assert status == 0 and found["name"] == "jetson-orin-nano-8gb" and found["chosen"]["software"] == "6.2"
    assert found["figures"]["int8_peak"]["derived"] and not found["figures"]["gpu_clock"]["derived"]
    assert "no Jetson here" in err and found["chosen"]["said"] == err.splitlines()
    assert json.loads(run(capsys, "show", "x86-cpu", "--json")[1])["int8_flavour"] == "U8S8"


def test_unknown_target_is_one_line_and_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    for target in ("toaster", "jetson-nano@9"):
        status, out, err = run(capsys, "show", target)
        assert status == 2 and not out and len(err.splitlines()) == 1


def test_detect_recognises_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "detect", "--json")
    found = json.loads(out)
    assert status == 0 and found["cores"] >= 1 and found["targets"] == [item.name for item in profiles.here()]


def test_detect_tells_module_and_jetpack(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(devices.cli, "ROOT", board(tmp_path / "nano", *BOARDS["orin nano super"][:4]))
    _, out, _ = run(capsys, "detect")
    lines = dict(line.split("  ", 1) for line in out.splitlines())
    told = {key: value.strip() for key, value in lines.items()}
    assert told["module"] == told["targets"] == "jetson-orin-nano-8gb-super"
    assert told["jetpack"] == "JetPack 6.2.1 (L4T 36.4.7)" and "Super" in told["board"]
    found = json.loads(run(capsys, "detect", "--json")[1])
    assert found["jetson"]["soc"] == "tegra234" and found["jetpack"] == "JetPack 6.2.1"
    unknown = board(tmp_path / "robot", "Some Robot", "acme,robot nvidia,tegra234", ("99", "1.0"))
    monkeypatch.setattr(devices.cli, "ROOT", unknown)
    status, out, _ = run(capsys, "detect")
    assert status == 0 and "module is not known" in out and "unknown (L4T 99.1.0)" in out and "none known" in out


def test_detect_says_what_a_cpu_lacks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = written(tmp_path, {"proc/cpuinfo": "model name : Old CPU\nflags : sse4_2 avx avx2\n"})
    monkeypatch.setattr(devices.cli, "ROOT", root)
    out = run(capsys, "detect")[1]
    assert "Old CPU" in out and "no VNNI" in out and "x86-avx2" in out


def test_no_heavy_module_is_imported() -> None:
    report = "print(sorted({'torch', 'onnx', 'onnxruntime'} & set(sys.modules)))"
    code = f"import sys, signedge; signedge.main(['devices', 'detect']); {report}"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "[]"
