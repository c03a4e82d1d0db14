"""Timings of kernels that builds on this machine have taken, kept for the next: it then times only what is new.

One file a version and GPU, below $XDG_CACHE_HOME (~/.cache); whoever removes it loses time only. What cannot be kept is
not, without a word: a build does not fail for it.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from runtime.atomic import atomic_file
from runtime.errors import BadInput, Refused
from runtime.trt import cuda


def kept(builder: str) -> bytes:
    """What builds by this builder ("tensorrt 10.3.0") on this GPU kept; empty where nothing was, or there is no GPU."""
    try:
        return _place(builder).read_bytes()
    except (OSError, RuntimeError, Refused):
        return b""


def keep(builder: str, cache: bytes) -> None:
    """Keep `BuildResult.timing_cache`, if there is any."""
    if not cache:
        return
    with contextlib.suppress(OSError, RuntimeError, Refused, BadInput), atomic_file(_place(builder)) as temporary:
        temporary.write_bytes(cache)


def _place(builder: str) -> Path:
    """Raises RuntimeError for a user without a home, `Refused` without a GPU."""
    gpu = cuda.gpu()
    name = re.sub(r"[^\w.]+", "-", f"{builder} {gpu.name} {gpu.compute_capability} {gpu.sms}")
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "signedge" / f"{name}.timing"
