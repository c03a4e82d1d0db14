"""The C library refuses a plan of a foreign GPU or version before it is read, by the rules that Python goes by."""

from __future__ import annotations

import itertools
import json
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from test_engine import CONTRACT
from test_trt_compat import header

from runtime.engine import CONTRACT_FILE, MANIFEST, PLAN_FILE
from runtime.errors import BadInput, Refused
from runtime.hashing import sha256_bytes
from runtime.trt.compat import check_plan

Ask = Callable[[Sequence[str]], list[str]]
HERE = {
    "module": "tensorrt", "version": "10.3.0", "os": "linux", "machine": platform.machine(), "gpu": "Orin",
    "compute_capability": "8.7", "sms": "8",
}  # fmt: skip
FACTS = {**HERE, "version_compatible": False, "hardware_compatible": "", "compute_capabilities": [], "dla_core": None}
PLAN = header(b"ftrt", 10, 3, 0, 26)


def write(folder: Path, facts: Any = FACTS, plan: bytes = PLAN) -> Path:
    """An engine folder for TensorRT; `facts` None: without them."""
    folder.mkdir(parents=True)
    (folder / PLAN_FILE).write_bytes(plan)
    (folder / CONTRACT_FILE).write_text(CONTRACT.to_json())
    files = {name: sha256_bytes((folder / name).read_bytes()) for name in (PLAN_FILE, CONTRACT_FILE)}
    manifest = {"format": 1, "runtime": "tensorrt", "files": files}
    (folder / MANIFEST).write_text(json.dumps({**manifest, **({} if facts is None else {"plan_facts": facts})}))
    return folder


def question(folder: Path, at: dict[str, str] = HERE) -> str:
    return f"plan {folder} {at['version']} {at['gpu']} {at['compute_capability']} {at['sms']}"


@pytest.mark.parametrize(
    ("facts", "plan", "says"),
    [
        ({"version": "10.4.0"}, header(b"ftrt", 10, 4, 0, 1), "built by TensorRT 10.4.0, here is 10.3.0"),
        ({"version": "10.4.0"}, PLAN, "a plan of TensorRT 10.3.0.26, its manifest says 10.4.0"),
        ({"compute_capability": "8.9"}, PLAN, "for compute capability 8.9, here is 8.7"),
        ({"gpu": "Orin NX"}, PLAN, "built on GPU Orin NX, here is Orin"),
        ({"sms": "16"}, PLAN, "multiprocessors was 16, here is 8"),
        ({"machine": "vax"}, PLAN, f"for vax, here is {platform.machine()}"),
        ({}, b"\x08\x08" * 40, "does not begin as one"),
        ({}, b"", "does not begin as one"),
    ],
)
def test_foreign_plans_are_refused(
    read_natively: Ask, tmp_path: Path, facts: dict[str, str], plan: bytes, says: str
) -> None:
    (answer,) = read_natively([question(write(tmp_path / "engine", {**FACTS, **facts}, plan))])
    assert answer.startswith("2 ") and says in answer


def test_the_own_runs_with_facts_or_without(read_natively: Ask, tmp_path: Path) -> None:
    whole, bare = write(tmp_path / "whole"), write(tmp_path / "bare", None)
    old = write(tmp_path / "old", {**FACTS, "version": "8.5.2"}, b"ptrt" + bytes(60))
    at_old = {**HERE, "version": "8.5.2"}
    assert read_natively([question(whole), question(bare), question(old, at_old)]) == ["0"] * 3
    (answer,) = read_natively([question(bare, {**HERE, "version": "10.16.2"})])
    assert "built by TensorRT 10.3.0.26, here is 10.16.2" in answer


def test_facts_that_are_damaged_are_told(read_natively: Ask, tmp_path: Path) -> None:
    for number, (name, value) in enumerate([
        ("version", 10), ("version", None), ("machine", []), ("gpu", None), ("compute_capability", 8.7), ("sms", 8),
        ("hardware_compatible", "all"), ("version_compatible", 1), ("dla_core", -1), ("dla_core", 2**40),
    ]):  # fmt: skip
        (answer,) = read_natively([f"engine {write(tmp_path / str(number), {**FACTS, name: value})}"])
        assert answer.startswith("2 ") and f"plan_facts: {name}" in answer
    for number, given in enumerate(([], "facts", None, {})):
        folder = write(tmp_path / f"given-{number}", {"version": "10"} if given is None else given)
        assert read_natively([f"engine {folder}"])[0].startswith("2 ")


def test_c_and_python_decide_alike(read_natively: Ask, tmp_path: Path) -> None:
    running, gpus = ("8.6.1", "10.3.0", "10.3.1", "10.16.2", "11.4.1"), (("8.7", "8"), ("7.5", "8"), ("8.9", "4"))
    places = [
        {**HERE, "version": version, "gpu": gpu, "compute_capability": capability, "sms": sms}
        for version, gpu, (capability, sms) in itertools.product(running, ("Orin", "L4"), gpus)
    ]
    asked, expected = [], []
    for number, (version, compatible, level) in enumerate(
        itertools.product(
            ("8.6.1", "10.3.0", "11.4.1"), (False, True), ("", "ampere_plus", "same_compute_capability")
        )
    ):
        facts = {**FACTS, "version": version, "version_compatible": compatible, "hardware_compatible": level}
        plan = header(b"ftrt", *(int(part) for part in version.split(".")), 0)
        folder = write(tmp_path / str(number), facts, plan)
        for place in places:
            asked.append(question(folder, place))
            try:
                check_plan(facts, place, plan)
                expected.append(True)
            except (BadInput, Refused):
                expected.append(False)
    assert [answer == "0" for answer in read_natively(asked)] == expected
    assert 0 < sum(expected) < len(expected)
