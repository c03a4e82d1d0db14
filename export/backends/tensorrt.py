"""TensorRT and TensorRT-RTX: `engine.plan` with `contract.json` beside it, built by runtime/trt."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from export.backends.base import Availability, Built
from runtime.contract import Contract
from runtime.engine import CONTRACT_FILE, PLAN_FACTS, PLAN_FILE, Engine
from runtime.errors import BadInput, MissingExtra, Refused
from runtime.trt.module import EXTRAS

if TYPE_CHECKING:
    from onnx import ModelProto

    from devices.profile import Profile
    from runtime.trt.build import BuildRequest

BUILDS_ANYWHERE = ("tensorrt-rtx",)  # TensorRT needs a GPU even to make a builder


class TensorRt:
    """One of the two, by its name in manifests."""

    def __init__(self, name: str) -> None:
        self.name, self._module = name, name.replace("-", "_")

    def available(self, profile: Profile) -> Availability:
        """Whether the module, a driver and a GPU such as the target's are here."""
        other = _no_such_gpu(profile)
        if other and self.name not in BUILDS_ANYWHERE:
            there = "TensorRT builds only on a machine with the target's GPU, where a bundle does it"
            return Availability(False, False, f"{there} ({other})")
        if find_spec(self._module) is None:
            why_not = str(MissingExtra(self._module, EXTRAS[self._module]))
            return Availability(False, False, why_not, lacks="" if other else self._module)
        return Availability(True, not other, other)

    def build(
        self, graph: ModelProto, contract: Contract, folder: Path, request: BuildRequest | None = None
    ) -> Built:
        """Compile the graph as `request` says. The facts: what the plan runs on, and the layers read back from it."""
        from runtime.trt import compat, timing_cache
        from runtime.trt.apart import build_apart
        from runtime.trt.module import label, load

        if request is None:
            raise BadInput(f"{self.name} compiles: it needs a build request")
        module = load(self._module)
        data = graph.SerializeToString(deterministic=True)
        result = build_apart(self._module, data, request, timing_cache=timing_cache.kept(label(module)))
        timing_cache.keep(label(module), result.timing_cache)
        (folder / PLAN_FILE).write_bytes(result.plan)
        (folder / CONTRACT_FILE).write_text(contract.to_json(), encoding="utf-8")
        facts = {
            "request": request.as_json(),
            PLAN_FACTS: compat.plan_facts(compat.here(module), request),
            "layers": result.layers,
        }
        return Built((PLAN_FILE, CONTRACT_FILE), {module.__name__: str(module.__version__)}, tuple(result.log), facts)

    def load(self, folder: Path, threads: int, request: BuildRequest | None = None) -> Engine:
        """The engine."""
        if request is None:
            return Engine.from_plan(folder, self.name, threads)
        return Engine.from_plan(folder, self.name, threads, request.version_compatible, request.dla_core)


def _no_such_gpu(profile: Profile) -> str:
    """Why plans for `profile` cannot be run here; "" where they can."""
    from runtime.trt import cuda

    try:
        gpu = cuda.gpu()
    except (Refused, RuntimeError) as error:
        return str(error)
    if gpu.compute_capability == profile.compute_capability:
        return ""
    found = f"{gpu.name} of compute capability {gpu.compute_capability}"
    return f"{profile.name} has compute capability {profile.compute_capability}, this is {found}"


def backend(runtime: str) -> TensorRt:
    """The adapter of `tensorrt` or `tensorrt-rtx`."""
    return TensorRt(runtime)
