"""Programs in C under valgrind: no invalid access, no undefined value, nothing lost."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from native_programs import NATIVE, environment, link_driver, needs
from test_engine import clip, write_engine
from test_run_command import write_pose_engine

from runtime import abi

FOUND = 99
Check = Callable[..., str]


@pytest.fixture
def check(plain_library: Path) -> Check:
    """Run a program under memcheck: what it prints."""
    found = environment(LD_LIBRARY_PATH=str(plain_library.parent))
    valgrind = [needs("valgrind"), "--quiet", f"--error-exitcode={FOUND}", f"--suppressions={NATIVE / 'valgrind.supp'}"]
    valgrind += ["--leak-check=full", "--errors-for-leak-kinds=definite,indirect,possible"]

    def run(*command: object) -> str:
        done = subprocess.run([*valgrind, *map(str, command)], capture_output=True, text=True, env=found)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_a_clip(check: Check, plain_library: Path, tmp_path: Path) -> None:
    program = tmp_path / "client"
    sources = [f"-I{NATIVE / 'released_1'}", str(NATIVE / "client_1.c")]
    subprocess.run(["cc", "-g", *sources, str(plain_library), "-o", str(program)], check=True)
    clip(1, 0, 2, 2, 3).tofile(tmp_path / "frames.rgb")
    engine, backend = write_engine(tmp_path / "engine"), abi.backend_library("onnxruntime")
    assert check(program, engine, backend, tmp_path / "frames.rgb", 8, 8).split() == ["RED", "GREEN", "BLUE"]


@pytest.mark.parametrize("modality", ["frames", "keypoints"])
def test_many_streams(check: Check, plain_library: Path, tmp_path: Path, modality: str) -> None:
    program = plain_library.parent / "examples" / "many_streams"
    frames = modality == "frames"
    engine = write_engine(tmp_path / "engine") if frames else write_pose_engine(tmp_path / "pose.onnx")
    assert "the same" in check(program, engine, 4, 40)


def test_decoding(check: Check, plain_library: Path, tmp_path: Path) -> None:
    program = tmp_path / "arithmetic"
    link_driver(program, plain_library.with_suffix(".a"), "arithmetic_driver", flags=("-g",))
    assert check(program).count("\n") > 5000
