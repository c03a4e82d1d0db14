"""Engines: open one, check that it is what its manifest says, and run it.

An engine is a folder: `engine.onnx`, which carries its contract, or `engine.plan` with `contract.json` beside it, and
`manifest.json`, which says what it was made from and which tests it passed. A bare ONNX file with a contract runs too
(`Engine.from_onnx`).

It is read through libsignedge, the library that ships, so that what is judged and measured is what a product runs.
Where the library was not built, ONNX Runtime's Python package reads instead, and a plan is read through TensorRT's;
`Engine.through` says which it was.

Before anything of a folder is loaded, its files are checked against the manifest. A plan is code: before it is read,
the user's own signature is asked for (runtime/trust.py), the chain of hashes is verified, and a plan of another GPU or
version is refused. An ONNX engine is data, and carries its contract inside: its chain is verified once it is open, and
whether it bears the signature is told (`Engine.signed`), not demanded.

A bundle is a folder with a manifest, too, but not yet an engine: whoever opens one is told how it becomes one.
"""

from __future__ import annotations

import json
import os
import reprlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Union

import numpy as np

from runtime import abi
from runtime.contract import METADATA_KEY, Contract
from runtime.decode import greedy, to_glosses
from runtime.device.folder import KIND as BUNDLE
from runtime.errors import BadInput, MissingExtra, Refused
from runtime.hashing import sha256_bytes, sha256_file
from runtime.preprocess import chosen, prepare
from runtime.trust import Trust, demand, unique_members, verify, verify_chain
from runtime.windows import joined, one_by_one

MANIFEST = "manifest.json"
MANIFEST_FORMAT = 1
ENGINE_FILE = "engine.onnx"
INPUT, OUTPUT = "input", "log_probs"
DEFAULT_RUNTIME = "onnxruntime"  # of a bare ONNX file
PLAN_FILE, CONTRACT_FILE = "engine.plan", "contract.json"
PLAN_FACTS = "plan_facts"  # in a manifest: GPU and version that its plan is for, of runtime.trt.compat.plan_facts
RUNTIMES = {  # what each loads from an engine folder
    "onnxruntime": ENGINE_FILE,
    "openvino": ENGINE_FILE,
    "tensorrt": PLAN_FILE,
    "tensorrt-rtx": PLAN_FILE,
}


def available_threads() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_session(model: Union[str, Path], threads: int, optimise: bool = True) -> Any:
    """An onnxruntime.InferenceSession on the CPU with `threads` threads. `BadInput` for a file it cannot read."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("onnxruntime", "export") from error
    _check_threads(threads)
    try:
        found = Path(model).is_file()
    except OSError as error:
        raise BadInput(f"cannot open {reprlib.repr(str(model))}: {error.strerror}") from error
    if not found:
        raise BadInput(f"missing file {model}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
    options.log_severity_level = 4
    # Threads that spin after a run would eat the time of the next engine in the same process.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base class but Exception
        raise BadInput(f"{model} is not an ONNX model that ONNX Runtime can load: {_first_line(error)}") from error


def session_metadata(session: Any) -> Dict[str, str]:
    """The metadata of a loaded model, read without the onnx package."""
    return dict(session.get_modelmeta().custom_metadata_map)


def read_manifest(folder: Union[str, Path]) -> Dict[str, Any]:
    """Read `manifest.json` of an engine folder and check every file against its hash. Raises `BadInput`."""
    folder = Path(folder)
    path = folder / MANIFEST
    try:
        if path.exists() and not path.is_file():  # a pipe would keep its reader waiting
            raise BadInput(f"{path} is not a file")
        manifest = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique_members)
    except FileNotFoundError as error:
        raise BadInput(f"{folder} is not an engine folder: it has no {MANIFEST}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"cannot read {path}: {_first_line(error)}") from error
    _check_kind(folder, manifest)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise BadInput(f"{path} is not a manifest of an engine: it names no files")
    if manifest.get("format") != MANIFEST_FORMAT:
        raise BadInput(f"{path} has format {manifest.get('format')}; this version reads format {MANIFEST_FORMAT}")
    runtime = manifest.get("runtime")
    if not isinstance(runtime, str) or runtime not in RUNTIMES:
        raise BadInput(f"{path}: unknown runtime '{runtime}'; known here: {', '.join(RUNTIMES)}")
    for name in (RUNTIMES[runtime], *((CONTRACT_FILE,) if RUNTIMES[runtime] == PLAN_FILE else ())):
        if name not in manifest["files"]:
            raise BadInput(f"{path} has no hash of {name}")
    for name, expected in manifest["files"].items():
        try:
            _check_file(folder, name, expected)
        except OSError as error:
            raise BadInput(f"engine {folder}: cannot read {reprlib.repr(name)}: {error.strerror}") from error
    return manifest


def refuse_bundle(path: Union[str, Path]) -> None:
    """Raise `BadInput` for a bundle, which is not yet an engine. What else may be wrong is for who opens it to say."""
    manifest = Path(path) / MANIFEST
    try:
        found = json.loads(manifest.read_text(encoding="utf-8")) if manifest.is_file() else None
    except (OSError, ValueError, RecursionError):
        return
    _check_kind(path, found)


class Admitted(NamedTuple):
    """An engine of which anything may be loaded."""

    manifest: Dict[str, Any]  # empty: a bare file
    signed: Trust
    plan: bytes  # the code that was checked; empty: an ONNX graph
    contract: Optional[Contract]  # of a plan; a graph has its own inside


def admit(path: Union[str, Path], backend: Optional[str] = None, trust: bool = False) -> Admitted:
    """Check the engine at `path` (a folder or a bare ONNX file) as far as that goes before anything of it is loaded.

    backend: what will load it, None: what it was made for. trust: load code that is not signed with the user's own key.
    Raises `BadInput` for a folder whose manifest is missing or broken, whose files were changed or whose chain does not
    agree; `Refused` where loading would run code that is not the user's own, or is for another GPU or version.
    """
    path = Path(path)
    manifest = {} if _is_file(path) else read_manifest(path)
    made_for = manifest.get("runtime", DEFAULT_RUNTIME)
    signed = demand(path, backend or made_for, manifest, trust)
    if RUNTIMES[made_for] != PLAN_FILE:
        return Admitted(manifest, signed, b"", None)
    contract = _plan_contract(path)
    verify_chain(path, manifest, contract, PLAN_FILE)
    plan = (path / PLAN_FILE).read_bytes()
    if sha256_bytes(plan) != manifest["files"][PLAN_FILE]:  # what was signed, not what was put in its place meanwhile
        raise BadInput(f"engine {path}: {PLAN_FILE} was changed while it was opened")
    _check_place(path, manifest, plan)
    return Admitted(manifest, signed, plan, contract)


def verify_opened(path: Union[str, Path], contract: Contract) -> Trust:
    """Verify the chain of an engine (folder or bare file) whose `contract` was read as it was opened.

    Returns whether it bears the user's own signature, as `Engine.signed` does.
    """
    if not Path(path).is_dir():
        return Engine.signed
    manifest = read_manifest(path)
    verify_chain(path, manifest, contract, RUNTIMES[manifest["runtime"]])
    return verify(manifest)


class Engine:
    """One recogniser ready to run. Use `Engine.open` or `Engine.from_onnx`.

    It is safe to call from several threads; the arrays it returns belong to the caller. `through` names what reads,
    `signed` says whether its manifest bears the user's own signature.
    """

    signed = Trust(False, "a bare file has no manifest to sign")

    def __init__(self, reader: Any, contract: Contract, manifest: Mapping[str, Any], threads: int, path: Path) -> None:
        self._reader = reader
        self.through: str = reader.through
        self.contract = contract
        self.manifest = manifest
        self.threads = threads
        self.path = path

    @staticmethod
    def open(folder: Union[str, Path], threads: Optional[int] = None, trust: bool = False) -> Engine:
        """Open an engine folder after its files have been checked against the manifest, and the manifest's chain.

        `threads` is the number of threads inside one operator; None takes every core this process may use. `trust`
        loads a plan that is not signed with the user's own key.
        Raises `BadInput` when the manifest is missing or broken, a file was changed, the contract is missing or the
        chain does not agree with it; `Refused`, before anything is loaded, for a plan that is not the user's own or was
        built for another GPU or version.
        """
        folder = Path(folder)
        if _is_file(folder):
            raise BadInput(f"{folder} is a file, not an engine folder")
        found = admit(folder, trust=trust)
        if found.contract is not None:
            engine = _load_plan(folder, found, found.contract, threads, trust)
        else:
            engine = _load(folder, found.manifest, threads, found.manifest["runtime"])
            verify_chain(folder, found.manifest, engine.contract, ENGINE_FILE)
        engine.signed = found.signed
        return engine

    @staticmethod
    def from_onnx(path: Union[str, Path], threads: Optional[int] = None, runtime: str = DEFAULT_RUNTIME) -> Engine:
        """Open a bare ONNX file that carries a contract, as `signedge export` writes it. Its manifest is empty.

        runtime: what computes it, of those that load an `engine.onnx`.
        """
        if RUNTIMES.get(runtime) != ENGINE_FILE:
            raise BadInput(f"{path}: no runtime '{runtime}' loads an ONNX file")
        return _load(Path(path), {}, threads, runtime)

    @staticmethod
    def from_plan(
        folder: Union[str, Path], runtime: str, threads: Optional[int] = None, version_compatible: bool = False,
        dla_core: Optional[int] = None,
    ) -> Engine:  # fmt: skip
        """Open a plan that this process has just built: `engine.plan` and `contract.json`, without a manifest as yet.

        The last two are what its build request said. Nothing says whose the plan is: for a folder from anywhere else
        there is `open`.
        """
        folder = Path(folder)
        if RUNTIMES.get(runtime) != PLAN_FILE:
            raise BadInput(f"{folder}: no runtime '{runtime}' loads a plan")
        from runtime.trt.module import load

        contract = _plan_contract(folder)
        plan, module = (folder / PLAN_FILE).read_bytes(), load(runtime.replace("-", "_"))
        reader = _PlanReader(plan, module, contract, version_compatible, dla_core)
        return Engine(reader, contract, {}, available_threads() if threads is None else threads, folder)

    def log_probs(self, x: np.ndarray) -> np.ndarray:
        """Network input (B,T',...) float32 -> log-probabilities (B,N,K) float32."""
        x = np.ascontiguousarray(x, dtype=np.float32)
        try:
            return self._reader.log_probs(x)
        except Exception as error:
            raise BadInput(f"{self.path} cannot run an input of shape {x.shape}: {_first_line(error)}") from error

    def recognise(self, frames: Optional[np.ndarray] = None, keypoints: Optional[np.ndarray] = None) -> List[str]:
        """The glosses of one clip: frames (T,H,W,3) uint8 or keypoints (T,V,3), as the contract asks; greedy CTC."""
        clip = chosen(self.contract, frames, keypoints)
        if len(clip) == 0:
            raise BadInput("a clip without frames cannot be recognised")
        return self._reader.recognise(clip)


class _LibraryReader:
    """libsignedge: preprocessing, network and decoding inside."""

    def __init__(self, path: Path, threads: int, runtime: str, trust: bool = False) -> None:
        from runtime.binding import Model

        self._model = Model(path, threads=threads, backend=runtime, trust=trust)
        self.contract = Contract.from_json(self._model.contract)
        self.through = f"libsignedge {abi.version()}, {self._model.backend}"

    def log_probs(self, x: np.ndarray) -> np.ndarray:
        """(B,T',...) -> (B,N,K)."""
        padding = self.contract.padding
        steps = self.contract.steps(x.shape[1] - padding.left - padding.right)
        if padding.frames:
            return one_by_one(lambda clip: self._model.run(clip, steps), x)
        return self._model.run(x, steps)

    def recognise(self, clip: np.ndarray) -> List[str]:
        """Glosses of frames or keypoints."""
        return self._model.recognise(clip, clip)


class _PlanReader:
    """TensorRT's Python module, with the preprocessing and decoding that libsignedge's must equal."""

    def __init__(
        self, plan: bytes, module: Any, contract: Contract, version_compatible: bool, dla_core: Optional[int]
    ) -> None:
        from runtime.trt.module import label
        from runtime.trt.run import Runner

        self._runner = Runner(plan, module, version_compatible, dla_core)
        self._contract = contract
        self.through = f"{label(module)}, Python"

    def log_probs(self, x: np.ndarray) -> np.ndarray:
        """(B,T',...) -> (B,N,K)."""
        return one_by_one(self._runner.log_probs, x)

    def recognise(self, clip: np.ndarray) -> List[str]:
        """Glosses of frames or keypoints."""
        return _glosses(self._contract, self.log_probs(prepare(self._contract, clip, clip)), len(clip))


class _SessionReader:
    """ONNX Runtime's Python package, with the preprocessing and decoding that libsignedge's must equal."""

    def __init__(self, path: Path, threads: int) -> None:
        self._session = open_session(path, threads)
        try:
            text = session_metadata(self._session).get(METADATA_KEY)
        except UnicodeDecodeError as error:
            raise BadInput(f"{path} has metadata that is not UTF-8") from error
        if text is None:
            raise BadInput(f"{path} has no contract (metadata '{METADATA_KEY}'); make it with: signedge export")
        self.contract = Contract.from_json(text)
        import onnxruntime

        self.through = f"onnxruntime {onnxruntime.__version__}, Python"
        _check_names(path, "input", [node.name for node in self._session.get_inputs()], INPUT)
        _check_names(path, "output", [node.name for node in self._session.get_outputs()], OUTPUT)
        classes, named = self._session.get_outputs()[0].shape[-1], len(self.contract.glosses)
        if isinstance(classes, int) and classes != named:
            raise BadInput(f"{path} gives {classes} classes; its contract names {named} (blank included)")

    def log_probs(self, x: np.ndarray) -> np.ndarray:
        """(B,T',...) -> (B,N,K)."""
        if self.contract.padding.frames:
            return one_by_one(lambda clip: self._session.run([OUTPUT], {INPUT: clip})[0], x)
        return self._session.run([OUTPUT], {INPUT: x})[0]

    def recognise(self, clip: np.ndarray) -> List[str]:
        """Glosses of frames or keypoints."""
        return _glosses(self.contract, self.log_probs(prepare(self.contract, clip, clip)), len(clip))


def _glosses(contract: Contract, log_probs: np.ndarray, frames: int) -> List[str]:
    """Those of a clip of so many frames, from what was read in its windows (W,N,K)."""
    return to_glosses(greedy(joined(contract, log_probs, frames)), contract.glosses)


def _load(path: Path, manifest: Mapping[str, Any], threads: Optional[int], runtime: str) -> Engine:
    count = available_threads() if threads is None else threads
    _check_threads(count)
    if abi.installed():  # given a folder, the library checks manifest and hashes again, by its own rules
        reader: Any = _LibraryReader(path, count, runtime)
    elif runtime == DEFAULT_RUNTIME:
        reader = _SessionReader(path / ENGINE_FILE if manifest else path, count)
    else:
        raise BadInput(f"{path} is for {runtime}, which libsignedge runs; build it with: make library")
    return Engine(reader, reader.contract, manifest, count, path)


def _plan_contract(folder: Path) -> Contract:
    try:
        return Contract.from_json((folder / CONTRACT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot read {folder / CONTRACT_FILE}: {_first_line(error)}") from error


def _load_plan(folder: Path, found: Admitted, contract: Contract, threads: Optional[int], trust: bool) -> Engine:
    """The engine of a plan that was admitted, through libsignedge where it was built with TensorRT."""
    from runtime.trt.module import load

    count = available_threads() if threads is None else threads
    _check_threads(count)
    runtime, facts = found.manifest["runtime"], found.manifest[PLAN_FACTS]
    if _library_version(runtime):
        reader: Any = _LibraryReader(folder, count, runtime, trust)
    else:
        module = load(runtime.replace("-", "_"))
        reader = _PlanReader(found.plan, module, contract, facts["version_compatible"], facts["dla_core"])
    return Engine(reader, contract, found.manifest, count, folder)


def _check_place(path: Path, manifest: Mapping[str, Any], plan: bytes) -> None:
    """Raise `Refused` where the plan is not for this GPU and the version that will read it; `BadInput` if untold.

    Where nothing reads plans its loader says so.
    """
    from runtime.trt import compat
    from runtime.trt.module import load

    try:
        facts = compat.read_facts(manifest.get(PLAN_FACTS))
        name, version = manifest["runtime"].replace("-", "_"), _library_version(manifest["runtime"])
        reading = SimpleNamespace(__name__=name, __version__=version) if version else load(name)
        compat.check_plan(facts, compat.here(reading), plan)
    except MissingExtra:
        return
    except (BadInput, Refused) as error:
        raise type(error)(f"engine {path}: {error}") from error


def _library_version(runtime: str) -> str:
    """Version of the backend `runtime` of libsignedge; "" where the library was built without it, or cannot load it."""
    if not abi.installed():
        return ""
    from runtime.binding import capabilities

    found = json.loads(capabilities())["backends"].get(runtime, {})
    return str(found.get("version", ""))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, say: reading it tells why
        return False


def _check_kind(folder: Union[str, Path], manifest: Any) -> None:
    if isinstance(manifest, dict) and manifest.get("kind") == BUNDLE:
        raise BadInput(
            f"{folder} is a bundle, not yet an engine; copy it to the device and make it one there, with: "
            f"sh {Path(folder).name}/build.sh"
        )


def _check_threads(threads: int) -> None:
    if threads < 1:
        raise BadInput(f"an engine needs one thread at least; {threads} were asked for")


def _check_names(path: Path, what: str, found: Sequence[str], expected: str) -> None:
    if list(found) != [expected]:
        raise BadInput(f"{path} must have one {what}, '{expected}'; it has: {', '.join(found) or 'none'}")


def _check_file(folder: Path, name: str, expected: str) -> None:
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts or path.is_symlink():
        raise BadInput(f"{folder / MANIFEST} names a file outside its folder: {name}")
    if not path.is_file():
        raise BadInput(f"engine {folder} is incomplete: {name} is missing")
    if sha256_file(path) != expected:
        raise BadInput(f"engine {folder}: {name} is not the file that the manifest was written for (its hash differs)")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
