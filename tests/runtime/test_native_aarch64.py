"""libsignedge on 64-bit ARM, emulated by qemu: the glosses are those of the machine that runs the tests.

Needs g++-aarch64-linux-gnu, qemu-user-static and, in $SIGNEDGE_AARCH64_ONNXRUNTIME, the path of libonnxruntime.so.1.*
from ONNX Runtime's wheel for aarch64:
    pip download onnxruntime --no-deps --only-binary=:all: --platform manylinux_2_28_aarch64
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from native_programs import NATIVE, environment, link_driver, needs
from test_engine import clip, write_engine
from test_native_windows import clip as moving_clip
from test_native_windows import onnx_file
from test_run_command import keypoints, write_pose_engine

from export.onnx_graph import read_model
from export.precision import Int8Plan, make_precision
from runtime.engine import Engine
from runtime.preprocess import prepare

__all__ = ["onnx_file"]  # a fixture: small networks, exported

VARIABLE = "SIGNEDGE_AARCH64_ONNXRUNTIME"
PROGRAM = Path("examples") / "recognise_file"
Rows = list[list[str]]  # start, end, gloss, confidence
Read = Callable[[Path, np.ndarray], list[Rows]]


@pytest.fixture(scope="session")
def emulator() -> list[str]:
    """The words before a program of ARM."""
    return [needs("qemu-aarch64-static"), "-cpu", "cortex-a76", "-L", "/usr/aarch64-linux-gnu"]


@pytest.fixture(scope="session")
def emulated(library_for_arm: Path, emulator: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that runs recognise_file of ARM."""
    runtime = Path(os.environ.get(VARIABLE) or "/nowhere")
    if not runtime.is_file():
        pytest.skip(f"${VARIABLE} does not name an ONNX Runtime library for aarch64")
    cpuinfo = tmp_path_factory.mktemp("arm") / "libarm_cpuinfo.so"
    compiler = ["aarch64-linux-gnu-gcc", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([*compiler, str(NATIVE / "arm_cpuinfo.c"), "-o", str(cpuinfo), "-ldl"], check=True)
    variables = {
        "LD_PRELOAD": cpuinfo,
        "LD_LIBRARY_PATH": f"{library_for_arm.parent}:{runtime.parent}",
        "SIGNEDGE_ONNXRUNTIME_LIBRARY": runtime,
    }
    told = [word for name, value in variables.items() for word in ("-E", f"{name}={value}")]
    return [*emulator, *told, str(library_for_arm.parent / PROGRAM)]


@pytest.fixture
def read_on_both(plain_library: Path, emulated: list[str], tmp_path: Path) -> Read:
    """Engine and clip -> what recognise_file prints on this machine, and on ARM."""

    def read(engine: Path, values: np.ndarray) -> list[Rows]:
        values.tofile(tmp_path / "clip.raw")
        size = [str(values.shape[2]), str(values.shape[1])] if values.dtype == np.uint8 else []
        found = []
        for program in ([str(plain_library.parent / PROGRAM)], emulated):
            command = [*program, str(engine), *size, "25", str(tmp_path / "clip.raw")]
            done = subprocess.run(command, capture_output=True, text=True, env=environment())
            assert done.returncode == 0, done.stderr
            found.append([line.split() for line in done.stdout.splitlines()])
        return found

    return read


def same(here: Rows, arm: Rows) -> None:
    """Glosses and times to the digit; confidence to its last one."""
    assert [row[:3] for row in arm] == [row[:3] for row in here]
    np.testing.assert_allclose([float(row[3]) for row in arm], [float(row[3]) for row in here], atol=0.011)


def test_frames(read_on_both: Read, tmp_path: Path) -> None:
    here, arm = read_on_both(write_engine(tmp_path / "engine"), clip(1, 0, 2, 2, 3))
    same(here, arm)
    assert [row[2] for row in arm] == ["RED", "GREEN", "BLUE"]


def test_keypoints(read_on_both: Read, tmp_path: Path) -> None:
    here, arm = read_on_both(write_pose_engine(tmp_path / "pose.onnx"), keypoints())
    same(here, arm)
    assert [row[2] for row in arm] == ["A", "B", "B"]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_exported_networks(read_on_both: Read, onnx_file: Path, tmp_path: Path, precision: str) -> None:
    engine, contract = onnx_file, Engine.from_onnx(onnx_file).contract
    if precision == "int8":
        engine = tmp_path / "int8.onnx"
        clips = (prepare(contract, video, video) for video in (moving_clip(contract, 100, seed) for seed in (1, 2)))
        made = make_precision(read_model(onnx_file), "int8", clips, options=Int8Plan(weight_bits=7))
        engine.write_bytes(made.to_bytes())
    here, arm = read_on_both(engine, moving_clip(contract, 150, 3))
    same(here, arm)
    assert len(arm) > 8, "a test of nothing"


def test_arithmetic_is_the_same_to_the_bit(
    plain_library: Path, library_for_arm: Path, emulator: list[str], tmp_path: Path
) -> None:
    """Keypoints and decoding, linked from the archives as they are built."""
    prints = []
    for library, prefix, before in ((plain_library, "", []), (library_for_arm, "aarch64-linux-gnu-", emulator)):
        program = tmp_path / f"{prefix}arithmetic"
        link_driver(program, library.with_suffix(".a"), "arithmetic_driver", compiler=f"{prefix}g++")
        done = subprocess.run([*before, program], capture_output=True, text=True, check=True)
        prints.append(done.stdout.splitlines())
    assert len(prints[0]) > 5000 and prints[1] == prints[0]
