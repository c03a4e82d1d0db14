"""ONNX Runtime reports to its makers unless it is told not to: nothing here lets it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_engine import write_engine

from runtime import abi

READ = """
import sys
from pathlib import Path
import numpy as np
from runtime.engine import Engine
clip = np.zeros((8, 8, 8, 3), np.uint8)
Engine.open(sys.argv[1], threads=1).recognise(frames=clip)
"""


@pytest.mark.parametrize("through", ["libsignedge", "onnxruntime"])
def test_reading_a_clip_leaves_no_number_of_the_device(library: Path, tmp_path: Path, through: str) -> None:
    """With the variable, nothing is kept at home and nothing is sent (microsoft/onnxruntime, pull request 27379)."""
    engine, home = write_engine(tmp_path / "engine"), tmp_path / "home"
    home.mkdir()
    built = library if through == "libsignedge" else tmp_path / "absent.so"
    kept = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment = {**kept, "HOME": str(home), abi.LIBRARY_VARIABLE: str(built)}
    environment.pop("XDG_CACHE_HOME", None)
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", READ, str(engine)], env=environment, cwd=root, check=True)
    left = [str(path) for path in home.rglob("*") if "onnxruntime" in str(path)]
    assert left == []
