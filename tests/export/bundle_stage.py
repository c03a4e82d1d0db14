"""What the tests of bundles share: bundles of the colour network, interpreters of devices, and a run of the command."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export_stage import COLOURS, colour_clip, contract

from devices.profile import resolve
from export.bundle import Bundle, make_bundle
from export.onnx_graph import ExportReport, read_model
from runtime import abi
from runtime.device.folder import CLIPS, MANIFEST, GateClip, write_json
from runtime.hashing import sha256_file

VARIABLE = "SIGNEDGE_DEVICE_PYTHONS"  # interpreters with numpy, such as devices have, separated by colons
ORIN = "jetson-orin-nano-8gb@6.2"
RTX = "rtx-4090@tensorrt-rtx"
T4 = "t4@tensorrt-10.3"
HERE = "x86-cpu"
MADE: dict[str, Any] = {
    "chain": {"corpus": "", "recipe": "r" * 64, "checkpoint": "c" * 64, "onnx": "0" * 64, "calibration": ""},
    "plan": {"precision": "fp32"},
}


def gate_clips(count: int = 6) -> list[GateClip]:
    """Colour clips; the FP32 network reads them without a fault."""
    rng = np.random.default_rng(3)
    clips = []
    for number in range(count):
        glosses = [str(item) for item in rng.choice(list(COLOURS), 3)]
        clips.append(GateClip(f"dev{number}", colour_clip(glosses, rng), tuple(glosses), tuple(glosses), ()))
    return clips


def bundle_for(name: str, exported: ExportReport, out: Path, **changes: Any) -> Bundle:
    """The colour network's bundle for a target."""
    wanted = resolve(name)
    capabilities = [wanted.profile.compute_capability] if wanted.software.runtime == "tensorrt-rtx" else []
    given: dict[str, Any] = {
        "graph": read_model(exported.path), "contract": contract(), "target": wanted, "precision": "fp32",
        "request": {"profiles": [{"min": 4, "opt": 64, "max": 160}], "compute_capabilities": capabilities},
        "gate_clips": gate_clips(), "budget": 0.5, "made": MADE, "out": out,
    }  # fmt: skip
    return make_bundle(**{**given, **changes})


def rewrite_clips(bundle: Path, **changes: Any) -> None:
    """Put other words into every row of the clips, as if the bundle had been made with them."""
    listed = json.loads((bundle / CLIPS).read_text())
    for row in listed["clips"]:
        row.update(changes)
    write_json(bundle / CLIPS, listed)
    manifest = json.loads((bundle / MANIFEST).read_text())
    manifest["files"][CLIPS] = sha256_file(bundle / CLIPS)
    write_json(bundle / MANIFEST, manifest)


@functools.cache
def python_of(version: str, module: str = "numpy") -> str:
    """An interpreter of that version ("": any) with a module; the test is skipped without one."""
    given = os.environ.get(VARIABLE, "").split(":")
    for name in (*given, *([f"python{version}"] if version else [sys.executable])):
        found = shutil.which(name) if name else None
        code = f"import sys, {module}; print('%d.%d' % sys.version_info[:2])"
        done = found and subprocess.run([found, "-c", code], capture_output=True, text=True)
        if found and done and done.returncode == 0 and version in ("", done.stdout.strip()):
            return found
    pytest.skip(f"no Python {version} with {module} is installed, nor does ${VARIABLE} name one")


def onnxruntime_library() -> str:
    """That of this Python's wheel."""
    return abi.backend_library("onnxruntime") or os.environ.get("SIGNEDGE_ONNXRUNTIME_LIBRARY", "")


def run_command(bundle: Path, *words: str, python: str = sys.executable, **variables: str) -> Any:
    """`sh build.sh` of a bundle."""
    environment = {
        **os.environ, "PYTHON": python, "SIGNEDGE_KEY": str(bundle.parent / "key"),
        "XDG_CACHE_HOME": str(bundle.parent / "cache"), "SIGNEDGE_ONNXRUNTIME_LIBRARY": onnxruntime_library(),
        **variables,
    }  # fmt: skip
    environment.pop("PYTHONPATH", None)
    return subprocess.run(
        ["sh", str(bundle / "build.sh"), *words], capture_output=True, text=True, env=environment, cwd=bundle.parent
    )


def stand_in_t4(folder: Path) -> dict[str, str]:
    """The variables of a machine that has a stand-in of a T4, with trtexec and without a module of Python."""
    driver, program = stand_in_driver(folder / "driver"), stand_in_trtexec(folder / "programs")
    path = f"{program.parent}:{os.environ['PATH']}"
    return {"LD_LIBRARY_PATH": str(driver), "HOST_CUDA_CAPABILITY": "7.5", "PATH": path}


def fake_jetson(root: Path, l4t: str = "36 4.3", chip: str = "tegra234", model: str = "Orin Nano") -> Path:
    """The files by which a Jetson tells what it is."""
    release, revision = l4t.split()
    for name, text in {
        "proc/device-tree/model": f"NVIDIA Jetson {model} Developer Kit\0",
        "proc/device-tree/compatible": f"nvidia,p3768-0000+p3767-0005\0nvidia,{chip}\0",
        "etc/nv_tegra_release": f"# R{release} (release), REVISION: {revision}, GCID: 1, BOARD: generic\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


TRTEXEC = """#!{python}
import json, sys
from pathlib import Path
import numpy as np
given = dict(word[2:].partition("=")[::2] for word in sys.argv[1:])
print("&&&& RUNNING TensorRT.trtexec [TensorRT v{number}] # " + " ".join(sys.argv))
if "onnx" in given:
    import onnx
    opened = [dim.dim_param for dim in onnx.load(given["onnx"]).graph.input[0].type.tensor_type.shape.dim]
    if not any(opened) and "minShapes" in given:
        sys.exit("[E] Static model does not take explicit shapes")
    head = b"ftrt" + bytes(20) + bytes({version})
    Path(given["saveEngine"]).write_bytes(head + Path(given["onnx"]).read_bytes())
    Path(given["exportLayerInfo"]).write_text(json.dumps({{"Layers": ["convolution"], "Bindings": ["input"]}}))
    timings = Path(given["timingCacheFile"])
    timings.write_bytes((timings.read_bytes() if timings.is_file() else b"") + b"timed ")
elif "loadEngine" in given:
    import onnxruntime
    session = onnxruntime.InferenceSession(Path(given["loadEngine"]).read_bytes()[28:])
    shape = session.get_inputs()[0].shape
    if "shapes" in given:
        shape = [int(size) for size in given["shapes"].split(":")[1].split("x")]
    x = np.fromfile(given["loadInputs"].split(":", 1)[1], "<f4").reshape(shape)
    (y,) = session.run(["log_probs"], {{"input": x}})
    entry = {{"name": "log_probs", "dimensions": "x".join(map(str, y.shape)), "values": y.ravel().tolist()}}
    Path(given["exportOutput"]).write_text(json.dumps([entry]))
"""


def stand_in_trtexec(folder: Path, number: str = "100300", version: tuple[int, ...] = (10, 3, 0, 26)) -> Path:
    """A trtexec that "builds" by keeping the graph and runs it by ONNX Runtime."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "trtexec"
    path.write_text(TRTEXEC.format(python=sys.executable, number=number, version=list(version)))
    path.chmod(0o755)
    return path


def stand_in_driver(folder: Path) -> Path:
    """A CUDA driver whose device is host memory, as libcuda.so.1."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("a C compiler is needed for the stand-in of the CUDA driver")
    folder.mkdir(parents=True, exist_ok=True)
    source = Path(__file__).parents[1] / "runtime" / "native" / "host_cuda.c"
    command = [compiler, "-shared", "-fPIC", str(source), "-o", str(folder / "libcuda.so.1")]
    subprocess.run(command, check=True)
    return folder
