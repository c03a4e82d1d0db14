"""What the fuzzers found worth keeping goes through their harnesses again, under the sanitizers, without libFuzzer."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from native_programs import INCLUDES, NATIVE, RUNTIME

from runtime.benchmarks.native import KERNEL_FLAGS

REPLAY = NATIVE / "replay.cpp"
HARNESSES = sorted(path.stem for path in (RUNTIME / "fuzz").glob("fuzz_*.cpp"))
ELSEWHERE = {"api", "model", "shared_library", "stream", "workers"}  # what no harness calls
FLAGS = ["-std=c++17", "-O0", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of objects of the library and of the harnesses."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is needed")
    folder = tmp_path_factory.mktemp("fuzz")
    sources = [path for path in (RUNTIME / "src").glob("*.cpp") if path.stem not in ELSEWHERE]

    def compile_one(source: Path) -> str:
        kernel = KERNEL_FLAGS.get(source.stem, []) if platform.machine() == "x86_64" else []
        command = ["g++", *FLAGS, *kernel, *INCLUDES, "-c", str(source), "-o", str(folder / f"{source.stem}.o")]
        return subprocess.run(command, capture_output=True, text=True).stderr

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        said = pool.map(compile_one, [REPLAY, *(RUNTIME / "fuzz").glob("fuzz_*.cpp"), *sources])
    assert "".join(said) == ""
    return folder


@pytest.mark.parametrize("name", HARNESSES)
def test_the_corpus_of_a_fuzzer_has_no_finding(objects: Path, name: str) -> None:
    corpus = sorted((RUNTIME / "fuzz" / "corpus" / name.removeprefix("fuzz_")).iterdir())
    assert corpus, "a harness without a corpus"
    others = {f"{harness}.o" for harness in HARNESSES} - {f"{name}.o"}
    program = objects / name
    linked = [str(path) for path in objects.glob("*.o") if path.name not in others]
    built = subprocess.run(["g++", *FLAGS, *linked, "-o", str(program)], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    done = subprocess.run([str(program), *map(str, corpus)], capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stderr
