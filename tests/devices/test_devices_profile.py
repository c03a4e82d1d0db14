"""Profiles: data that is checked, and what they say of a machine."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from devices import profile as profiles
from devices.host import Host, detect
from runtime.errors import BadInput

HOST = Host("Some CPU", "x86_64", 4, ("avx2", "avx512_vnni"), 8192, "Linux")


def test_every_profile_is_valid_and_named_as_its_file() -> None:
    for name in profiles.names():
        assert profiles.load(name).name == name
    assert {"x86-cpu", "jetson"} <= set(profiles.names())


def test_x86_builds_and_jetson_says_why_not() -> None:
    assert profiles.load("x86-cpu").buildable and {"fp32", "int8"} <= set(profiles.load("x86-cpu").precisions)
    assert not profiles.load("jetson").buildable and "CPU" in profiles.load("jetson").why_not


def test_unknown_target_names_the_known_ones() -> None:
    with pytest.raises(BadInput, match="no target 'nano'; known targets: jetson, x86-cpu"):
        profiles.load("nano")


def test_target_knows_its_machines_and_when_int8_is_exact() -> None:
    target = profiles.load("x86-cpu")
    assert target.runs_on(HOST) and target.int8_is_exact(HOST)
    assert not target.int8_is_exact(dataclasses.replace(HOST, flags=("avx2",)))
    assert not target.runs_on(dataclasses.replace(HOST, machine="aarch64"))
    assert not profiles.load("jetson").runs_on(dataclasses.replace(HOST, machine="aarch64"))


@pytest.mark.parametrize(
    "change, words",
    [
        ('colour = "red"', "unknown field colour"),
        ("max_opset = 'twenty'", "max_opset has the wrong type"),
        ("precisions = [1, 2]", "precisions must be a list of strings"),
        ('kind = "abacus"', "neither cpu nor gpu"),
        ("buildable = false", "needs why_not"),
        ('name = "other"', "name and file must agree"),
        ("name = ", "cannot read profile"),
        ("runtime", "cannot read profile"),
    ],
)
def test_broken_profile_is_told_by_file_and_field(tmp_path: Path, change: str, words: str) -> None:
    key = change.split(" ")[0]
    lines = (profiles.FOLDER / "x86-cpu.toml").read_text().splitlines()
    path = tmp_path / "x86-cpu.toml"
    path.write_text("\n".join([line for line in lines if not line.startswith(key)] + [change]))
    with pytest.raises(BadInput, match=words):
        profiles.parse(path)


def test_incomplete_profile_names_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text('name = "x"')
    with pytest.raises(BadInput, match=r"incomplete: .*description"):
        profiles.parse(tmp_path / "x.toml")


def test_this_machine_is_recognised() -> None:
    host = detect()
    assert host.cpu and host.machine and host.cores >= 1 and host.os
    assert all(isinstance(value, str) for value in host.described().values())


def _machine(root: Path, cpuinfo: str, meminfo: str = "", limit: str = "") -> Path:
    for name, text in (("proc/cpuinfo", cpuinfo), ("proc/meminfo", meminfo), ("sys/fs/cgroup/memory.max", limit)):
        if text:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
    return root


def test_other_machines_are_read_from_their_files(tmp_path: Path) -> None:
    x86 = _machine(
        tmp_path / "x86",
        "model name\t: Fast CPU\nflags\t\t: fpu avx2 avx512_vnni\nmodel name\t: Other\n",
        "MemTotal:       16777216 kB\nMemFree: 1 kB\n",
        "4294967296\n",
    )
    host = detect(x86)
    assert host.cpu == "Fast CPU" and host.flags == ("avx2", "avx512_vnni")
    assert host.memory_mb == 4096  # the container's limit, not the machine's 16 GiB
    arm = detect(_machine(tmp_path / "arm", "Features : asimd asimddp\nModel : Raspberry Pi 5\n", limit="max\n"))
    assert arm.cpu == "Raspberry Pi 5" and arm.flags == ("asimd", "asimddp") and arm.memory_mb is None
    assert detect(tmp_path / "nowhere").described()["memory"] == "unknown"
