"""What runs on a device works with the oldest Python that a device has: 3.8, numpy and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import native_programs
import numpy as np
import pytest
from test_engine import clip, write_engine
from test_run_command import keypoints, write_pose_engine

ROOT = Path(__file__).parents[2]
VARIABLE = "SIGNEDGE_OLD_PYTHON"
SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np
from runtime import Decoding, Model
from runtime.engine import Engine

folder = Path(sys.argv[1])
frames, points = np.load(str(folder / "frames.npy")), np.load(str(folder / "points.npy"))
engine = Engine.open(folder / "engine", threads=1)
stream = Model(folder / "engine", threads=1).stream(chunk=32, shift=8, decoding=Decoding(beam_width=10))
for number, frame in enumerate(frames):
    stream.push(frame, number * 40_000_000)
    stream.step()
stream.finish()
stream.step()
print(json.dumps({
    "engine": engine.recognise(frames=frames),
    "through": engine.through,
    "model": Model(folder / "pose.onnx", threads=1).recognise(keypoints=points),
    "stream": [gloss.text for gloss in stream.poll() if gloss.final],
    "python": sys.version_info[:2],
    "torch": "torch" in sys.modules,
}))
"""


@pytest.fixture(scope="module")
def old_python() -> str:
    """An interpreter older than 3.11 that has numpy."""
    for name in (os.environ.get(VARIABLE), "python3.8", "python3.9", "python3.10"):
        found = shutil.which(name) if name else None
        if found and subprocess.run([found, "-c", "import numpy"], capture_output=True).returncode == 0:
            return found
    pytest.skip(f"no Python 3.8 to 3.10 with numpy is installed, nor does ${VARIABLE} name one")


@pytest.fixture
def environment(library: Path) -> dict[str, str]:
    return native_programs.environment(SIGNEDGE_LIBRARY=str(library), PYTHONPATH=str(ROOT))


def test_engines_models_and_streams(old_python: str, environment: dict[str, str], tmp_path: Path) -> None:
    write_engine(tmp_path / "engine")
    write_pose_engine(tmp_path / "pose.onnx")
    np.save(tmp_path / "frames.npy", clip(1, 0, 2, 2, 3))
    np.save(tmp_path / "points.npy", keypoints())
    command = [old_python, "-B", "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["engine"] == found["stream"] == ["RED", "GREEN", "BLUE"] and found["model"] == ["A", "B", "B"]
    assert found["through"].startswith("libsignedge") and found["python"] < [3, 11] and not found["torch"]


def test_the_example(old_python: str, environment: dict[str, str], tmp_path: Path) -> None:
    command = [old_python, "-B", str(ROOT / "runtime/examples/python/live.py"), str(write_engine(tmp_path / "engine"))]
    frames = clip(1, 0, 2, 2, 3).tobytes()
    done = subprocess.run([*command, "8", "8", "25"], input=frames, capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in done.stdout.decode().splitlines()] == ["RED", "GREEN", "BLUE"]
