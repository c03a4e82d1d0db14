"""Memory of a stream that runs for long: no allocation of ours once it is warm, and a resident size that stays."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_engine import write_engine

from runtime import abi

NATIVE = Path(__file__).parent / "native"
SCRIPT = """
import ctypes, json, sys
import numpy as np
from runtime.binding import Decoding, Model

counter = ctypes.CDLL(None)
counter.stop_counting.restype = ctypes.c_ulong
rng = np.random.default_rng(1)
pictures = np.concatenate([np.zeros((1, 3)), 255 * np.eye(3)])[:, None, None, :] * np.ones((1, 24, 20, 1))
pictures = pictures.astype(np.uint8)
sentence = [int(label) for label in rng.integers(0, 4, 997)]
model = Model(sys.argv[1], threads=1)
counter.start_counting()
stream = model.stream(chunk=32, shift=8, decoding=Decoding(beam_width=int(sys.argv[2])))
control = counter.stop_counting()


def play(first, last):
    final = 0
    for number in range(first, last):
        stream.push(pictures[sentence[number // 4 % len(sentence)]], number * 40_000_000)
        stream.step()
        final += sum(gloss.final for gloss in stream.poll())
    return final


def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4


play(0, 5000)
counter.start_counting()
final = play(5000, 9000)
allocations = counter.stop_counting()
play(9000, 20000)
before = resident()
play(20000, int(sys.argv[3]))
print(json.dumps({"control": control, "final": final, "allocations": allocations, "growth_kib": resident() - before}))
"""


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What counts the allocations of libsignedge; see native/count_allocations.cpp."""
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    built = tmp_path_factory.mktemp("counter") / "libcount_allocations.so"
    source = str(NATIVE / "count_allocations.cpp")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", source, "-o", str(built), "-ldl"], check=True)
    return built


@pytest.mark.parametrize(("beam_width", "frames"), [(0, 120_000), (10, 40_000)])
def test_a_warm_stream_allocates_nothing_and_does_not_grow(
    library: Path, counter: Path, tmp_path: Path, beam_width: int, frames: int
) -> None:
    engine = write_engine(tmp_path / "engine")
    environment = {**os.environ, "LD_PRELOAD": str(counter), abi.LIBRARY_VARIABLE: str(library)}
    command = [sys.executable, "-c", SCRIPT, str(engine), str(beam_width), str(frames)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["final"] > 500 and found["control"] > 10, "a test of nothing"
    assert found["allocations"] == 0
    assert found["growth_kib"] < 1024
