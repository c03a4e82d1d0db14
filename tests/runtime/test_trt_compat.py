"""A plan of a foreign GPU, version or machine is refused with the reason, before anything reads it."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.errors import BadInput, Refused
from runtime.trt.build import BuildRequest
from runtime.trt.compat import check_plan, plan_facts, plan_header, read_facts

ORIN = {
    "module": "tensorrt", "version": "10.3.0", "os": "linux", "machine": "aarch64", "gpu": "Orin",
    "compute_capability": "8.7", "sms": "8",
}  # fmt: skip
LAPTOP = {**ORIN, "module": "tensorrt_rtx", "version": "1.7.1.116", "machine": "x86_64", "gpu": "NVIDIA RTX 4090",
          "compute_capability": "8.9", "sms": "128"}  # fmt: skip
PROFILES = ({"min": 8, "opt": 16, "max": 32},)


def facts(built_on: dict[str, str], **request: Any) -> dict[str, Any]:
    return plan_facts(built_on, BuildRequest(PROFILES, **request))


def header(tag: bytes, *version: int) -> bytes:
    return tag + bytes(20) + bytes(version) + bytes(36)


def plan_of(facts: dict[str, Any]) -> bytes:
    """The first bytes of a plan with these facts."""
    tag = b"vtrt" if facts["module"] == "tensorrt_rtx" else b"ftrt"
    return header(tag, *(int(part) for part in f"{facts['version']}.0".split(".")[:4]))


def check(facts: dict[str, Any], at: dict[str, str]) -> None:
    check_plan(facts, at, plan_of(facts))


def test_a_plan_runs_where_it_was_built() -> None:
    check_plan(facts(ORIN), ORIN, header(b"ftrt", 10, 3, 0, 26))
    check_plan(facts(LAPTOP), LAPTOP, header(b"vtrt", 1, 7, 1, 116))


def test_plans_before_8_6_tell_no_version_and_their_manifest_does() -> None:
    xavier = {**ORIN, "version": "8.5.2", "gpu": "Xavier", "compute_capability": "7.2"}
    check_plan(facts(xavier), xavier, b"ptrt" + bytes(60))
    with pytest.raises(Refused, match=r"built by tensorrt 8\.5\.2, here is 8\.6\.1"):
        check_plan(facts(xavier), {**xavier, "version": "8.6.1"}, b"ptrt" + bytes(60))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"version": "10.4.0"}, r"built by tensorrt 10\.3\.0, here is 10\.4\.0"),
        ({"compute_capability": "8.9", "gpu": "L4"}, r"compute capability 8\.7, here is 8\.9"),
        ({"gpu": "Orin NX"}, "built on GPU Orin, here is Orin NX"),
        ({"sms": "16"}, "number of multiprocessors 8, here is 16"),
        ({"machine": "x86_64"}, "for aarch64, here is x86_64"),
        ({"os": "windows"}, "for linux, here is windows"),
        ({"module": "tensorrt_rtx"}, "for tensorrt, here is tensorrt_rtx"),
        ({"gpu": "", "compute_capability": "", "sms": ""}, "no NVIDIA GPU"),
    ],
)
def test_elsewhere_it_is_refused(changes: dict[str, str], says: str) -> None:
    with pytest.raises(Refused, match=says):
        check(facts(ORIN), {**ORIN, **changes})


def test_every_reason_is_given() -> None:
    with pytest.raises(Refused, match=r"aarch64.*10\.3\.0.*8\.7"):
        check(facts(ORIN), {**ORIN, "machine": "x86_64", "version": "11.4.0", "compute_capability": "9.0"})


@pytest.mark.parametrize(
    ("built", "runs", "fits"),
    [("8.6.1", "10.3.0", True), ("10.3.0", "11.4.0", True), ("10.3.0", "10.2.0", False), ("8.6.1", "11.0.0", False)],
)
def test_version_compatible_plans_run_on_later_versions(built: str, runs: str, fits: bool) -> None:
    plan = facts({**ORIN, "version": built}, version_compatible=True)
    if fits:
        check(plan, {**ORIN, "version": runs})
    else:
        with pytest.raises(Refused, match="even a version-compatible plan"):
            check(plan, {**ORIN, "version": runs})


def test_hardware_compatible_plans_run_on_other_gpus() -> None:
    other = {**ORIN, "gpu": "Orin NX", "sms": "16"}
    check(facts(ORIN, hardware_compatible="same_compute_capability"), other)
    check(facts(ORIN, hardware_compatible="ampere_plus"), {**other, "compute_capability": "12.0"})
    with pytest.raises(Refused, match=r"8\.0 or later, here is 7\.2"):
        check(facts(ORIN, hardware_compatible="ampere_plus"), {**other, "compute_capability": "7.2"})


def test_plans_of_rtx_run_on_the_targets_that_were_named() -> None:
    turing = {**LAPTOP, "compute_capability": "7.5"}
    check(facts(LAPTOP, compute_capabilities=("7.5", "8.9")), turing)
    with pytest.raises(Refused, match=r"compute capability 8\.6, 8\.9, here is 7\.5"):
        check(facts(LAPTOP, compute_capabilities=("8.6", "8.9")), turing)


def test_where_none_was_named_plans_of_rtx_run_from_ampere_on() -> None:
    for capability in ("8.0", "8.6", "9.0", "12.0"):
        check(facts(LAPTOP), {**LAPTOP, "compute_capability": capability})
    with pytest.raises(Refused, match=r"compute capability 8\.0 or later, here is 7\.5"):
        check(facts(LAPTOP), {**LAPTOP, "compute_capability": "7.5"})


def test_facts_are_all_there_and_of_their_kinds() -> None:
    whole = facts(ORIN, dla_core=1)
    assert read_facts(whole) == whole
    wrong: list[Any] = [None, 3, [], {}, {"module": "tensorrt"}]
    wrong += [{**whole, name: value} for name, value in (
        ("version", 10), ("version_compatible", 1), ("hardware_compatible", "all"), ("compute_capabilities", "8.7"),
        ("compute_capabilities", [8.7]), ("dla_core", True), ("dla_core", -1), ("sms", 8),
    )]  # fmt: skip
    for given in wrong:
        with pytest.raises(BadInput, match="does not say for which GPU"):
            read_facts(given)


def test_a_plan_that_is_not_what_its_manifest_says_is_bad_input() -> None:
    with pytest.raises(BadInput, match=r"is of tensorrt 8\.6\.1\.6, its manifest says tensorrt 10\.3\.0"):
        check_plan(facts(ORIN), ORIN, header(b"ftrt", 8, 6, 1, 6))


@pytest.mark.parametrize("plan", [b"", b"ftrt", b"\x08\x08\x12" * 20, header(b"FTRT", 10, 3, 0, 0)])
def test_what_is_no_plan_is_bad_input(plan: bytes) -> None:
    with pytest.raises(BadInput, match="not a TensorRT plan"):
        plan_header(plan)
