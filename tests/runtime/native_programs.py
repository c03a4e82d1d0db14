"""Programs that tests start: tools of this machine, drivers of native/ linked with the library, what they must find."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from runtime import abi

NATIVE = Path(__file__).parent / "native"
RUNTIME = Path(__file__).parents[2] / "runtime"
INCLUDES = [f"-I{RUNTIME / folder}" for folder in ("include", "src")]


def needs(tool: str) -> str:
    """The path of a program; the test is skipped where it is not installed."""
    path = shutil.which(tool)
    if path is None:
        pytest.skip(f"{tool} is not installed")
    return path


def link_driver(program: Path, archive: Path, *names: str, compiler: str = "c++", flags: tuple[str, ...] = ()) -> None:
    """Build a program of sources in native/ and the objects of libsignedge.a."""
    sources = [str(NATIVE / f"{name}.cpp") for name in names]
    linked = [*sources, str(archive), "-ldl", "-lpthread", "-o", str(program)]
    done = subprocess.run([compiler, "-std=c++17", *flags, *INCLUDES, *linked], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def environment(**more: str) -> dict[str, str]:
    """That of the tests, in which libsignedge finds the ONNX Runtime of this Python."""
    return {**os.environ, "SIGNEDGE_ONNXRUNTIME_LIBRARY": abi.backend_library("onnxruntime") or "", **more}
