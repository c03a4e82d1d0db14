"""NVIDIA GPUs on the PCI bus, as `nvidia-smi` names them. Standard library only."""

from __future__ import annotations

import shutil
import subprocess
from typing import List, NamedTuple

FIELDS = "name,compute_cap,memory.total,driver_version"
SECONDS = 20  # a driver that is being loaded answers slowly; one that hangs must not hang us


class Gpu(NamedTuple):
    """One GPU as its driver describes it."""

    name: str  # "NVIDIA H200", "Tesla T4"
    compute_capability: str  # "9.0"
    memory_mb: str
    driver: str


def gpus() -> List[Gpu]:
    """The GPUs of this machine; none where there is no `nvidia-smi` or it does not answer."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    words = [program, f"--query-gpu={FIELDS}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return parse(done.stdout.decode("utf-8", "replace"))


def parse(text: str) -> List[Gpu]:
    """The rows of `nvidia-smi --query-gpu`; a row of another form is left out."""
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines()]
    return [Gpu(*row) for row in rows if len(row) == len(Gpu._fields)]
