"""ONNX Runtime on the CPU: `engine.onnx`, which it optimises when it loads it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from export.backends.base import Availability, Built, installed, on_this_cpu, write_graph
from runtime.contract import Contract
from runtime.engine import ENGINE_FILE, Engine

if TYPE_CHECKING:
    from onnx import ModelProto

    from devices.profile import Profile
    from runtime.trt.build import BuildRequest


class OnnxRuntime:
    """Read through libsignedge, or through its Python package where the library was not built."""

    name = "onnxruntime"

    def available(self, profile: Profile) -> Availability:
        """Whether the package is installed and this machine is such a target."""
        if find_spec("onnxruntime") is None:
            return Availability(True, False, "onnxruntime is not installed: pip install 'signedge[export]'")
        return on_this_cpu(profile)

    def build(
        self, graph: ModelProto, contract: Contract, folder: Path, request: BuildRequest | None = None
    ) -> Built:
        """Write the graph with its contract; there is nothing to compile."""
        write_graph(graph, contract, folder / ENGINE_FILE)
        return Built((ENGINE_FILE,), installed("onnxruntime"))

    def load(self, folder: Path, threads: int, request: BuildRequest | None = None) -> Engine:
        """The engine."""
        return Engine.from_onnx(folder / ENGINE_FILE, threads)


def backend(runtime: str) -> OnnxRuntime:
    """The adapter."""
    return OnnxRuntime()
