"""`signedge devices`: lists, shows, recognises; without torch."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import devices.cli
import signedge
from devices.host import Host


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = signedge.main(["devices", *words])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def test_list_names_every_target(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "list")
    assert status == 0 and "x86-cpu" in out and "jetson" in out and "not built by this version" in out
    status, out, _ = run(capsys, "list", "--json")
    assert {item["name"] for item in json.loads(out)} >= {"x86-cpu", "jetson"}


def test_show_tells_a_profile(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "show", "x86-cpu", "--json")
    assert status == 0 and json.loads(out)["int8_flavour"] == "U8S8"
    assert "onnxruntime" in run(capsys, "show", "x86-cpu")[1]


def test_unknown_target_is_one_line_and_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "show", "toaster")
    assert status == 2 and not out and len(err.splitlines()) == 1


def test_detect_recognises_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "detect", "--json")
    found = json.loads(out)
    assert status == 0 and found["cores"] >= 1 and isinstance(found["targets"], list)


def test_detect_says_what_a_cpu_lacks(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices.cli, "detect", lambda: Host("Old CPU", "x86_64", 2, ("avx2",), None, "Linux"))
    _, out, _ = run(capsys, "detect")
    assert "Old CPU" in out and "no VNNI" in out
    monkeypatch.setattr(devices.cli, "detect", lambda: Host("Toaster", "riscv64", 1, (), 64, "Linux"))
    assert "none known" in run(capsys, "detect")[1]


def test_no_heavy_module_is_imported() -> None:
    report = "print(sorted({'torch', 'onnx', 'onnxruntime'} & set(sys.modules)))"
    code = f"import sys, signedge; signedge.main(['devices', 'detect']); {report}"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "[]"
