"""The library that the tests call: built once by CMake, rebuilt when a source changed."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from native_programs import INCLUDES, NATIVE, RUNTIME

from runtime import abi

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build"


def build_library(folder: Path, *options: str) -> Path:
    """libsignedge.so, built in `folder` by CMake with these options."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in (
            ["cmake", "-S", "runtime", "-B", str(folder), *options],
            ["cmake", "--build", str(folder), "--parallel", "2"],
        ):
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
    return folder / "libsignedge.so"


@pytest.fixture(scope="session")
def library() -> Path:
    """libsignedge.so as `make library` builds it; $SIGNEDGE_LIBRARY tests another build. Skipped without a compiler."""
    given = os.environ.get("SIGNEDGE_LIBRARY")
    if given:
        return Path(given)
    if shutil.which("cmake") is None or shutil.which("c++") is None:
        pytest.skip("cmake and a C++ compiler are needed to build libsignedge")
    return build_library(BUILD / "runtime")


@pytest.fixture
def library_in_use(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The binding finds the library under test."""
    monkeypatch.setenv(abi.LIBRARY_VARIABLE, str(library))


@pytest.fixture(scope="session")
def plain_library(library: Path) -> Path:
    """The same, for tests of what `make library` builds: not of another build, which may be instrumented."""
    if library != BUILD / "runtime" / "libsignedge.so":
        pytest.skip("$SIGNEDGE_LIBRARY names another build than that of `make library`")
    return library


@pytest.fixture(scope="session")
def library_for_arm() -> Path:
    """libsignedge.so for aarch64. Skipped without the cross compiler."""
    if shutil.which("cmake") is None or shutil.which("aarch64-linux-gnu-g++") is None:
        pytest.skip("cmake and aarch64-linux-gnu-g++ are needed to build libsignedge for ARM")
    toolchain = ROOT / "runtime" / "cmake" / "aarch64-linux-gnu.cmake"
    return build_library(BUILD / "runtime-aarch64", f"-DCMAKE_TOOLCHAIN_FILE={toolchain}")


SANITISED = ["-std=c++17", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
READING = ["json", "text", "contract", "engine_file", "onnx_file", "plain_file", "plan_facts"]


@pytest.fixture(scope="session")
def read_natively(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Sequence[str]], list[str]]:
    """Ask native/engine_driver.cpp: a list of its commands -> a list of its answers, one line each.

    It reads contracts and engines as libsignedge does, under the address and undefined behaviour sanitizers.
    """
    compiler = next((found for found in map(shutil.which, ("g++", "clang++")) if found), None)
    if compiler is None:
        pytest.skip("a C++ compiler is needed: g++ or clang++")
    driver = tmp_path_factory.mktemp("native") / "engine_driver"
    sources = [NATIVE / "engine_driver.cpp", *(RUNTIME / "src" / f"{name}.cpp" for name in READING)]
    command = [compiler, *SANITISED, *INCLUDES, *map(str, sources), "-o", str(driver)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    def ask(commands: Sequence[str]) -> list[str]:
        done = subprocess.run([driver], input="\n".join(commands).encode(), capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        answers = done.stdout.decode().splitlines()
        assert len(answers) == len(commands)
        return answers

    return ask
