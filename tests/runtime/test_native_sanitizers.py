"""libsignedge built with sanitizers, and its fuzzers: runtime/TESTING.md says how to run them and for how long."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from test_engine import clip, write_engine

from runtime import abi

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TESTS = Path(__file__).parent
SECONDS = os.environ.get("SIGNEDGE_FUZZ_SECONDS", "10")
# OpenVINO's threads are loaded in a way that the address sanitizer forbids; other tests look at how the library is
# linked, build one of their own, or put something in front of it.
NOT_WITH_ASAN = "not openvino and not names_the_backend and not version_found and not needs_no_inference_library"
OTHERS = {"aarch64", "build", "fuzz", "memory", "sanitizers", "valgrind"}


def run(command: Sequence[str | Path], **environment: str) -> str:
    given = {**os.environ, **environment}
    done = subprocess.run([*map(str, command)], cwd=ROOT, env=given, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-8000:]
    return done.stdout


def built(name: str, *options: str, target: str = "all") -> Path:
    """A build folder of its own for each set of options, kept for the next time."""
    if shutil.which("cmake") is None or shutil.which("g++") is None:
        pytest.skip("cmake and g++ are needed")
    folder = ROOT / "build" / name
    run(["cmake", "-S", "runtime", "-B", folder, "-DCMAKE_BUILD_TYPE=RelWithDebInfo", *options])
    run(["cmake", "--build", folder, "--target", target, "--parallel", str(len(os.sched_getaffinity(0)))])
    return folder


def gcc_file(name: str) -> str:
    return run(["gcc", f"-print-file-name={name}"]).strip()


@pytest.fixture(scope="module")
def with_asan() -> Path:
    return built("asan", "-DCMAKE_CXX_COMPILER=g++", "-DSIGNEDGE_SANITIZE=address,undefined")


def test_the_tests_have_no_finding_of_the_address_sanitizer(with_asan: Path, tmp_path: Path) -> None:
    """Leaks of Python and of ONNX Runtime are their own: the next test looks for ours."""
    files = [path for path in sorted(TESTS.glob("test_native_*.py")) if path.stem[len("test_native_") :] not in OTHERS]
    reports = tmp_path / "report"
    environment = {
        "SIGNEDGE_LIBRARY": str(with_asan / "libsignedge.so"),
        "CXXFLAGS": "-fsanitize=address,undefined -fno-sanitize-recover=all",
        "LD_PRELOAD": f"{gcc_file('libasan.so')} {gcc_file('libubsan.so')}",
        "ASAN_OPTIONS": f"detect_leaks=0:log_path={reports}",
        "UBSAN_OPTIONS": f"print_stacktrace=1:log_path={reports}",
    }
    try:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow"]
        run([*command, "-k", NOT_WITH_ASAN, *files], **environment)
    finally:
        found = "".join(path.read_text(errors="replace") for path in tmp_path.glob("report*"))
        assert found == ""


def test_a_client_leaks_nothing(with_asan: Path, tmp_path: Path) -> None:
    program, video = tmp_path / "client", tmp_path / "frames.rgb"
    source, library = TESTS / "native" / "client_1.c", with_asan / "libsignedge.so"
    linked = [library, f"-Wl,-rpath,{with_asan}", "-fsanitize=address,undefined", "-o", program]
    run(["gcc", "-g", f"-I{ROOT}/runtime/include", source, *linked])
    clip(1, 0, 2, 2, 3).tofile(video)
    runtime = abi.backend_library("onnxruntime")
    assert runtime is not None
    engine = write_engine(tmp_path / "engine")
    said = run([program, engine, runtime, video, "8", "8"], ASAN_OPTIONS="detect_leaks=1")
    assert said.split() == ["RED", "GREEN", "BLUE"]


def test_threads_have_no_finding_of_the_thread_sanitizer() -> None:
    folder = built("tsan", "-DCMAKE_CXX_COMPILER=g++", "-DSIGNEDGE_SANITIZE=thread", target="signedge_static")
    environment = {"SIGNEDGE_LIBRARY": str(folder / "libsignedge.so"), "CXXFLAGS": "-fsanitize=thread"}
    fixed = ["setarch", platform.machine(), "-R"]  # where addresses are random, this sanitizer may find no room
    test = f"{TESTS / 'test_native_faults.py'}::test_threads_find_the_same_in_a_storm"
    run([*fixed, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "", test], **environment)


HARNESSES = sorted(path.stem for path in (ROOT / "runtime" / "fuzz").glob("fuzz_*.cpp"))


@pytest.fixture(scope="module")
def fuzzers() -> Path:
    """The folder that holds fuzz/, with all fuzzers."""
    if shutil.which("clang++") is None:
        pytest.skip("clang is needed, for libFuzzer")
    tools = ["-DCMAKE_C_COMPILER=clang", "-DCMAKE_CXX_COMPILER=clang++"]
    return built("fuzz", "-DSIGNEDGE_FUZZ=ON", *tools, target="fuzzers")


@pytest.mark.parametrize("name", HARNESSES)
def test_fuzzers_find_nothing(fuzzers: Path, name: str, tmp_path: Path) -> None:
    seeds = ROOT / "runtime" / "fuzz" / "corpus" / name.removeprefix("fuzz_")
    found = f"-artifact_prefix={ROOT}/build/fuzz/"
    run([fuzzers / "fuzz" / name, f"-max_total_time={SECONDS}", found, tmp_path, seeds])
