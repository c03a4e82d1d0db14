"""Does this machine fit what a bundle was made for? Every reason why not, at once."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any, Dict, List, Tuple

from runtime.device.machine import Machine
from runtime.errors import BadInput, Refused

TRTEXEC = "trtexec"
OLDEST_MODULE = (8, 5)  # of tensorrt, that `runtime.trt.run` runs plans with; older ones build and run by trtexec
TENSORRT, RTX, ONNXRUNTIME = "tensorrt", "tensorrt-rtx", "onnxruntime"
MODULE_OF = {TENSORRT: "tensorrt", RTX: "tensorrt_rtx"}
INSTALLS = {
    TENSORRT: "on a Jetson: sudo apt install tensorrt python3-libnvinfer",
    RTX: "pip install tensorrt-rtx",
}


@dataclass(frozen=True)
class Needs:
    """What a bundle asks of its machine. Empty: nothing is asked."""

    target: str
    machines: Tuple[str, ...]  # names of the architecture
    software: str  # "JetPack 6.2"
    runtime: str  # tensorrt, tensorrt-rtx or onnxruntime
    version: str  # of the runtime's dialect that the graph was lowered to: "10.3"
    compute_capability: str

    @staticmethod
    def from_dict(raw: Any) -> Needs:
        """From the manifest of a bundle. Raises `BadInput`."""
        names = [field.name for field in fields(Needs)]
        if not isinstance(raw, dict) or sorted(raw) != sorted(names):
            raise BadInput(f"the bundle's manifest must say of its machine: {', '.join(names)}")
        texts: Dict[str, Any] = {name: str(raw[name]) for name in names}
        texts["machines"] = tuple(map(str, raw["machines"]))
        return Needs(**texts)

    @property
    def jetpack(self) -> str:
        """The first number of the JetPack that is asked for, or nothing."""
        words = self.software.split()
        return words[1].partition(".")[0] if len(words) > 1 and words[0] == "JetPack" else ""


def misfits(needs: Needs, machine: Machine) -> List[str]:
    """Why an engine cannot be built here, a sentence each."""
    found = []
    if needs.machines and machine.architecture not in needs.machines:
        found.append(f"this machine is {machine.architecture}, the target is {' or '.join(needs.machines)}")
    if needs.jetpack and not machine.l4t:
        found.append(f"this is no Jetson with {needs.software}: it has no /etc/nv_tegra_release")
    elif needs.jetpack and machine.jetpack != needs.jetpack:
        has = f"JetPack {machine.jetpack}" if machine.jetpack else "a JetPack unknown here"
        found.append(f"the bundle is for {needs.software}, this machine has {has} (L4T {machine.l4t})")
    asked, has = needs.compute_capability, machine.compute_capability
    if asked and has and asked != has:
        name = machine.gpu or machine.model or "the GPU"
        found.append(f"the bundle is for compute capability {asked}, {name} has {has}")
    if needs.runtime in MODULE_OF:
        found += _of_tensorrt(needs, machine)
    return found


def require_fit(needs: Needs, machine: Machine) -> None:
    """Raise `Refused` with every reason why this machine is not the target."""
    reasons = misfits(needs, machine)
    if reasons:
        target = f"{needs.target} ({needs.software})" if needs.software else needs.target
        raise Refused(f"the bundle was made for {target} and is not built here: {'; '.join(reasons)}")


def way(needs: Needs, machine: Machine) -> str:
    """How TensorRT is reached here: the module's name, `trtexec` where no module is that runs plans, or nothing."""
    module, versions = MODULE_OF[needs.runtime], machine.tensorrt
    ways = [module, TRTEXEC] if needs.runtime == TENSORRT else [module]
    if _numbers(versions.get(module, "")) < OLDEST_MODULE:
        ways.reverse()
    return next((name for name in ways if name in versions), "")


def _of_tensorrt(needs: Needs, machine: Machine) -> List[str]:
    reached = way(needs, machine)
    found = []
    if not reached:
        missing = "its Python module is not" if needs.runtime == RTX else "neither its Python module nor trtexec is"
        broken = "".join(f" ({note})" for note in machine.notes if "cannot be imported" in note)
        found.append(f"{needs.runtime} is missing: {missing} there{broken}; {INSTALLS[needs.runtime]}")
    elif needs.version and not reads(machine.tensorrt[reached], needs.version):
        version = machine.tensorrt[reached] or "of a version that it does not tell"
        found.append(f"the graph was lowered for {needs.runtime} {needs.version}, this machine has {version}")
    if needs.runtime == TENSORRT and not machine.driver:  # RTX builds without one
        found.append("there is no working CUDA driver, without which TensorRT builds nothing")
    return found


def plans_are_run(needs: Needs) -> bool:
    """Whether signedge runs the engines of such a bundle: plans of TensorRT before `OLDEST_MODULE` are trtexec's."""
    return needs.runtime != TENSORRT or _numbers(needs.version) >= OLDEST_MODULE


def reads(version: str, asked: str) -> bool:
    """Whether TensorRT `version` reads what was lowered for `asked`: the same major version, and no older minor one."""
    has, wants = _numbers(version), _numbers(asked)
    return bool(has and wants) and has[0] == wants[0] and has >= wants


def _numbers(version: str) -> Tuple[int, ...]:
    """The first two numbers of a version, as far as they are numbers."""
    found = re.match(r"(\d+)(?:\.(\d+))?", version)
    return tuple(int(part) for part in found.groups() if part) if found else ()
