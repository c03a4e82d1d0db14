"""Build a plan in a process of its own, which is how to build: what a build leaves behind dies with it.

A build of TensorRT-RTX 1.7.1 that failed makes the next one in the same process fall back from INT8 to FP32 without a
word, TensorRT keeps GPU memory, and a library that crashes takes no more than that process along.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from runtime import errors
from runtime.errors import BadInput, MissingExtra
from runtime.trt import module
from runtime.trt.build import BuildRequest, BuildResult, build_plan

ROOT = Path(__file__).resolve().parents[2]  # where the package `runtime` lies
_STAGE = "stage: "


def build_apart(
    name: str,
    onnx: bytes,
    request: BuildRequest,
    progress: Optional[Callable[[str], None]] = None,
    timing_cache: bytes = b"",
    python: str = sys.executable,
) -> BuildResult:
    """`build_plan` with the module called `name`, in a new process of `python`; the same errors.

    Raises `BadInput` too where that process died without a word.
    """
    with tempfile.TemporaryDirectory(prefix="signedge-build-") as temporary:
        folder = Path(temporary)
        (folder / "graph.onnx").write_bytes(onnx)
        (folder / "timing.cache").write_bytes(timing_cache)
        (folder / "request.json").write_text(json.dumps(request.as_json()), encoding="utf-8")
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        command = [python, "-m", "runtime.trt.apart", name, str(folder)]
        with (folder / "stderr").open("w+", encoding="utf-8", errors="replace") as said, subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=said, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if progress is not None and line.startswith(_STAGE):
                    progress(line[len(_STAGE) :].rstrip("\n"))
            status = process.wait()
            said.seek(0)
            last = " ".join(said.read().split())[-300:]
        answer = folder / "answer.json"
        if not answer.is_file():
            raise BadInput(f"the build by {name} died (status {status}): {last or 'it said nothing'}")
        return _read(folder, json.loads(answer.read_text(encoding="utf-8")))


def _read(folder: Path, answer: Dict[str, Any]) -> BuildResult:
    if answer.get("error") == "MissingExtra":
        raise MissingExtra(*answer["says"])
    if "error" in answer:
        raise getattr(errors, answer["error"])(answer["says"])
    plan, cache = (folder / "plan").read_bytes(), (folder / "timing.cache").read_bytes()
    return BuildResult(plan, answer["layers"], answer["log"], cache, answer["built_by"])


def main(arguments: List[str]) -> int:
    """NAME FOLDER: build what lies in the folder, leave plan, timing cache and answer there."""
    name, folder = arguments[0], Path(arguments[1])
    request = BuildRequest.read(json.loads((folder / "request.json").read_text(encoding="utf-8")))
    try:
        result = build_plan(
            module.load(name), (folder / "graph.onnx").read_bytes(), request,
            lambda stage: print(_STAGE + stage, flush=True), (folder / "timing.cache").read_bytes(),
        )  # fmt: skip
    except MissingExtra as error:
        answer: Dict[str, Any] = {"error": "MissingExtra", "says": [error.module, error.extra]}
    except errors.SignedgeError as error:
        answer = {"error": type(error).__name__, "says": str(error)}
    else:
        (folder / "plan").write_bytes(result.plan)
        (folder / "timing.cache").write_bytes(result.timing_cache)
        answer = {"layers": result.layers, "log": result.log, "built_by": result.built_by}
    (folder / "answer.json").write_text(json.dumps(answer), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
