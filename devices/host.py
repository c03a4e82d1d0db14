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
    )


def _cpu_info(path: Path) -> Dict[str, str]:
    """The first value of each key: the cores of one machine are taken to be alike."""
    found: Dict[str, str] = {}
    for line in _read(path).splitlines():
        key, colon, value = line.partition(":")
        if colon:
            found.setdefault(key.strip(), value.strip())
    return found


def _memory_mb(root: Path) -> Optional[int]:
    lines = _read(root / "proc/meminfo").splitlines()
    limits = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:")]
    limit = _read(root / "sys/fs/cgroup/memory.max").strip()  # a container's limit, below what the machine has
    if limit.isdigit():
        limits.append(int(limit))
    return min(limits) >> 20 if limits else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
