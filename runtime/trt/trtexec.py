"""The same builds and runs by trtexec, which JetPack brings where Python has no tensorrt module.

Untested on hardware here; its command lines are tested as text and against a stand-in program. Options by version are
facts of NVIDIA's published sources of trtexec, 8.0 to 11.1.
"""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from runtime.errors import BadInput, Refused
from runtime.trt.build import REMEDIES, BuildRequest, BuildResult
from runtime.trt.inspect import layers_from_json

PLACES = ("/usr/src/tensorrt/bin/trtexec", "/usr/local/tensorrt/bin/trtexec")  # JetPack and Debian packages; containers
Version = Tuple[int, ...]
END: Version = (1000,)
# Option -> the first version that has it and the first that has it no more; options not named here are in all of them.
OPTIONS: Dict[str, Tuple[Version, Version]] = {
    "--workspace": ((8,), (10,)),
    "--memPoolSize": ((8, 4), END),
    "--buildOnly": ((8,), (8, 6)),
    "--skipInference": ((8, 6), END),
    "--fp16": ((8,), (11,)),
    "--int8": ((8,), (11,)),
    "--precisionConstraints": ((8, 2), (11,)),
    "--layerPrecisions": ((8, 4), (11,)),
    "--calib": ((8,), (11,)),
    "--stronglyTyped": ((9,), (11,)),  # 11 takes it and knows nothing else
    "--versionCompatible": ((8, 6), END),
    "--hardwareCompatibilityLevel": ((8, 6), END),
    "--builderOptimizationLevel": ((8, 6), END),
    "--profile": ((9,), END),
}
LEVELS = {"ampere_plus": "ampere+", "same_compute_capability": "sameComputeCapability"}
Place = Union[str, Path]


def find() -> str:
    """Path of trtexec. `Refused` where there is none."""
    for place in ("trtexec", *PLACES):
        found = shutil.which(place)
        if found:
            return found
    raise Refused(f"no trtexec here: neither on PATH nor {', nor '.join(PLACES)}; install TensorRT")


def version_of(trtexec: Place) -> Version:
    """(8, 2, 1) as the program says: `[TensorRT v8201]`, from 10 on `[TensorRT v100300]`. `BadInput` for others."""
    done = _ran([str(trtexec), "--help"])
    found = re.search(r"TensorRT v(\d{4,6})\]", done)
    if not found:
        raise BadInput(f"{trtexec} does not say which TensorRT it is of")
    number = int(found.group(1))
    head = 1000 if number < 10000 else 10000
    return number // head, number % head // 100, number % 100


def has_option(option: str, version: Version) -> bool:
    """Whether trtexec of this version knows an option."""
    first, last = OPTIONS.get(option, ((0,), END))
    return first <= version < last


def unpinned(version: Version, request: BuildRequest) -> Tuple[str, ...]:
    """Nodes that should stay in FP32 and that trtexec of this version cannot hold there.

    They are left to the builder, for without it JetPack 4.6, which has no other way, would have no FP16 at all; whoever
    builds says so, and the engine's own gate tells what came of it.
    """
    return () if has_option("--layerPrecisions", version) else tuple(request.keep_fp32)


def build_command(
    trtexec: Place, version: Version, request: BuildRequest, shape: Sequence[int], onnx: Place, plan: Place,
    layers: Place, cache: Optional[Place] = None, name: str = "input", calibration: Place = "calibration",
) -> List[str]:  # fmt: skip
    """The command that builds `request`. `shape` is that of the input without clips and frames; file `calibration` has
    what `calibration_cache` gives, where the request has ranges.

    Before 9 trtexec makes one profile: it then spans all of the request's. A graph of one length takes none, and no
    shapes. `Refused` for what the version has not, but for nodes that it cannot pin: see `unpinned`.
    """
    label = f"trtexec {'.'.join(map(str, version))}"

    def need(option: str, says: str) -> str:
        if not has_option(option, version):
            raise Refused(f"{label} has no {says} ({option})")
        return option

    if request.compute_capabilities:
        raise Refused(f"{label} builds for the GPU at hand; it takes no compute capabilities")
    strong = version >= ((9,) if request.strongly_typed else (11,))
    weak = [field for field in ("fp16", "int8", "keep_fp32", "ranges") if getattr(request, field)]
    if strong and weak:
        raise Refused(f"{label} takes types from the graph, not from {', '.join(weak)}: write them into it")
    command = [str(trtexec), f"--onnx={onnx}", f"--saveEngine={plan}", "--verbose", "--profilingVerbosity=detailed"]
    command += [f"--exportLayerInfo={layers}"]
    command += ["--skipInference" if has_option("--skipInference", version) else need("--buildOnly", "build alone")]
    command += _profiles(request, shape, name, has_option("--profile", version))
    if request.workspace_mb:
        limit = "--memPoolSize=workspace:" if has_option("--memPoolSize", version) else "--workspace="
        command.append(f"{limit}{request.workspace_mb}")
    if strong and has_option("--stronglyTyped", version):
        command.append("--stronglyTyped")
    if request.fp16:
        command.append(need("--fp16", "FP16 by flag"))
    if request.int8:
        command.append(need("--int8", "INT8 by flag"))
    if request.ranges:
        command.append(f"{need('--calib', 'ranges of tensors')}={calibration}")
    if request.keep_fp32 and not unpinned(version, request):
        pinned = ",".join(f"{node}:fp32" for node in request.keep_fp32)
        command += ["--precisionConstraints=obey", f"--layerPrecisions={pinned}"]
    if request.version_compatible:
        command.append(need("--versionCompatible", "version-compatible plans"))
    if request.hardware_compatible:
        option = need("--hardwareCompatibilityLevel", "hardware-compatible plans")
        command.append(f"{option}={LEVELS[request.hardware_compatible]}")
    if request.optimisation_level is not None:
        option = need("--builderOptimizationLevel", "builder optimisation level")
        command.append(f"{option}={request.optimisation_level}")
    if request.dla_core is not None:
        command += [f"--useDLACore={request.dla_core}", "--allowGPUFallback"]
    if cache is not None:
        command.append(f"--timingCacheFile={cache}")
    return command


def calibration_cache(version: Version, request: BuildRequest) -> str:
    """The request's ranges as TensorRT's calibrators keep them: a line a tensor, its scale as a float's hex digits."""
    major, minor, patch = version[:3]
    number = major * (1000 if major < 10 else 10000) + minor * 100 + patch
    lines = [f"{name}: {struct.pack('>f', largest / 127).hex()}" for name, largest in sorted(request.ranges.items())]
    return "\n".join([f"TRT-{number}-EntropyCalibration2", *lines, ""])


def build(
    trtexec: Place, onnx: bytes, request: BuildRequest, shape: Sequence[int], timing_cache: bytes = b"",
    name: str = "input",
) -> BuildResult:  # fmt: skip
    """Build by trtexec what `runtime.trt.build.build_plan` builds by the module; the same errors."""
    version = version_of(trtexec)
    with tempfile.TemporaryDirectory(prefix="signedge-build-") as temporary:
        folder = Path(temporary)
        graph, plan, layers, cache = (folder / item for item in ("graph.onnx", "plan", "layers.json", "timing.cache"))
        calibration = folder / "calibration.cache"
        calibration.write_text(calibration_cache(version, request), encoding="utf-8")
        graph.write_bytes(onnx)
        if timing_cache:
            cache.write_bytes(timing_cache)
        command = build_command(trtexec, version, request, shape, graph, plan, layers, cache, name, calibration)
        try:
            said = _ran(command, plan)
        except BadInput:
            if not timing_cache:
                raise
            cache.unlink()  # it ends where it cannot read one: damaged, or of another version
            said = _ran(command, plan)
        found = layers_from_json(layers.read_text(encoding="utf-8")) if layers.is_file() else []
        kept = cache.read_bytes() if cache.is_file() else b""
        by = f"trtexec {'.'.join(map(str, version))}"
        return BuildResult(plan.read_bytes(), found, said.splitlines(), kept, by)


def run_command(
    trtexec: Place, plan: Place, source: Place, target: Place, shape: Sequence[int], name: str, request: BuildRequest
) -> List[str]:  # fmt: skip
    """The command that runs a plan once on the input in file `source` and writes its outputs to `target` as JSON."""
    return [
        str(trtexec), f"--loadEngine={plan}",
        *([f"--shapes={name}:{_by_x(shape)}"] if request.profiles else []), f"--loadInputs={name}:{source}",
        f"--exportOutput={target}", "--iterations=1", "--warmUp=0", "--duration=0",
        *([] if request.dla_core is None else [f"--useDLACore={request.dla_core}"]),
    ]  # fmt: skip


def log_probs(
    trtexec: Place, plan: bytes, x: np.ndarray, request: BuildRequest, name: str = "input", output: str = "log_probs"
) -> np.ndarray:
    """(B,T',...) float32 -> (B,N,K) float32 through trtexec, which loads the plan for each call and prints six digits.

    Slow, and enough for the gate on a device without the Python module. `request`: what the plan was built by.
    """
    with tempfile.TemporaryDirectory(prefix="signedge-run-") as temporary:
        folder = Path(temporary)
        file, source, target = folder / "plan", folder / "input.bin", folder / "output.json"
        file.write_bytes(plan)
        source.write_bytes(np.ascontiguousarray(x, dtype="<f4").tobytes())
        _ran(run_command(trtexec, file, source, target, x.shape, name, request), target)
        for entry in json.loads(target.read_text(encoding="utf-8")):
            if entry["name"] == output:
                shape = [int(size) for size in entry["dimensions"].split("x")]
                return np.array(entry["values"], np.float32).reshape(shape)
    raise BadInput(f"the plan has no output '{output}'")


def _profiles(request: BuildRequest, shape: Sequence[int], name: str, several: bool) -> List[str]:
    buckets = [dict(bucket) for bucket in request.profiles]
    if buckets and not several:
        longest = max(buckets, key=lambda bucket: bucket["max"])
        buckets = [{**longest, "min": min(bucket["min"] for bucket in buckets)}]
    words = []
    for number, bucket in enumerate(buckets):
        if len(buckets) > 1:
            words.append(f"--profile={number}")
        sizes = {word: (request.batch, bucket[word], *shape) for word in ("min", "opt", "max")}
        words += [f"--{word}Shapes={name}:{_by_x(size)}" for word, size in sizes.items()]
    return words


def _by_x(shape: Sequence[int]) -> str:
    return "x".join(str(size) for size in shape)


def _ran(command: Sequence[str], result: Optional[Path] = None) -> str:
    """What a command printed. `BadInput` or `Refused`, with its errors, where it failed or left no `result`."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    except OSError as error:
        raise BadInput(f"cannot run {command[0]}: {error.strerror}") from error
    said = done.stdout.decode("utf-8", "replace")
    if done.returncode == 0 and (result is None or result.is_file()):
        return said
    wrong = [line.split("[E] ", 1)[1] for line in said.splitlines() if "[E] " in line]
    reason = "; ".join(dict.fromkeys(wrong)) or " ".join(said.split())[-300:] or "it said nothing"
    text = f"trtexec failed (status {done.returncode}): {reason}"
    for pattern, remedy in REMEDIES:
        if re.search(pattern, reason):
            raise Refused(f"{text}. {remedy[0].upper()}{remedy[1:]}")
    raise BadInput(text)
