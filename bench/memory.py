"""Peak memory of a system: the high-water mark of a fresh process that does nothing but load it and read clips.

The figure is the whole process: interpreter, libraries, runtime, weights, activations, one clip at a time. It is what a
device must have free to run the recogniser from Python; a C program needs less.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.systems import Opener, reopen
from runtime.errors import SignedgeError

STATUS = Path("/proc/self/status")


class MemoryFailed(SignedgeError):
    """The measuring process did not come back with a figure; the record says so instead."""

    exit_status = 1


def peak_memory_mb(opener: Opener, corpus: Path, clips: Sequence[str], timeout: float = 300) -> float:
    """Peak resident memory in MB (10^6 bytes) of a fresh process that opens the system and reads `clips` of `corpus`.

    Raises `MemoryFailed` with the last line that the process said.
    """
    task = json.dumps({"opener": dataclasses.asdict(opener), "corpus": str(corpus), "clips": list(clips)})
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    command = [sys.executable, "-m", "bench.memory"]
    try:
        done = subprocess.run(
            command, input=task, capture_output=True, text=True, timeout=timeout, env=environment, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MemoryFailed(f"peak memory not measured: {error}") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"the process ended with status {done.returncode}"]
        raise MemoryFailed(f"peak memory not measured: {lines[-1]}")
    return json.loads(done.stdout.splitlines()[-1])["peak_bytes"] / 1e6


def peak_bytes(status: Path = STATUS) -> int:
    """Peak resident memory of this process.

    Linux's VmHWM where there is one: getrusage's figure survives exec there, so that a child would report what its
    large parent had used. Elsewhere getrusage (in bytes on macOS, in KiB on other systems).
    """
    try:
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def run_task(task: dict[str, Any]) -> int:
    """Open the system of `task`, read its clips, return the peak in bytes."""
    from distill.corpus.store import Corpus

    system = reopen(Opener(**task["opener"]))
    corpus = Corpus(task["corpus"], strict=False)
    rows = {row.id: row for row in corpus.rows}
    for name in task["clips"]:
        system.recognise(corpus.load_for(rows[name], system.contract.modality))
    return peak_bytes()


if __name__ == "__main__":
    print(json.dumps({"peak_bytes": run_task(json.load(sys.stdin))}))
