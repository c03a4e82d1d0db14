"""How a bundle's graph becomes something that reads clips: a plan of TensorRT or TensorRT-RTX, or ONNX Runtime."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import numpy as np

from runtime import abi
from runtime.contract import Contract
from runtime.decode import greedy, to_glosses
from runtime.device import folder as bundles
from runtime.device.fitting import MODULE_OF, ONNXRUNTIME, RTX, TENSORRT, Needs, way
from runtime.device.machine import Machine
from runtime.device.timing import time_calls
from runtime.engine import ENGINE_FILE, Engine
from runtime.errors import BadInput, MissingExtra, Refused, SignedgeError
from runtime.preprocess import prepare
from runtime.trt.build import BuildRequest, BuildResult, build_plan
from runtime.trt.module import load

PLAN = "engine.plan"
LIBRARY = "libsignedge.so"
Say = Callable[[str], None]


@dataclass
class Built:
    """What was built and reads. `log_probs` maps network input (1,T',...) to (1,N,K)."""

    through: str  # for people
    contract: Contract
    log_probs: Callable[[np.ndarray], np.ndarray]
    recognise: Callable[[np.ndarray], List[str]]  # frames or keypoints -> glosses
    what: str  # what one call of `log_probs` is
    engine_file: str
    files: Dict[str, bytes] = field(default_factory=dict)  # of the engine folder
    versions: Dict[str, str] = field(default_factory=dict)

    def timed(self, request: Dict[str, Any]) -> Dict[str, Any]:
        """A latency record at the first profile's usual length."""
        padding = self.contract.padding
        length = int(request["profiles"][0]["opt"]) if request.get("profiles") else padding.total(64)
        clip = np.zeros(self._shape(length), dtype=np.float32)
        timed = time_calls(lambda: self.log_probs(clip))
        what = {"kind": "device-latency", "what": self.what, "frames": length, "batch": 1, "clocks": "as found"}
        return {**what, **timed}

    def _shape(self, length: int) -> List[int]:
        source = self.contract.input
        inner = (len(source.joints), 5) if self.contract.modality == "keypoints" else (3, source.height, source.width)
        return [1, length, *inner]


@contextlib.contextmanager
def tensorrt(
    bundle: Path, contract: Contract, needs: Needs, machine: Machine, logs: Path, say: Say
) -> Iterator[Built]:
    """A plan of the module that the bundle is for. Raises what building raises, `Refused` where it cannot be run."""
    request = BuildRequest.read(bundles.read_json(bundle / bundles.REQUEST))
    model = (bundle / bundles.MODEL).read_bytes()
    if way(needs, machine) == "trtexec":
        from runtime.trt import trtexec

        made, open_runner = trtexec.build(machine.trtexec, model, request, say), trtexec.Runner
        raise NotImplementedError(made, open_runner)
    trt = load(MODULE_OF[needs.runtime])
    made = build_plan(trt, model, request, say)
    _write_logs(made, logs)
    say(f"built {len(made.plan) / 1024:.0f} KiB with {made.built_by}, {len(made.layers)} layers")
    if not machine.driver:
        raise Refused(
            f"{made.built_by} built the plan, and without a working CUDA driver it cannot be judged here: no engine is "
            "left; run this bundle on a machine with the GPU"
        )
    from runtime.trt.run import Runner

    runner = Runner(made.plan, trt)
    yield Built(
        through=f"{made.built_by} on {machine.gpu}",
        contract=contract,
        log_probs=runner.log_probs,
        recognise=_through(contract, runner.log_probs),
        what="host's clock round one run: copy in, network, copy out",
        engine_file=PLAN,
        files={PLAN: made.plan, bundles.CONTRACT: (bundle / bundles.CONTRACT).read_bytes()},
        versions={MODULE_OF[needs.runtime]: str(trt.__version__), "cuda_driver": machine.driver},
    )


@contextlib.contextmanager
def onnxruntime(
    bundle: Path, contract: Contract, needs: Needs, machine: Machine, logs: Path, say: Say
) -> Iterator[Built]:
    """The graph as it is, for a CPU."""
    with on_cpu(bundle, contract, say) as built:
        built.files = {ENGINE_FILE: (bundle / bundles.MODEL).read_bytes()}
        yield built


@contextlib.contextmanager
def on_cpu(bundle: Path, contract: Contract, say: Say) -> Iterator[Built]:
    """The bundle's graph through ONNX Runtime: by libsignedge where it loads, else by its Python package."""
    _point_to_libraries(bundle, say)
    try:
        engine = Engine.from_onnx(bundle / bundles.MODEL, threads=1)
    except SignedgeError as error:
        why = "no libsignedge loads and there is no Python package" if isinstance(error, MissingExtra) else str(error)
        raise Refused(f"the CPU path needs ONNX Runtime (pip install onnxruntime): {why}") from error
    rgb = contract.modality == "rgb"
    yield Built(
        through=engine.through,
        contract=contract,
        log_probs=engine.log_probs,
        recognise=lambda clip: engine.recognise(clip if rgb else None, None if rgb else clip),
        what="host's clock round one run of the network, 1 thread",
        engine_file=ENGINE_FILE,
        versions={"through": engine.through},
    )


BUILDERS: Dict[str, Callable[..., Any]] = {TENSORRT: tensorrt, RTX: tensorrt, ONNXRUNTIME: onnxruntime}


def _through(contract: Contract, log_probs: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], List[str]]:
    def recognise(clip: np.ndarray) -> List[str]:
        steps = contract.steps(len(clip))
        found = log_probs(prepare(contract, clip, clip))
        if found.shape != (1, steps, len(contract.glosses)):
            raise BadInput(f"the engine gives {found.shape}; its contract says (1, {steps}, {len(contract.glosses)})")
        if not np.isfinite(found).all():
            found = np.where(np.isnan(found), -np.inf, found)  # NaN wins no step: the WER tells
        return to_glosses(greedy(found[0]), contract.glosses)

    return recognise


def _write_logs(made: BuildResult, logs: Path) -> None:
    (logs / "build.log").write_text("".join(f"{line}\n" for line in made.log), encoding="utf-8")
    bundles.write_json(logs / "layers.json", made.layers)


def _point_to_libraries(bundle: Path, say: Say) -> None:
    """Let the binding find the libraries of the bundle, unless the user named others."""
    if not os.environ.get(abi.LIBRARY_VARIABLE):
        for path in (bundle / "native" / LIBRARY, bundle / "lib" / platform.machine() / LIBRARY):
            if path.is_file():
                try:
                    ctypes.CDLL(str(path))
                except OSError as error:
                    say(f"{path.name} of the bundle does not load here ({error}); build it with: sh native/build.sh")
                    continue
                os.environ[abi.LIBRARY_VARIABLE] = str(path)
                break
    runtimes = sorted((bundle / "lib" / platform.machine()).glob("libonnxruntime.so*"))
    if runtimes and importlib.util.find_spec("onnxruntime") is None:
        os.environ.setdefault("SIGNEDGE_ONNXRUNTIME_LIBRARY", str(runtimes[0]))
