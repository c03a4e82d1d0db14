"""What can be measured: an engine folder, or a run folder in PyTorch eager mode, behind one face."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from bench.lineage import Lineage, of_run
from runtime.contract import Contract, RgbInput
from runtime.decode import greedy, to_glosses
from runtime.engine import RUNTIMES, Engine
from runtime.errors import BadInput, MissingExtra
from runtime.hashing import sha256_file
from runtime.preprocess import prepare

if TYPE_CHECKING:
    from torch import nn

    from distill.corpus.schema import SignClip


class System(Protocol):
    """One recogniser in one precision on one runtime, opened with a number of threads."""

    name: str  # unique among the systems that are measured together: lrinet-int8; of one length: lrinet-int8-64f
    lineage: Lineage
    runtime: str  # pytorch, onnxruntime
    through: str  # what reads its clips, with versions
    precision: str
    contract: Contract
    opener: Opener
    hashes: dict[str, str]  # checkpoint, onnx, engine, where known
    bytes_on_disk: int | None
    remarks: list[str]  # what its maker wants known
    nodes: dict[str, int]  # of its graph in each precision, where its maker says
    target: str  # what it was compiled for; "" where it was not compiled
    module: nn.Module | None  # the network itself, where it is at hand

    def prepare(self, clip: SignClip) -> np.ndarray:
        """The clip as the network's input (1,T',...) float32."""
        ...

    def log_probs(self, x: np.ndarray) -> np.ndarray:
        """(1,T',...) float32 -> (1,N,K) float32 log-probabilities."""
        ...

    def recognise(self, clip: SignClip) -> list[str]:
        """Glosses of a clip, decoded greedily."""
        ...


@dataclass(frozen=True)
class Opener:
    """How to open a system again, in this process or in a fresh one."""

    kind: Literal["engine", "eager"]
    path: str
    threads: int
    trust: bool = False  # whether a plan may be loaded that is not the user's own


class _Recogniser:
    """What all systems do alike around `log_probs`."""

    contract: Contract

    def prepare(self, clip: SignClip) -> np.ndarray:
        """The clip as the network's input (1,T',...) float32; (W,T',...) where W windows of one length cover it."""
        return prepare(self.contract, clip.frames, clip.keypoints)

    def log_probs(self, x: np.ndarray) -> np.ndarray:
        """(1,T',...) float32 -> (1,N,K) float32 log-probabilities."""
        raise NotImplementedError

    def recognise(self, clip: SignClip) -> list[str]:
        """Glosses of a clip, decoded greedily."""
        return to_glosses(greedy(self.log_probs(self.prepare(clip))[0]), self.contract.glosses)


class EngineSystem(_Recogniser):
    """An engine folder (or a bare ONNX file that carries its contract) in its runtime."""

    def __init__(
        self, path: str | Path, threads: int, known: Mapping[str, Lineage] | None = None, trust: bool = False
    ) -> None:
        """known: lineages by the hash of their checkpoint; an engine of none of them is named as its contract."""
        path = Path(path)
        bare = path.suffix == ".onnx"
        self.engine = Engine.from_onnx(path, threads) if bare else Engine.open(path, threads, trust)
        self.contract: Contract = self.engine.contract
        self.through = self.engine.through
        self.manifest: dict[str, Any] = {} if bare else dict(self.engine.manifest)
        self.runtime = str(self.manifest.get("runtime", "onnxruntime"))
        self.precision = str(self.manifest.get("precision", "fp32"))
        sources = self.contract.sources
        checkpoint = sources.get("checkpoint", "")
        stranger = Lineage(run=self.contract.name, checkpoint=checkpoint, corpus=sources.get("corpus", ""))
        self.lineage = (known or {}).get(checkpoint, stranger)
        one = self.contract.padding.frames
        self.name = f"{self.lineage.run}-{self.precision}" + (f"-{one}f" if one else "")
        self.opener = Opener("engine", str(path), threads, trust)
        file = path if bare else path / RUNTIMES[self.runtime]
        self.bytes_on_disk: int | None = file.stat().st_size
        self.hashes = {
            "checkpoint": checkpoint,
            "onnx": sha256_file(file) if bare else str(self.manifest.get("chain", {}).get("onnx") or ""),
            "engine": "" if bare else self.manifest["files"][file.name],  # `open` has checked it
        }
        self.remarks: list[str] = [str(warning) for warning in self.manifest.get("warnings", [])]
        if self.engine.signed.changed:
            self.remarks.append(self.engine.signed.why)
        self.nodes = dict(Counter(str(node["precision"]) for node in self.manifest.get("decisions", [])))
        self.target = str(self.manifest.get("target", ""))
        self.module: nn.Module | None = None

    def log_probs(self, x: np.ndarray) -> np.ndarray:
        """(1,T',...) float32 -> (1,N,K) float32 log-probabilities."""
        return self.engine.log_probs(x)

    def recognise(self, clip: SignClip) -> list[str]:
        """Glosses of a clip: preprocessing, network and decoding of what ships."""
        return self.engine.recognise(clip.frames, clip.keypoints)


class EagerSystem(_Recogniser):
    """A run folder in PyTorch eager mode: inference form, evaluation mode, no autograd. What papers time."""

    runtime = "pytorch"
    precision = "fp32"
    nodes: dict[str, int] = {}  # noqa: RUF012 (never written)
    target = ""

    def __init__(self, path: str | Path, threads: int) -> None:
        try:
            import torch
        except ModuleNotFoundError as error:
            raise MissingExtra("torch", "bench") from error
        from distill.run import load_run

        torch.set_num_threads(threads)
        run = load_run(Path(path))
        self.contract: Contract = run.contract
        self.lineage = of_run(run)
        self.name = f"{self.lineage.run}-eager"
        self.opener = Opener("eager", str(path), threads)
        self.hashes = {"checkpoint": run.checkpoint_hash, "onnx": "", "engine": ""}
        self.bytes_on_disk: int | None = None
        self.remarks: list[str] = []
        self.through = f"pytorch {torch.__version__}"
        self._network = run.model.inference().eval()
        self.module: nn.Module | None = self._network
        self._torch = torch

    def log_probs(self, x: np.ndarray) -> np.ndarray:
        """(1,T',...) float32 -> (1,N,K) float32 log-probabilities."""
        with self._torch.inference_mode():
            return self._network(self._torch.from_numpy(x)).numpy()


def reopen(opener: Opener) -> System:
    """Open a system as `opener` says."""
    if opener.kind == "engine":
        return EngineSystem(opener.path, opener.threads, trust=opener.trust)
    return EagerSystem(opener.path, opener.threads)


def example_input(contract: Contract, frames: int) -> np.ndarray:
    """Zeros of the shape that a clip of `frames` frames has for the network: (1,T',3,H,W) or (1,T',V,5) float32."""
    spec = contract.input
    shape = (3, spec.height, spec.width) if isinstance(spec, RgbInput) else (len(spec.joints), 5)
    return np.zeros((1, contract.padding.total(frames), *shape), dtype=np.float32)


def tell_apart(systems: list[System]) -> None:
    """Give engines that share a name, such as two of one network in one precision, the names of their folders."""
    shared = {name for name, count in Counter(system.name for system in systems).items() if count > 1}
    for system in systems:
        if system.name in shared and system.opener.kind == "engine":
            path = Path(system.opener.path).absolute()
            system.name = path.stem if path.suffix == ".onnx" else path.name


def distinct(systems: list[System]) -> None:
    """Raise `BadInput` when two systems have one name: records could not be told apart."""
    seen: dict[str, System] = {}
    for system in systems:
        if system.name in seen:
            first, second = seen[system.name].opener.path, system.opener.path
            raise BadInput(f"two systems are called '{system.name}': {first} and {second}; measure them into two files")
        seen[system.name] = system
