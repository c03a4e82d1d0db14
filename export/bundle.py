"""A bundle: all that a device needs to make its engine by one command, without a network and without signedge.

Graph lowered and precise, contract, build request, clips of the gate, device-side sources, libsignedge, and a manifest
with the hash of each. The same arguments give the same bytes.
"""

from __future__ import annotations

import ast
import dataclasses
import fcntl
import os
import platform
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import runtime
from export.backends.base import write_graph
from export.gate import SPLIT, doubts
from export.onnx_graph import metadata, versions
from export.precision import report
from export.precision.nearness import has_float16, widened
from runtime.atomic import atomic_file, atomic_folder
from runtime.contract import METADATA_KEY, Contract
from runtime.device import folder as layout
from runtime.device.builders import BUILDERS
from runtime.device.fitting import Needs, plans_are_run
from runtime.device.folder import CLIPS, CONTRACT, MODEL, REQUEST, TYPES, GateClip, write_json
from runtime.device.judging import Verdict, judge, require
from runtime.engine import Engine
from runtime.errors import BadInput, Refused
from runtime.hashing import sha256_file
from runtime.preprocess import chosen

if TYPE_CHECKING:
    from onnx import ModelProto

PACKAGE = Path(runtime.__file__).parent
COMMAND = "build.sh"
ENTRY = "runtime.device.build"
SOURCES, LIBRARIES, NATIVE = "python", "lib", "native"
GATE_THREADS = 1
TOOLS = ("signedge", "onnx", "onnxruntime", "numpy")
TOOLCHAINS = {"aarch64": "aarch64-linux-gnu"}  # architecture -> prefix of its cross compiler, and name of its toolchain

BUILD_SH = """#!/bin/sh
# Builds the engine of this bundle on this machine: sh build.sh [--out FOLDER] [--cpu]
# Needs Python 3.8 or later with numpy; $PYTHON names one that is not python3.
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd) || exit 2
python=${PYTHON:-python3}
if ! command -v "$python" >/dev/null; then
    echo "signedge: there is no $python here; install Python 3.8 or later, or name it in \\$PYTHON" >&2
    exit 2
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 8))'; then
    echo "signedge: $("$python" -V 2>&1) is too old; name a Python of 3.8 or later in \\$PYTHON" >&2
    exit 2
fi
if ! "$python" -c 'import numpy' 2>/dev/null; then
    echo "signedge: $python has no numpy; install it: sudo apt install python3-numpy" >&2
    exit 2
fi
PYTHONPATH="$here/python${PYTHONPATH:+:$PYTHONPATH}" exec "$python" -B -m runtime.device.build --bundle "$here" "$@"
"""

NATIVE_SH = """#!/bin/sh
# Builds libsignedge.so in this folder for this machine, without CMake: sh native/build.sh
# $CXX names another compiler than c++. Where the headers of CUDA and TensorRT 8.5 or later are, its backend is built,
# too.
cd "$(dirname -- "$0")" || exit 2
cxx=${CXX:-c++}
flags="-std=c++17 -O3 -DNDEBUG -fPIC -fvisibility=hidden -fvisibility-inlines-hidden -Iinclude -Isrc -include version.h"
echo '#define SIGNEDGE_VERSION "@VERSION@"' > version.h
cuda=/usr/local/cuda/include
names=onnxruntime
cat > probe.cpp <<'END'
#include <NvInfer.h>
#include <cuda.h>
static_assert(NV_TENSORRT_MAJOR * 100 + NV_TENSORRT_MINOR >= 805, "too old");
END
if $cxx -fsyntax-only -I$cuda probe.cpp 2>/dev/null; then
    names="onnxruntime tensorrt"
    flags="$flags -isystem $cuda"
fi
{
    echo '#include "backend.hpp"'
    echo 'namespace signedge {'
    for name in $names; do echo "extern const Backend backend_$name;"; done
    echo 'const Backend *const backends[] = {'
    for name in $names; do echo "&backend_$name,"; done
    echo 'nullptr}; }'
} > backends.cpp
objects=
for source in src/*.cpp backends.cpp $(for name in $names; do echo "src/backends/$name.cpp"; done); do
    object=$(basename "$source" .cpp).o
    case $source in
        src/image_avx2.cpp) extra="-mavx2 -mfma -ffp-contract=fast" ;;
        src/image_avx512.cpp)
            extra="-mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma -mprefer-vector-width=512 -ffp-contract=fast" ;;
        src/image_generic.cpp) extra="-ffp-contract=fast" ;;
        *) extra="-ffp-contract=off" ;;
    esac
    case $($cxx -dumpmachine) in x86_64*) ;; *) extra=$(echo "$extra" | sed 's/-m[a-z0-9=-]*//g') ;; esac
    $cxx $flags $extra -c "$source" -o "$object" || exit 1
    objects="$objects $object"
done
$cxx -shared -o libsignedge.so $objects -Wl,--version-script=signedge.map -Wl,-soname,libsignedge.so.1 \\
    -Wl,--no-undefined -ldl -lpthread || exit 1
rm -f $objects probe.cpp backends.cpp version.h
echo "built $(pwd)/libsignedge.so"
"""

README = """{name}, {precision}, for {target}{software}

    sh build.sh            builds engine/ here: checks this folder and this machine, builds, reads the clips of the
                           gate with what was built, and keeps the engine only if it reads them well enough
    sh build.sh --cpu      only reads the clips on the CPU through ONNX Runtime and compares with {where}
    sh native/build.sh     builds libsignedge here{native}

{running}
Needs Python 3.8 or later with numpy{wants}. No network. Logs are in logs/.
Exit status: 0 done, 1 the engine failed its gate, 2 the bundle is broken, 3 this machine is not the target.
"""

# What README.txt says of native/build.sh and of running the engine, by who runs it.
BY_SIGNEDGE = (
    ": with TensorRT in it, where its headers are; the one in lib/ has none",
    """The engine, once it is there, from Python (of a clip: frames (T,H,W,3) uint8 RGB, or keypoints (T,V,3) float32):

    PYTHONPATH=python python3
    >>> from runtime.engine import Engine
    >>> Engine.open("engine").recognise(frames=clip)           # or keypoints=clip: a list of glosses

From C, for streams and cameras: sh native/build.sh, then native/include/signedge.h and native/libsignedge.so; from
Python the same with SIGNEDGE_LIBRARY=native/libsignedge.so and `from runtime import Model`.
""",
)
BY_TRTEXEC = (
    ", which runs engines of the CPU alone (ONNX Runtime), as that in lib/ does",
    """The engine is built, judged and kept, and no more: neither the Python here nor libsignedge runs plans of TensorRT
{version}, which is older than 8.5. trtexec does (how it read the clips of the gate: `log_probs` in
python/runtime/trt/trtexec.py), or a program of your own that is made for TensorRT {version}:

    /usr/src/tensorrt/bin/trtexec --loadEngine=engine/engine.plan

On the CPU its graph is read from Python (of a clip: frames (T,H,W,3) uint8 RGB, or keypoints (T,V,3) float32):

    PYTHONPATH=python python3
    >>> from runtime.engine import Engine
    >>> Engine.from_onnx("model.onnx").recognise(frames=clip)  # or keypoints=clip: a list of glosses
""",
)


@dataclass(frozen=True)
class Bundle:
    """What `make_bundle` left: the folder, its manifest, the archive if one was asked for, and lines for the user."""

    folder: Path
    manifest: dict[str, Any]
    archive: Path | None
    said: list[str]


def make_bundle(
    graph: ModelProto,
    contract: Contract,
    target: Any,
    precision: str,
    request: Mapping[str, Any],
    gate_clips: Iterable[GateClip],
    budget: float,
    made: Mapping[str, Any],
    out: Path,
    archive: bool = False,
    onnxruntime: Path | None = None,
    complete: ModelProto | None = None,
) -> Bundle:
    """Write the bundle folder `out`, and `out`.tar where `archive` asks for it.

    `graph` is lowered for the target's dialect, its precision written; where flags take the place of casts, `complete`
    has those, too. `target` is a `devices.profile.Resolved`. `request` is a `BuildRequest` as plain data. `gate_clips`
    are the clips that the engine is judged by, with `reference` and `baseline` (FP32) glosses; what is read of them
    here, through ONNX Runtime, is the gate that the bundle passes, and what its CPU path must read there: the graph, or
    one of float32 with every rounding to float16 in it. `made` is what goes into the engine's manifest: plan,
    calibration, chain. `onnxruntime` is a libonnxruntime.so for the target, for the CPU path.
    Raises `Refused` for a target without a device side, `BadInput` for what does not fit together, `CriterionFailed`
    where the graph fails its gate; nothing is left then.
    """
    needs = _needs(target)
    if needs.runtime not in BUILDERS:
        raise Refused(f"target {needs.target} runs {needs.runtime}, for which no bundle is made")
    if not made.get("chain", {}).get("onnx"):
        raise BadInput("what a bundle was made from must be said: 'made' has no chain from an ONNX file on")
    carried = metadata(graph).get(METADATA_KEY)
    if carried is not None and Contract.from_json(carried) != contract:
        raise BadInput(f"the graph carries another contract than that of '{contract.name}'")
    said: list[str] = []
    with atomic_folder(out) as folder:
        write_graph(graph, contract, folder / MODEL)
        judged = MODEL
        if has_float16(complete or graph):
            judged = layout.JUDGED
            write_graph(widened(complete or graph), contract, folder / judged)
        (folder / CONTRACT).write_text(contract.to_json(), encoding="utf-8")
        write_json(folder / REQUEST, dict(request))
        verdict, through = _write_clips(folder, judged, contract, gate_clips, budget)
        require(verdict, f"'{contract.name}' in {precision}, as lowered for {needs.target},")
        said += doubts(verdict.clips, verdict.baseline_wer)
        told = {name: value for name, value in made.items() if name != "chain"}
        if told.get("decisions"):
            (folder / report.FILE).write_text(report.page(contract.name, told), encoding="utf-8")
        write_json(folder / layout.MADE, {**told, "warnings": [*made.get("warnings", ()), *said]})
        _copy_sources(folder)
        said += _add_libraries(folder, needs, onnxruntime)
        _write_texts(folder, contract.name, precision, needs)
        files = _hashes(folder)
        manifest = {
            "kind": layout.KIND,
            "format": layout.BUNDLE_FORMAT,
            "name": contract.name,
            "precision": precision,
            "needs": {**dataclasses.asdict(needs), "machines": list(needs.machines)},
            "budget": budget,
            "split": SPLIT,
            "files": files,
            "chain": {**made["chain"], "graph": files[MODEL], "request": files[REQUEST], "gate_clips": files[CLIPS]},
            "gate": {"split": SPLIT, "read": judged, "through": through, **verdict.described()},
            "versions": {"python": platform.python_version(), **versions(TOOLS)},
        }
        write_json(folder / layout.MANIFEST, manifest)
    packed = pack(Path(out), Path(f"{out}.tar")) if archive else None
    return Bundle(Path(out), manifest, packed, said)


def pack(folder: Path, archive: Path) -> Path:
    """The folder as a tar file, the same bytes for the same content: sorted, without owners and times."""
    with atomic_file(archive) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(item for item in folder.rglob("*") if item.is_file()):
            name = f"{folder.name}/{path.relative_to(folder).as_posix()}"
            add_file(tar, path, name)
    return archive


def add_file(tar: tarfile.TarFile, path: Path, name: str) -> None:
    """Add a file under `name` as root's, of the year 1970; scripts may be run."""
    entry = tarfile.TarInfo(name)
    entry.size = path.stat().st_size
    entry.mode = 0o755 if path.suffix == ".sh" else 0o644
    with path.open("rb") as handle:
        tar.addfile(entry, handle)


def device_sources() -> list[Path]:
    """The files of `runtime/` that the one command may import, and no others: found by following its imports."""
    found: dict[str, Path] = {}
    waiting = [ENTRY]
    while waiting:
        name = waiting.pop()
        path = _module_file(name)
        if name in found or path is None:
            continue
        found[name] = path
        waiting += [name.rpartition(".")[0], *_imports(path)]
    return sorted(found.values())


def _module_file(name: str) -> Path | None:
    parts = name.split(".")
    if parts[0] != "runtime":
        return None
    path = PACKAGE.joinpath(*parts[1:])
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _imports(path: Path) -> Iterator[str]:
    """Every name that the file imports, in functions too. `from a import b` may mean the module a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (item.name for item in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{item.name}" for item in node.names)


def _needs(target: Any) -> Needs:
    profile, software = target.profile, target.software
    return Needs(
        target=profile.name,
        machines=tuple(profile.machines),
        software=software.name,
        runtime=software.runtime,
        version=software.version,
        compute_capability=profile.compute_capability,
    )


def _write_clips(
    folder: Path, judged: str, contract: Contract, gate_clips: Iterable[GateClip], budget: float
) -> tuple[Verdict, str]:
    """Write the clips one by one as they are read; the verdict on the graph in file `judged`, and what read it."""
    engine = Engine.from_onnx(folder / judged, GATE_THREADS)
    rgb = contract.modality == "rgb"
    list_file = folder / CLIPS
    list_file.parent.mkdir()
    rows: list[dict[str, Any]] = []

    def read(clip: np.ndarray) -> list[str]:
        glosses = engine.recognise(clip if rgb else None, None if rgb else clip)
        rows[-1]["expected"] = glosses
        return glosses

    def written() -> Iterator[GateClip]:
        for number, item in enumerate(gate_clips):
            values = chosen(contract, item.clip if rgb else None, None if rgb else item.clip)
            kind = "uint8" if rgb else "float32"
            name = f"{list_file.parent.name}/{number:05d}.{kind}"
            np.ascontiguousarray(values, TYPES[kind]).tofile(folder / name)
            rows.append({
                "id": item.id, "file": name, "type": kind, "shape": list(values.shape),
                "reference": list(item.reference), "baseline": list(item.baseline), "expected": [],
            })  # fmt: skip
            yield item

    verdict = judge(read, written(), budget)
    write_json(list_file, {"clips": rows})
    return dataclasses.replace(verdict, unexpected=()), engine.through


def _copy_sources(folder: Path) -> None:
    for source in device_sources():
        target = folder / SOURCES / "runtime" / source.relative_to(PACKAGE)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def _add_libraries(folder: Path, needs: Needs, onnxruntime: Path | None) -> list[str]:
    """libsignedge for the target where it can be compiled here; its sources; ONNX Runtime's library if given."""
    said = []
    architecture = needs.machines[0] if needs.machines else platform.machine()
    place = folder / LIBRARIES / architecture
    library = native_library(architecture)
    if library is None:
        said.append(f"no libsignedge for {architecture} in the bundle: it cannot be compiled here; its sources are")
    else:
        place.mkdir(parents=True)
        shutil.copyfile(library, place / "libsignedge.so")
    if onnxruntime is not None:
        if not onnxruntime.is_file():
            raise BadInput(f"there is no ONNX Runtime library at {onnxruntime}")
        place.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(onnxruntime, place / "libonnxruntime.so.1")
    if (PACKAGE / "src").is_dir():
        for name in ("src", "include"):
            shutil.copytree(PACKAGE / name, folder / NATIVE / name)
        shutil.copyfile(PACKAGE / "signedge.map", folder / NATIVE / "signedge.map")
    return said


def native_library(architecture: str) -> Path | None:
    """libsignedge.so for an architecture, built (again, where sources changed) by CMake.

    None without CMake, a compiler, the sources, or leave to write beside them.
    """
    prefix = "" if architecture == platform.machine() else TOOLCHAINS.get(architecture)
    compiler = "c++" if prefix == "" else f"{prefix}-g++"
    listed = PACKAGE / "CMakeLists.txt"
    if prefix is None or not listed.is_file() or shutil.which("cmake") is None or shutil.which(compiler) is None:
        return None
    folder = PACKAGE.parent / "build" / (f"runtime-{architecture}" if prefix else "runtime")
    options = [f"-DCMAKE_TOOLCHAIN_FILE={PACKAGE / 'cmake' / f'{prefix}.cmake'}"] if prefix else []
    if not os.access(PACKAGE.parent, os.W_OK):
        return None
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in (
            ["cmake", "-S", str(PACKAGE), "-B", str(folder), *options],
            ["cmake", "--build", str(folder), "--target", "signedge", "--parallel", "2"],
        ):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                raise BadInput(f"libsignedge for {architecture} cannot be built: {(done.stderr or done.stdout)[-400:]}")
    return folder / "libsignedge.so"


def _write_texts(folder: Path, name: str, precision: str, needs: Needs) -> None:
    from importlib.metadata import version

    (folder / COMMAND).write_text(BUILD_SH, encoding="utf-8")
    if (folder / NATIVE).is_dir():
        text = NATIVE_SH.replace("@VERSION@", version("signedge"))
        (folder / NATIVE / "build.sh").write_text(text, encoding="utf-8")
    wants = {"tensorrt": ", TensorRT and CUDA as JetPack carries them", "tensorrt-rtx": ", tensorrt-rtx, a GPU"}
    native, running = BY_SIGNEDGE if plans_are_run(needs) else BY_TRTEXEC
    text = README.format(
        native=native, running=running.format(version=needs.version), name=name, precision=precision,
        target=needs.target, software=f" ({needs.software})" if needs.software else "",
        where="what it read where the bundle was made", wants=wants.get(needs.runtime, ""),
    )  # fmt: skip
    (folder / "README.txt").write_text(text, encoding="utf-8")
    for script in (folder / COMMAND, folder / NATIVE / "build.sh"):
        if script.is_file():
            script.chmod(0o755)


def _hashes(folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in paths}
