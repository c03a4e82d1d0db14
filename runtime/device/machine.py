"""The machine that a bundle finds itself on: module, JetPack, TensorRT, GPU. Standard library only.

Sources: `/proc/device-tree` and `/etc/nv_tegra_release` (Jetson Linux Developer Guide), the CUDA driver, the version
that a TensorRT module or trtexec tells.
"""

from __future__ import annotations

import importlib
import os
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Tuple

from runtime.errors import Refused, SignedgeError
from runtime.trt import cuda, trtexec
from runtime.trt.module import EXTRAS

# First number of an L4T release -> first number of the JetPack that carries it.
JETPACKS = {"32": "4", "34": "5", "35": "5", "36": "6", "38": "7", "39": "7"}
# Chip of a Jetson, as its device tree names it -> compute capability of its GPU.
CHIPS = {"tegra210": "5.3", "tegra186": "6.2", "tegra194": "7.2", "tegra234": "8.7", "tegra264": "11.0"}
ROOT_VARIABLE = "SIGNEDGE_ROOT"  # inside a container: where the file system of the machine itself is mounted


@dataclass(frozen=True)
class Machine:
    """What was found. Texts are empty where there is nothing, or nothing that tells."""

    architecture: str  # x86_64, aarch64
    python: str
    model: str  # as the device tree says: "NVIDIA Jetson Orin Nano Developer Kit"
    l4t: str  # "36.4.3"
    jetpack: str  # its first number: "6"
    gpu: str  # as the CUDA driver says
    driver: str  # CUDA version that the driver serves: "12.6"; "": there is no working driver
    compute_capability: str  # by the driver, else by the chip
    tensorrt: Dict[str, str]  # versions by the way they are reached: tensorrt, tensorrt_rtx, trtexec
    trtexec: str  # path
    notes: Tuple[str, ...]  # what is missing or does not work

    def described(self) -> Dict[str, str]:
        """As text, for records; nothing that was not found."""
        jetpack = f"{self.jetpack} (L4T {self.l4t})" if self.l4t else ""
        ways = ", ".join(f"{name} {version}".strip() for name, version in self.tensorrt.items())
        found = {
            "machine": self.architecture, "model": self.model, "jetpack": jetpack, "gpu": self.gpu,
            "compute_capability": self.compute_capability, "cuda_driver": self.driver, "tensorrt": ways,
            "python": self.python,
        }  # fmt: skip
        return {name: text for name, text in found.items() if text}


def look(root: Path = Path("/")) -> Machine:
    """Look at this machine; files are read below `root`, driver and programs are those of this process."""
    notes: List[str] = []
    l4t, gpu = _l4t(root), _gpu(notes)
    versions = {name: version for name in EXTRAS for version in _module(name, notes)}
    program, version = _trtexec(notes)
    if program:
        versions["trtexec"] = version
    return Machine(
        architecture=platform.machine(),
        python=".".join(map(str, sys.version_info[:3])),
        model=_text(root / "proc/device-tree/model"),
        l4t=l4t,
        jetpack=JETPACKS.get(l4t.partition(".")[0], ""),
        gpu=gpu.name,
        driver=gpu.driver,
        compute_capability=gpu.compute_capability or _of_chip(root),
        tensorrt=versions,
        trtexec=program,
        notes=tuple(notes),
    )


def here() -> Machine:
    """`look` at the root that $SIGNEDGE_ROOT names, else at that of this process."""
    return look(Path(os.environ.get(ROOT_VARIABLE) or "/"))


def _text(path: Path) -> str:
    try:
        return path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _l4t(root: Path) -> str:
    """`# R36 (release), REVISION: 4.3, GCID: ...` -> 36.4.3."""
    found = re.match(r"#\s*R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)", _text(root / "etc/nv_tegra_release"))
    return ".".join(found.groups()) if found else ""


def _of_chip(root: Path) -> str:
    names = _text(root / "proc/device-tree/compatible")
    return next((capability for chip, capability in CHIPS.items() if chip in names), "")


def _gpu(notes: List[str]) -> cuda.Gpu:
    """The first GPU; all empty without one that works."""
    try:
        return cuda.gpu()
    except (Refused, RuntimeError) as error:
        notes.append(str(error))
        return cuda.Gpu("", "", 0, "")


def _module(name: str, notes: List[str]) -> List[str]:
    """Its version, or nothing."""
    try:
        return [str(importlib.import_module(name).__version__)]
    except Exception as error:  # a module that lacks its libraries raises what it likes
        if not (isinstance(error, ModuleNotFoundError) and error.name == name):
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            notes.append(f"the Python module {name} is there and cannot be imported: {reason}")
        return []


def _trtexec(notes: List[str]) -> Tuple[str, str]:
    """(path, version) of trtexec, or nothing."""
    try:
        path = trtexec.find()
        return path, ".".join(map(str, trtexec.version_of(path)))
    except SignedgeError as error:
        notes.append(str(error))
        return "", ""
