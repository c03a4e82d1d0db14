"""Timings of kernels that builds on this machine have taken, kept for the next: it then times only what is new.

One file a version and GPU, below $XDG_CACHE_HOME (~/.cache); whoever removes it loses time only. What cannot be kept is
not, without a word: a build does not fail for it.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Any

from runtime.atomic import atomic_file
from runtime.errors import BadInput, Refused
from runtime.trt import cuda
from runtime.trt.module import label


def kept(trt: Any) -> bytes:
    """What builds with this module on this GPU have kept; empty where nothing was, or there is no GPU."""
    try:
        return _place(trt).read_bytes()
    except (OSError, RuntimeError, Refused):
        return b""


def keep(trt: Any, cache: bytes) -> None:
    """Keep `BuildResult.timing_cache`, if there is any."""
    if not cache:
        return
    with contextlib.suppress(OSError, RuntimeError, Refused, BadInput), atomic_file(_place(trt)) as temporary:
        temporary.write_bytes(cache)


def _place(trt: Any) -> Path:
    """Raises RuntimeError for a user without a home, `Refused` without a GPU."""
    gpu = cuda.gpu()
    name = re.sub(r"[^\w.]+", "-", f"{label(trt)} {gpu.name} {gpu.compute_capability} {gpu.sms}")
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "signedge" / f"{name}.timing"
