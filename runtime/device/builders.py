"""How a bundle's graph becomes something that reads clips: a plan of TensorRT or TensorRT-RTX, or ONNX Runtime."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np

from runtime import abi
from runtime.contract import Contract
from runtime.decode import greedy, to_glosses
from runtime.device import folder as bundles
from runtime.device.fitting import MODULE_OF, ONNXRUNTIME, RTX, TENSORRT, TRTEXEC, Needs, way
from runtime.device.machine import Machine
from runtime.device.timing import time_calls
from runtime.engine import CONTRACT_FILE, ENGINE_FILE, PLAN_FACTS, PLAN_FILE, Engine
from runtime.errors import BadInput, MissingExtra, Refused, SignedgeError
from runtime.preprocess import prepare
from runtime.trt import compat, cuda, inspect, timing_cache, trtexec
from runtime.trt.apart import build_apart
from runtime.trt.build import BuildRequest, BuildResult
from runtime.trt.compat import plan_facts
from runtime.trt.module import load
from runtime.windows import joined, one_by_one

USUAL_LENGTH = 64  # frames, where no profile says
DEVICE_RUNS = 100
LIBRARY = "libsignedge.so"
ONNXRUNTIME_VARIABLE = "SIGNEDGE_ONNXRUNTIME_LIBRARY"
Say = Callable[[str], None]


@dataclass
class Built:
    """What was built and reads."""

    through: str  # for people
    contract: Contract
    log_probs: Callable[[np.ndarray], np.ndarray]  # (1,T',...) -> (1,N,K)
    what: str  # what one call of `log_probs` is, for its timing; "": not worth timing
    engine_file: str
    files: Dict[str, bytes] = field(default_factory=dict)  # of the engine folder
    versions: Dict[str, str] = field(default_factory=dict)
    facts: Dict[str, Any] = field(default_factory=dict)  # for the engine's manifest
    device_ms: Optional[Callable[[np.ndarray, int], List[float]]] = None  # times on the device alone

    def recognise(self, clip: np.ndarray) -> List[str]:
        """Frames or keypoints -> glosses; what is not finite wins no step, so that the WER tells."""
        windows = prepare(self.contract, clip, clip)
        shape = (len(windows), self.contract.steps_run(len(clip)), len(self.contract.glosses))
        found = one_by_one(self.log_probs, windows)
        if found.shape != shape:
            raise BadInput(f"the engine gives {found.shape} for {len(clip)} frames; its contract says {shape}")
        log_probs = joined(self.contract, found, len(clip))
        return to_glosses(greedy(np.where(np.isnan(log_probs), -np.inf, log_probs)), self.contract.glosses)

    def timed(self, request: Dict[str, Any]) -> Dict[str, Any]:
        """A latency record at the first profile's usual length."""
        length = request["profiles"][0]["opt"] if request.get("profiles") else self.contract.padding.total(USUAL_LENGTH)
        clip = np.zeros((1, int(length), *network_shape(self.contract)), dtype=np.float32)
        what: Dict[str, Any] = {"kind": "device-latency", "frames": clip.shape[1], "batch": 1, "clocks": "as found"}
        if not self.what:
            return {**what, "what": "not timed", "samples": 0}
        record = {**what, "what": self.what, **time_calls(lambda: self.log_probs(clip))}
        if self.device_ms is not None:
            alone = self.device_ms(clip, DEVICE_RUNS)
            record["device"] = {
                "what": "device's events round the network alone", "samples": len(alone),
                "median_ms": float(np.median(alone)), "min_ms": min(alone),
            }  # fmt: skip
        return record


class OnCpu(Built):
    """What reads by itself, preprocessing and decoding included: libsignedge."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(
            through=engine.through,
            contract=engine.contract,
            log_probs=engine.log_probs,
            what="host's clock round one run of the network, 1 thread",
            engine_file=ENGINE_FILE,
            versions={"through": engine.through},
        )
        self._engine = engine

    def recognise(self, clip: np.ndarray) -> List[str]:
        """Frames or keypoints -> glosses."""
        rgb = self.contract.modality == "rgb"
        return self._engine.recognise(clip if rgb else None, None if rgb else clip)


def network_shape(contract: Contract) -> Tuple[int, ...]:
    """Shape of the network's input without clips and frames."""
    source = contract.input
    return (len(source.joints), 5) if contract.modality == "keypoints" else (3, source.height, source.width)


@contextlib.contextmanager
def tensorrt(
    bundle: Path, contract: Contract, needs: Needs, machine: Machine, logs: Path, say: Say
) -> Iterator[Built]:
    """A plan of the module that the bundle is for. Raises what building raises, `Refused` where it cannot be run."""
    request = BuildRequest.read(bundles.read_json(bundle / bundles.REQUEST))
    model = (bundle / bundles.MODEL).read_bytes()
    name, reached = MODULE_OF[needs.runtime], way(needs, machine)
    builder = f"{reached} {machine.tensorrt[reached]}"
    unpinned: Tuple[str, ...] = ()
    if reached == TRTEXEC:
        say(f"building with {TRTEXEC} {machine.tensorrt[reached]}")
        unpinned = trtexec.unpinned(trtexec.version_of(machine.trtexec), request)
        if unpinned:
            say(f"it cannot hold {len(unpinned)} nodes in FP32, as was asked: the gate will tell whether that matters")
        made = trtexec.build(machine.trtexec, model, request, network_shape(contract), timing_cache.kept(builder))
    else:
        made = build_apart(name, model, request, say, timing_cache.kept(builder))
    timing_cache.keep(builder, made.timing_cache)
    _write_logs(made, logs)
    say(f"built {len(made.plan) / 1024:.0f} KiB with {made.built_by}, {len(made.layers)} layers")
    decided = bundles.read_json(bundle / bundles.MADE).get("decisions", [])
    inside = inspect.against(decided, made.layers, request.dla_core is not None)
    say(inspect.told(inside))
    if not machine.driver:
        raise Refused(
            f"{made.built_by} built the plan, and without a working CUDA driver it cannot be judged here: no engine is "
            "left; run this bundle on a machine with the GPU"
        )
    built = Built(
        through=f"{made.built_by} on {machine.gpu}",
        contract=contract,
        log_probs=lambda x: trtexec.log_probs(machine.trtexec, made.plan, x, request),
        what="",
        engine_file=PLAN_FILE,
        files={PLAN_FILE: made.plan, CONTRACT_FILE: (bundle / bundles.CONTRACT).read_bytes()},
        versions={reached: machine.tensorrt[reached], "cuda_driver": machine.driver},
        facts={
            PLAN_FACTS: plan_facts(_built_on(name, reached, made, machine), request),
            "inside": inside,
            **({"unpinned": list(unpinned)} if unpinned else {}),
        },
    )
    if reached == TRTEXEC:  # it loads the plan for each run, which would be what is timed
        yield built
        return
    from runtime.trt.run import Runner

    with Runner(made.plan, load(name), request.version_compatible, request.dla_core) as runner:
        built.log_probs, built.device_ms = runner.log_probs, runner.device_ms
        built.what = "host's clock round one run: copy in, network, copy out"
        yield built


def _built_on(module: str, reached: str, made: BuildResult, machine: Machine) -> Dict[str, str]:
    """What of this machine the plan depends on, as `runtime.trt.compat.here` tells it where there is a module."""
    if reached != TRTEXEC:
        return compat.here(load(module))
    gpu, version = cuda.gpu(), machine.tensorrt[reached]
    if compat.has_header(module, version):
        version = compat.plan_header(made.plan)["version"]
    return {
        "module": module, "version": version, "os": platform.system().lower(),
        "machine": platform.machine().lower(), "gpu": gpu.name, "compute_capability": gpu.compute_capability,
        "sms": str(gpu.sms),
    }  # fmt: skip


@contextlib.contextmanager
def onnxruntime(
    bundle: Path, contract: Contract, needs: Needs, machine: Machine, logs: Path, say: Say
) -> Iterator[Built]:
    """The graph as it is, for a CPU."""
    with on_cpu(bundle, bundles.MODEL, say) as built:
        built.files = {ENGINE_FILE: (bundle / bundles.MODEL).read_bytes()}
        yield built


@contextlib.contextmanager
def on_cpu(bundle: Path, model: str, say: Say) -> Iterator[Built]:
    """A graph of the bundle through ONNX Runtime: by libsignedge where it loads, else by its Python package."""
    _point_to_libraries(bundle, say)
    try:
        engine = Engine.from_onnx(bundle / model, threads=1)
    except SignedgeError as error:
        why = "no libsignedge loads and there is no Python package" if isinstance(error, MissingExtra) else str(error)
        raise Refused(f"the CPU path needs ONNX Runtime (pip install onnxruntime): {why}") from error
    yield OnCpu(engine)


BUILDERS: Dict[str, Callable[..., Any]] = {TENSORRT: tensorrt, RTX: tensorrt, ONNXRUNTIME: onnxruntime}


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
    if runtimes and not os.environ.get(ONNXRUNTIME_VARIABLE) and importlib.util.find_spec("onnxruntime") is None:
        os.environ[ONNXRUNTIME_VARIABLE] = str(runtimes[0])
