"""`signedge engine` on the target itself, where TensorRT is the system's and not of signedge's own Python.

The machine is a stand-in of a T4: nvidia-smi, CUDA driver, trtexec. signedge runs as a process of its own, which loads
that driver.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from bundle_stage import T4, stand_in_t4

import signedge
from distill.corpus.store import Corpus
from export.engine import read_exported
from export.onnx_graph import ExportReport
from runtime.engine import PLAN_FILE, read_manifest
from runtime.trust import verify, verify_chain

pytestmark = pytest.mark.skipif(find_spec("tensorrt") is not None, reason="this Python has tensorrt: it would build")

SMI = "#!/bin/sh\necho 'Tesla T4, 7.5, 15360, 550.54'\n"
PYTHON3 = '#!/bin/sh\necho "$PYTHONPATH" >> {seen}\nexec {python} "$@"\n'
Start = Callable[..., "subprocess.Popen[str]"]


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def start(exported: ExportReport, corpus: Corpus, tmp_path: Path) -> Start:
    """Starts `signedge engine` on the stand-in, as in an active virtual environment, --out `tmp_path`/made/engine."""
    machine = stand_in_t4(tmp_path / "t4")
    program(tmp_path / "t4" / "programs" / "nvidia-smi", SMI)
    text = PYTHON3.format(seen=tmp_path / "seen", python=sys.executable)
    own = [str(Path(sys.executable).parent)] if sys.prefix != sys.base_prefix else []
    path = [*own, str(program(tmp_path / "system" / "python3", text).parent), machine["PATH"]]
    (tmp_path / "scratch").mkdir()
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHON"}, **machine,
        "PATH": os.pathsep.join(path), "PYTHONPATH": str(tmp_path / "ours"), "TMPDIR": str(tmp_path / "scratch"),
    }  # fmt: skip

    def run(*words: str, corpus: Corpus = corpus, precision: str = "fp32", **variables: str) -> Any:
        given = ["--corpus", str(corpus.folder), "--out", str(tmp_path / "made" / "engine"), *words]
        command = [sys.executable, signedge.__file__, "engine", str(exported.path), "--target", T4]
        return subprocess.Popen(
            [*command, "--precision", precision, *given], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**environment, **variables},
        )  # fmt: skip

    return run


def made(tmp_path: Path) -> set[str]:
    """What lies where the engine was to be; nothing may be left in the folder of temporary files."""
    assert list((tmp_path / "scratch").iterdir()) == []
    return {path.name for path in (tmp_path / "made").glob("*")}


def test_the_systems_python_builds_and_the_engine_is_kept(
    start: Start, exported: ExportReport, tmp_path: Path
) -> None:
    process = start()
    out, told = process.communicate()
    assert process.returncode == 0, told
    assert "signedge's own Python has no module tensorrt" in told and "building with trtexec 10.3.0" in told
    assert "built and judged here by the system's Python" in out and "WER 0.00 % on 8 dev clips" in out
    assert made(tmp_path) == {"engine", "engine.logs"}
    engine = tmp_path / "made" / "engine"
    manifest = read_manifest(engine)
    assert verify(manifest).own and manifest["gate"]["passed"] and manifest["machine"] == "t4"
    verify_chain(engine, manifest, read_exported(Path(exported.path))[1], PLAN_FILE)
    assert manifest["chain"]["bundle"] and manifest["plan_facts"]["compute_capability"] == "7.5"
    names = {path.name for path in (tmp_path / "made" / "engine.logs").iterdir()}
    assert {"build.log", "gate.json", "layers.json", "machine.json", "steps.log"} <= names
    paths = (tmp_path / "seen").read_text()
    assert paths and str(tmp_path / "ours") not in paths


def test_python_is_the_one_that_is_named_and_the_manifest_can_be_asked_for(start: Start, tmp_path: Path) -> None:
    process = start("--json", PYTHON=sys.executable)
    out, told = process.communicate()
    assert process.returncode == 0, told
    assert json.loads(out) == read_manifest(tmp_path / "made" / "engine") and not (tmp_path / "seen").exists()


def test_an_engine_that_reads_badly_is_not_kept(start: Start, tmp_path: Path) -> None:
    """trtexec here loses what the graph says; the gate that ran before, in ONNX Runtime, could not see it."""
    trtexec = tmp_path / "t4" / "programs" / "trtexec"
    trtexec.write_text(trtexec.read_text().replace('"values": y.ravel()', '"values": (-y).ravel()'))
    process = start()
    told = process.communicate()[1].splitlines()
    assert process.returncode == 1
    assert "failed the WER gate" in told[-1] and told[-1].startswith("signedge engine: colours in fp32 on t4")
    assert made(tmp_path) == {"engine.logs"}
    logs = tmp_path / "made" / "engine.logs"
    assert not json.loads((logs / "gate.json").read_text())["passed"]
    assert "failed the WER gate" in (logs / "error.log").read_text()


def test_where_the_system_has_no_tensorrt_a_bundle_is_recommended(start: Start, tmp_path: Path) -> None:
    (tmp_path / "t4" / "programs" / "trtexec").unlink()
    process = start()
    last = process.communicate()[1].splitlines()[-1]
    assert process.returncode == 3 and made(tmp_path) == {"engine.logs"}
    assert "neither its Python module nor trtexec is there" in last and last.endswith("to be built later: --tar")


def test_a_system_without_numpy_is_told(start: Start, tmp_path: Path) -> None:
    bare = program(tmp_path / "bare", f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    process = start(PYTHON=str(bare))
    last = process.communicate()[1].splitlines()[-1]
    assert process.returncode == 2 and "has no numpy; install it" in last and made(tmp_path) == set()


def test_tar_means_a_bundle(start: Start, tmp_path: Path) -> None:
    process = start("--tar")
    out, told = process.communicate()
    assert process.returncode == 0, told
    assert "a bundle, not yet an engine" in out and f"sh {tmp_path / 'made' / 'engine'}/build.sh" in out
    assert made(tmp_path) == {"engine", "engine.tar"} and not (tmp_path / "seen").exists()


def test_one_that_is_ended_leaves_nothing_and_nothing_at_work(start: Start, tmp_path: Path) -> None:
    trtexec = tmp_path / "t4" / "programs" / "trtexec"
    asleep = f'import os, time\nPath("{tmp_path}/pid").write_text(str(os.getpid()))\ntime.sleep(60)\n'
    head, build, rest = trtexec.read_text().partition('if "onnx" in given:\n')
    trtexec.write_text(f"{head}{build}    exec({asleep!r})\n{rest}")
    process = start()
    for _ in range(600):
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143 and made(tmp_path) <= {"engine.logs"}
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


