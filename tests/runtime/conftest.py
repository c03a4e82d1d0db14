"""The library that the tests call: built once by CMake, rebuilt when a source changed."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "runtime"


@pytest.fixture(scope="session")
def library() -> Path:
    """libsignedge.so as `make runtime` builds it; $SIGNEDGE_LIBRARY tests another build. Skipped without a compiler."""
    given = os.environ.get("SIGNEDGE_LIBRARY")
    if given:
        return Path(given)
    if shutil.which("cmake") is None or shutil.which("c++") is None:
        pytest.skip("cmake and a C++ compiler are needed to build libsignedge")
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in (
            ["cmake", "-S", "runtime", "-B", str(BUILD)],
            ["cmake", "--build", str(BUILD), "--parallel", "2"],
        ):
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
    return BUILD / "libsignedge.so"
