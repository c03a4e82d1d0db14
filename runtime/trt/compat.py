"""Whether a plan may be read on this machine: decided from its manifest and first bytes, before it is deserialised.

A plan is native code for one GPU and one version; a foreign one crashes, or is refused without a reason. What is
decided here for Python, runtime/src/plan_facts.cpp decides for the C library, by the same facts.
"""

from __future__ import annotations

import platform
from typing import Any, Dict, List, Mapping, Tuple

from runtime.errors import BadInput, Refused
from runtime.trt.build import HARDWARE_LEVELS, BuildRequest

# The first four bytes; bytes 24 to 27 are the version (NVIDIA's trtexec prints them by --getPlanVersionOnly; those of
# TensorRT-RTX were seen with 1.7.1).
TAGS = {b"ftrt": "tensorrt", b"vtrt": "tensorrt_rtx"}
HEADER = 28
TOLD_FROM = (8, 6)  # plans of older TensorRT begin otherwise and tell no version (NVIDIA/TensorRT#3073)
# Major version of a version-compatible plan -> major versions that run it (support matrix of 11.4).
NEWER = {8: (8, 9, 10), 9: (9, 10), 10: (10, 11), 11: (11,)}
# TensorRT-RTX, where no compute capability was named: those from here on (guide of its CPU-only builds). Turing must be
# named.
UNNAMED_FROM = (8, 0)
TEXTS = ("module", "version", "os", "machine", "gpu", "compute_capability", "sms")  # of plan facts


def plan_header(plan: bytes) -> Dict[str, str]:
    """{"module": "tensorrt", "version": "10.3.0.26"} of a plan's first 28 bytes. `BadInput` for anything else."""
    module = TAGS.get(bytes(plan[:4]))
    if module is None or len(plan) < HEADER:
        raise BadInput("this file is not a TensorRT plan: it does not begin as one")
    return {"module": module, "version": ".".join(str(number) for number in plan[24:HEADER])}


def has_header(module: str, version: str) -> bool:
    """Whether plans of this version begin with what `plan_header` reads."""
    return module != "tensorrt" or _numbers(version)[:2] >= TOLD_FROM


def here(trt: Any) -> Dict[str, str]:
    """What of this machine a plan depends on; `gpu`, `compute_capability` and `sms` are "" where no driver works."""
    from runtime.trt import cuda

    facts = {"module": trt.__name__, "version": str(trt.__version__), "os": platform.system().lower(),
             "machine": platform.machine().lower()}  # fmt: skip
    try:
        gpu = cuda.gpu()
    except (Refused, RuntimeError):
        return {**facts, "gpu": "", "compute_capability": "", "sms": ""}
    return {**facts, "gpu": gpu.name, "compute_capability": gpu.compute_capability, "sms": str(gpu.sms)}


def plan_facts(built_on: Mapping[str, str], request: BuildRequest) -> Dict[str, Any]:
    """What a manifest keeps of a plan, for `check_plan`: `built_on` is `here` of the machine that built it."""
    return {
        **built_on, "version_compatible": request.version_compatible,
        "hardware_compatible": request.hardware_compatible,
        "compute_capabilities": list(request.compute_capabilities), "dla_core": request.dla_core,
    }  # fmt: skip


def read_facts(given: Any) -> Dict[str, Any]:
    """The plan facts of a manifest, all of them and of the right kinds. Raises `BadInput`."""
    facts = given if isinstance(given, dict) else {}
    wrong = [name for name in TEXTS if not isinstance(facts.get(name), str)]
    capabilities, core = facts.get("compute_capabilities"), facts.get("dla_core", "")
    if not isinstance(facts.get("version_compatible"), bool):
        wrong.append("version_compatible")
    if facts.get("hardware_compatible") not in ("", *HARDWARE_LEVELS):
        wrong.append("hardware_compatible")
    if not isinstance(capabilities, list) or not all(isinstance(item, str) for item in capabilities):
        wrong.append("compute_capabilities")
    if core is not None and (not isinstance(core, int) or isinstance(core, bool) or core < 0):
        wrong.append("dla_core")
    if wrong:
        raise BadInput(f"its manifest does not say for which GPU and version its plan is: {', '.join(wrong)}")
    return facts


def check_plan(facts: Mapping[str, Any], at: Mapping[str, str], plan: bytes) -> None:
    """Raise `Refused`, with every reason, for a plan with these `plan_facts` on a machine with `here` `at`.

    The plan's first bytes must agree with its facts: `BadInput` where they do not.
    """
    if has_header(facts["module"], facts["version"]):
        header = plan_header(plan)
        if header["module"] != facts["module"] or not _same(header["version"], facts["version"]):
            raise BadInput(
                f"the plan is of {header['module']} {header['version']}, its manifest says "
                f"{facts['module']} {facts['version']}"
            )
    reasons = [*_software(facts, at), *_hardware(facts, at)]
    if reasons:
        raise Refused(f"this plan does not run here: {'; '.join(reasons)}. Build it on this machine")


def _software(facts: Mapping[str, Any], at: Mapping[str, str]) -> List[str]:
    differing = [name for name in ("os", "machine", "module") if facts[name] != at[name]]
    reasons = [f"it is for {facts[name]}, here is {at[name]}" for name in differing]
    if facts["module"] != at["module"] or _same(facts["version"], at["version"]):
        return reasons
    built, runs = _numbers(facts["version"]), _numbers(at["version"])
    if not facts["version_compatible"]:
        reasons.append(f"it was built by {facts['module']} {facts['version']}, here is {at['version']}")
    elif built > runs or not built or runs[0] not in NEWER.get(built[0], ()):
        reasons.append(f"even a version-compatible plan of {facts['version']} is not read by {at['version']}")
    return reasons


def _hardware(facts: Mapping[str, Any], at: Mapping[str, str]) -> List[str]:
    if not at["gpu"]:
        return ["there is no NVIDIA GPU with a driver"]
    mine = at["compute_capability"]
    if facts["module"] == "tensorrt_rtx":
        named = facts["compute_capabilities"]
        fits = mine in named if named else _numbers(mine) >= UNNAMED_FROM
        wanted = ", ".join(named) or f"{'.'.join(map(str, UNNAMED_FROM))} or later"
        return [] if fits else [f"it is for compute capability {wanted}, here is {mine}"]
    if facts["hardware_compatible"] == "ampere_plus":
        return [] if _numbers(mine) >= (8,) else [f"it needs compute capability 8.0 or later, here is {mine}"]
    if facts["compute_capability"] != mine:
        return [f"it is for compute capability {facts['compute_capability']}, here is {mine}"]
    if facts["hardware_compatible"] != "same_compute_capability":
        for name, says in (("gpu", "GPU"), ("sms", "number of multiprocessors")):
            if facts[name] != at[name]:
                return [f"it was built on {says} {facts[name]}, here is {at[name]}"]
    return []


def _numbers(version: str) -> Tuple[int, ...]:
    numbers: List[int] = []
    for part in version.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def _same(one: str, other: str) -> bool:
    """Whether two versions agree as far as both go: wheels say 10.3.0, plans 10.3.0.26."""
    a, b = _numbers(one), _numbers(other)
    both = min(len(a), len(b))
    return both >= 3 and a[:both] == b[:both]
