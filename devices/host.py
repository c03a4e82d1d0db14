"""The machine at hand: processor, cores, instruction sets, memory. Standard library only."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Optional, Tuple

# The instruction sets that decide how fast an engine runs; the other hundred flags are noise here.
TELLING_FLAGS = (
    "sse4_2", "avx", "fma", "avx2", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx_vnni", "avx512_bf16",
    "amx_tile", "amx_int8", "amx_bf16", "neon", "asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve",
)  # fmt: skip


@dataclass(frozen=True)
class Host:
    """One machine as this process sees it."""

    cpu: str
    machine: str  # architecture: x86_64, aarch64
    cores: int  # cores this process may run on
    flags: Tuple[str, ...]  # of TELLING_FLAGS
    memory_mb: Optional[int]  # what this process may use; None: unknown
    os: str
    board: str = ""  # the device tree's name of it: "Raspberry Pi 5 Model B Rev 1.0"; "" where there is none

    def described(self) -> Dict[str, str]:
        """As text, for records and reports."""
        return {
            "cpu": self.cpu,
            "machine": self.machine,
            "cores": str(self.cores),
            "flags": " ".join(self.flags),
            "memory": "unknown" if self.memory_mb is None else f"{self.memory_mb} MiB",
            "os": self.os,
        }


def detect(root: Path = Path("/")) -> Host:
    """Recognise this machine from /proc and /sys below `root`, falling back to what Python's platform module knows."""
    info = _cpu_info(root / "proc/cpuinfo")
    words = set(info.get("flags", info.get("Features", "")).split())
    name = info.get("model name") or info.get("Model") or platform.processor() or platform.machine()
    return Host(
        cpu=name.strip(),
        machine=platform.machine(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        flags=tuple(flag for flag in TELLING_FLAGS if flag in words),
        memory_mb=_memory_mb(root),
        os=platform.platform(),
        board=read_text(root / "proc/device-tree/model").strip("\0 \n"),
    )


def total_memory_mb(root: Path = Path("/")) -> Optional[int]:
    """Memory of the machine as its kernel counts it, whatever a container may use; None: unknown."""
    lines = read_text(root / "proc/meminfo").splitlines()
    totals = [int(line.split()[1]) >> 10 for line in lines if line.startswith("MemTotal:")]
    return totals[0] if totals else None


def read_text(path: Path) -> str:
    """The text of a small file; "" where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _cpu_info(path: Path) -> Dict[str, str]:
    """The first value of each key: the cores of one machine are taken to be alike."""
    found: Dict[str, str] = {}
    for line in read_text(path).splitlines():
        key, colon, value = line.partition(":")
        if colon:
            found.setdefault(key.strip(), value.strip())
    return found


def _memory_mb(root: Path) -> Optional[int]:
    total, limit = total_memory_mb(root), read_text(root / "sys/fs/cgroup/memory.max").strip()
    sizes = [] if total is None else [total]
    if limit.isdigit():  # a container's limit, below what the machine has
        sizes.append(int(limit) >> 20)
    return min(sizes) if sizes else None
