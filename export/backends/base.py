"""What every runtime that engines are built for can be asked: is it here, build, load; and the one of a given name."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from devices.host import detect
from runtime.contract import Contract
from runtime.engine import Engine
from runtime.errors import BadInput

if TYPE_CHECKING:
    from onnx import ModelProto

    from devices.profile import Profile
    from runtime.trt.build import BuildRequest

MODULES = {  # name of a runtime, as manifests have it -> the module here that adapts it
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "tensorrt",
}


@dataclass(frozen=True)
class Availability:
    """Whether this machine can build engines of a runtime for a target, and run them, as the WER gate must."""

    builds: bool
    runs: bool
    why_not: str = ""  # what is missing, and where it comes from; "" where both can be done
    lacks: str = ""  # the Python module, where that is all that is missing

    @property
    def here(self) -> bool:
        """Whether the whole way can be gone on this machine."""
        return self.builds and self.runs


@dataclass(frozen=True)
class Built:
    """What a build left in its folder, and what is known of how it came about."""

    files: tuple[str, ...]  # names in the folder, the one that the runtime loads first
    versions: dict[str, str] = field(default_factory=dict)  # of what built it
    log: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)  # plain data for the manifest, such as layers read back


class Backend(Protocol):
    """One runtime."""

    name: str  # as manifests have it

    def available(self, profile: Profile) -> Availability:
        """Whether engines for `profile` can be built and run on this machine. Imports nothing heavy."""
        ...

    def build(
        self, graph: ModelProto, contract: Contract, folder: Path, request: BuildRequest | None = None
    ) -> Built:
        """Write the engine's files, all but the manifest, into `folder`.

        graph: fits the runtime's dialect and has its precision in it. request: of those that compile, what to build.
        Raises `MissingExtra`, `BadInput` (the graph), `Refused` (what this version or machine cannot do).
        """
        ...

    def load(self, folder: Path, threads: int, request: BuildRequest | None = None) -> Engine:
        """What `build` has just left in `folder`, for the gate: it has no manifest yet, and is trusted as one's own.

        request: the one that it was built by.
        """
        ...


def backend(runtime: str) -> Backend:
    """The adapter of `runtime`. Raises `BadInput` naming the known ones."""
    if runtime not in MODULES:
        raise BadInput(f"no runtime '{runtime}'; known: {', '.join(MODULES)}")
    found: Backend = importlib.import_module(f"export.backends.{MODULES[runtime]}").backend(runtime)
    return found


def on_this_cpu(profile: Profile) -> Availability:
    """The answer of a runtime of the CPU that is installed: it runs where this machine is such a target."""
    host = detect()
    if not profile.runs_on(host):
        return Availability(True, False, f"{profile.name} is another machine than this one ({host.machine})")
    return Availability(True, True)


def installed(package: str) -> dict[str, str]:
    """The version of a package by its name; empty for a library that is here without its Python package."""
    try:
        return {package: version(package)}
    except PackageNotFoundError:
        return {}


def write_graph(graph: ModelProto, contract: Contract, path: Path) -> None:
    """Write a graph with its contract in the metadata. Equal graphs give equal bytes."""
    from export.onnx_graph import with_contract

    path.write_bytes(with_contract(graph, contract).SerializeToString(deterministic=True))
