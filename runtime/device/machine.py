"""The machine that a bundle finds itself on: module, JetPack, TensorRT, GPU. Standard library only.

Sources: `/proc/device-tree` and `/etc/nv_tegra_release` (Jetson Linux Developer Guide), the CUDA driver API's
cuDriverGetVersion, cuDeviceGetName and cuDeviceGetAttribute, the version that a TensorRT module or trtexec tells.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Tuple

# First number of an L4T release -> first number of the JetPack that carries it.
JETPACKS = {"32": "4", "34": "5", "35": "5", "36": "6", "38": "7", "39": "7"}
# Chip of a Jetson, as its device tree names it -> compute capability of its GPU.
CHIPS = {"tegra210": "5.3", "tegra186": "6.2", "tegra194": "7.2", "tegra234": "8.7", "tegra264": "11.0"}
MODULES = ("tensorrt", "tensorrt_rtx")
TRTEXEC = "usr/src/tensorrt/bin/trtexec"  # where Debian packages of TensorRT put it; not on the path
MAJOR, MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
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
    notes: Tuple[str, ...]  # what is there and does not work

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
    """Look at this machine; files are read below `root`, the driver and the modules are those of this process."""
    notes: List[str] = []
    l4t = _l4t(root)
    driver, gpu, capability = _driver(notes)
    trtexec = shutil.which("trtexec") or (str(root / TRTEXEC) if os.access(root / TRTEXEC, os.X_OK) else "")
    versions = {name: version for name in MODULES for version in _module(name, notes)}
    if trtexec:
        versions["trtexec"] = _trtexec_version(trtexec, notes)
    return Machine(
        architecture=platform.machine(),
        python=".".join(map(str, sys.version_info[:3])),
        model=_text(root / "proc/device-tree/model"),
        l4t=l4t,
        jetpack=JETPACKS.get(l4t.partition(".")[0], ""),
        gpu=gpu,
        driver=driver,
        compute_capability=capability or _of_chip(root),
        tensorrt=versions,
        trtexec=trtexec,
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


def _driver(notes: List[str]) -> Tuple[str, str, str]:
    """(CUDA version, name of the first GPU, its compute capability), all empty without a working driver."""
    try:
        cuda: Any = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "", "", ""
    number, device, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(256)
    failed = cuda.cuInit(0) or cuda.cuDriverGetVersion(ctypes.byref(number))
    failed = failed or cuda.cuDeviceGet(ctypes.byref(device), 0) or cuda.cuDeviceGetName(name, len(name), device)
    if failed:
        notes.append(f"the CUDA driver is there and does not work (error {failed})")
        return "", "", ""
    parts = []
    for attribute in (MAJOR, MINOR):
        value = ctypes.c_int()
        cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        parts.append(str(value.value))
    version = f"{number.value // 1000}.{number.value % 1000 // 10}"
    return version, name.value.decode("utf-8", "replace"), ".".join(parts)


def _module(name: str, notes: List[str]) -> List[str]:
    """Its version, or nothing."""
    try:
        return [str(importlib.import_module(name).__version__)]
    except Exception as error:  # a module that lacks its libraries raises what it likes
        if not (isinstance(error, ModuleNotFoundError) and error.name == name):
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            notes.append(f"the Python module {name} is there and cannot be imported: {reason}")
        return []


def _trtexec_version(path: str, notes: List[str]) -> str:
    """trtexec tells its version in the first line of whatever it prints: [TensorRT v8502] or [TensorRT v100300]."""
    try:
        done = subprocess.run([path, "--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        notes.append(f"{path} does not run: {error}")
        return ""
    found = re.search(rb"TensorRT v(\d+)", done.stdout)
    if not found:
        return ""
    number = int(found.group(1))
    base = 100 if number >= 10000 else 10  # the number has one digit less for the major version before 10
    hundreds = number // 100
    return f"{hundreds // base}.{hundreds % base}.{number % 100}"
