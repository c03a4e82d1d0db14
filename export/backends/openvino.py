"""OpenVINO on the CPU: the same `engine.onnx`, which libsignedge hands to OpenVINO's C library.

It computes in the graph's own types (INFERENCE_PRECISION_HINT f32): left to itself it would take bfloat16 where the CPU
has it, a precision that no gate has seen.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from export.backends.base import Availability, Built, installed, on_this_cpu, write_graph
from runtime import abi
from runtime.contract import Contract
from runtime.engine import ENGINE_FILE, Engine

if TYPE_CHECKING:
    from onnx import ModelProto

    from devices.profile import Profile
    from runtime.trt.build import BuildRequest

LIBRARY_VARIABLE = "SIGNEDGE_OPENVINO_LIBRARY"


class OpenVino:
    """Read through libsignedge alone: an engine runs here as it runs in a product."""

    name = "openvino"

    def available(self, profile: Profile) -> Availability:
        """Whether OpenVINO's library and libsignedge are here, and this machine is such a target."""
        if find_spec("openvino") is None and not os.environ.get(LIBRARY_VARIABLE):
            return Availability(True, False, "OpenVINO is not installed: pip install 'signedge[openvino]'")
        if not abi.installed():
            return Availability(True, False, "OpenVINO is run by libsignedge, which was not built: make library")
        return on_this_cpu(profile)

    def build(
        self, graph: ModelProto, contract: Contract, folder: Path, request: BuildRequest | None = None
    ) -> Built:
        """Write the graph with its contract; OpenVINO compiles it when it loads it."""
        write_graph(graph, contract, folder / ENGINE_FILE)
        return Built((ENGINE_FILE,), installed("openvino"))

    def load(self, folder: Path, threads: int, request: BuildRequest | None = None) -> Engine:
        """The engine."""
        return Engine.from_onnx(folder / ENGINE_FILE, threads, self.name)


def backend(runtime: str) -> OpenVino:
    """The adapter."""
    return OpenVino()
