"""An ONNX graph -> a plan, by the module it is given: tensorrt 8.2 to 11 or tensorrt_rtx.

tensorrt itself needs a GPU even to make a builder: that part is untested on hardware here. tensorrt_rtx builds
without one, and runs this same code.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from runtime.errors import BadInput, Refused
from runtime.trt import cuda
from runtime.trt.inspect import layers_from_log, layers_from_plan
from runtime.trt.module import Line, collected, errors, has, label, logger_of

HARDWARE_LEVELS = ("ampere_plus", "same_compute_capability")


@dataclass(frozen=True)
class BuildRequest:
    """What is asked of a build; plain data, `BuildRequest.read(request.as_json())` is the same request.

    A version that lacks what is asked refuses; nothing asked for is left out in silence.
    """

    # {"min","opt","max"}: frame counts T' of the padded input, one per bucket; none: the graph is of one length
    profiles: Tuple[Mapping[str, int], ...]
    batch: int = 1  # clips at once
    workspace_mb: int = 0  # most scratch memory of a layer, MiB; 0: what the version takes itself
    strongly_typed: bool = True  # types come from the graph, where the version knows that; False: as the flags say
    fp16: bool = False  # the flag of weakly typed networks; where typing is strong the graph says it
    int8: bool = False  # the same; Q/DQ in a weakly typed network need it
    keep_fp32: Tuple[str, ...] = ()  # nodes of a weakly typed network that no flag may move from FP32
    # Largest absolute values of tensors that may be stored in eight bits, where these come without Q/DQ: on DLA.
    ranges: Mapping[str, float] = field(default_factory=dict)
    version_compatible: bool = False  # the plan runs on later versions too
    hardware_compatible: str = ""  # "", or one of HARDWARE_LEVELS: the plan runs on other GPUs too
    dla_core: Optional[int] = None  # build for this DLA core; layers that it lacks fall back to the GPU
    compute_capabilities: Tuple[str, ...] = ()  # TensorRT-RTX: "8.9"; none: every GPU that it supports but Turing (7.5)
    optimisation_level: Optional[int] = None  # 0 (quick build) to 5 (fast plan); None: the version's own

    def __post_init__(self) -> None:
        for profile in self.profiles:
            if set(profile) != {"min", "opt", "max"} or not 1 <= profile["min"] <= profile["opt"] <= profile["max"]:
                raise BadInput(f"profile {dict(profile)} is not 1 <= min <= opt <= max frames")
        if self.batch < 1:
            raise BadInput(f"a batch has one clip at least; {self.batch} were asked for")
        if self.hardware_compatible and self.hardware_compatible not in HARDWARE_LEVELS:
            known = ", ".join(HARDWARE_LEVELS)
            raise BadInput(f"hardware_compatible is one of {known}; not '{self.hardware_compatible}'")
        for name, largest in self.ranges.items():
            if not 0 < largest < math.inf:
                raise BadInput(f"the range of tensor '{name}' is {largest}; it must be above 0")
        for capability in self.compute_capabilities:
            if not re.fullmatch(r"\d{1,2}\.\d", capability):
                raise BadInput(f"'{capability}' is not a compute capability such as 8.9")

    def as_json(self) -> Dict[str, Any]:
        """Only what JSON has: for manifests and bundles."""
        plain = asdict(self)
        plain["profiles"], plain["ranges"] = [dict(profile) for profile in self.profiles], dict(self.ranges)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}

    @staticmethod
    def read(plain: Mapping[str, Any]) -> BuildRequest:
        """The request that `as_json` wrote. Raises `BadInput` for keys it does not know."""
        known = {item.name for item in fields(BuildRequest)}
        unknown = sorted(set(plain) - known)
        if unknown or "profiles" not in plain:
            raise BadInput(f"a build request needs profiles and knows no {', '.join(unknown) or 'others'}")
        values: Dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}
        return BuildRequest(**values)


@dataclass(frozen=True)
class BuildResult:
    """A plan and what is known of how it came about."""

    plan: bytes
    layers: List[Dict[str, Any]]  # see runtime.trt.inspect
    log: List[str]  # "SEVERITY: text"
    timing_cache: bytes  # for the next build on the same GPU model; empty where none came
    built_by: str = ""  # tensorrt 10.3.0


def build_plan(
    trt: Any,
    onnx: bytes,
    request: BuildRequest,
    progress: Optional[Callable[[str], None]] = None,
    timing_cache: bytes = b"",
) -> BuildResult:
    """Build `onnx` (one float32 input (B,T',...)) with the module `trt`; `progress` is told the stages.

    `timing_cache` is what an earlier build returned; one of another GPU or version is not used.
    After a build that failed, some modules refuse another in the same process: `runtime.trt.apart` builds in its own.
    Raises `BadInput` for a graph that cannot be read or built (node and reason), `Refused` for what this version,
    the target or a machine without a GPU cannot do.
    """
    tell = progress or (lambda stage: None)
    with collected(trt) as lines:
        check_request(trt, request)
        if trt.__name__ in _SPOILT:
            why = _SPOILT[trt.__name__]
            raise Refused(f"a build by {label(trt)} failed in this process: {why}; build in a new process")
        builder = _make(trt.Builder, trt, lines)
        if request.dla_core is not None and request.dla_core >= builder.num_DLA_cores:
            raise Refused(f"DLA core {request.dla_core} was asked for; this machine has {builder.num_DLA_cores}")
        network = builder.create_network(network_flags(trt, request))
        parser = trt.OnnxParser(network, logger_of(trt))
        tell("reading the graph")
        if not parser.parse(onnx):
            raise BadInput(parse_error(trt, parser, lines))
        config = builder.create_builder_config()
        for setting in wanted(request):
            setting.apply(trt, config, request)
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        _keep_fp32(trt, network, request)
        _set_ranges(network, request)
        _add_profiles(builder, network, config, request)
        if times_kernels(trt):
            _start_from(config, timing_cache)
        tell(f"building with {label(trt)}")
        serialized = builder.build_serialized_network(network, config)
        if serialized is None:
            if "build_after_failure" in NOT_DONE.get(trt.__name__, {}):
                _SPOILT[trt.__name__] = NOT_DONE[trt.__name__]["build_after_failure"]
            raise build_error(trt, lines)
        plan = bytes(memoryview(serialized))
        kept = bytes(memoryview(config.get_timing_cache().serialize())) if times_kernels(trt) else b""
        tell("reading back what was built")
        layers = _layers(trt, plan, request, lines)
        log = [f"{line.severity}: {line.text}" for line in lines]
        return BuildResult(plan, layers, log, kept, label(trt))


# What a module has by name and yet does not do: it fails late, warns, or says nothing (seen with 1.7.1).
NOT_DONE = {
    "tensorrt_rtx": {
        "build_after_failure": "the next plan would fall back from INT8 to FP32 in silence",
        "version_compatible": "it comes without the lean runtime that such a plan carries",
        "hardware_compatible": "name compute capabilities, or none for every GPU from Ampere on",
        "dla_core": "it builds for GPUs alone",
        "timing_cache": "it chooses kernels without timing them",
    },
}


_SPOILT: Dict[str, str] = {}  # modules whose process builds no more -> why


def times_kernels(trt: Any) -> bool:
    """Whether a build fills a timing cache."""
    return "timing_cache" not in NOT_DONE.get(trt.__name__, {})


def _start_from(config: Any, timing_cache: bytes) -> None:
    """Let the build begin with these timings; with none where they are of another GPU or version, or damaged."""
    cache = config.create_timing_cache(timing_cache)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def _layers(trt: Any, plan: bytes, request: BuildRequest, lines: List[Line]) -> List[Dict[str, Any]]:
    """What is known of the layers: nothing, where the log lists none and no driver is here to read the plan back."""
    listed = layers_from_log(lines)
    if listed:
        return listed
    try:
        cuda.require_driver()
    except Refused:
        return []
    return layers_from_plan(trt, plan, request.dla_core)


class Setting(NamedTuple):
    """One thing that a request may want of a builder's configuration."""

    field: str  # of BuildRequest
    says: str  # for people
    needs: Tuple[str, ...]  # names of the module, each of which would do
    apply: Callable[[Any, Any, BuildRequest], None]  # (trt, config, request)


def _workspace(trt: Any, config: Any, request: BuildRequest) -> None:
    if has(trt, "IBuilderConfig.set_memory_pool_limit"):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request.workspace_mb << 20)
    else:
        config.max_workspace_size = request.workspace_mb << 20


def _dla(trt: Any, config: Any, request: BuildRequest) -> None:
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = request.dla_core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def _hardware(trt: Any, config: Any, request: BuildRequest) -> None:
    level = getattr(trt.HardwareCompatibilityLevel, request.hardware_compatible.upper())
    config.hardware_compatibility_level = level


def _capabilities(trt: Any, config: Any, request: BuildRequest) -> None:
    config.num_compute_capabilities = len(request.compute_capabilities)
    for number, capability in enumerate(request.compute_capabilities):
        config.set_compute_capability(getattr(trt.ComputeCapability, sm_name(capability)), number)


def _level(trt: Any, config: Any, request: BuildRequest) -> None:
    config.builder_optimization_level = request.optimisation_level


def _flag(name: str) -> Callable[[Any, Any, BuildRequest], None]:
    return lambda trt, config, request: config.set_flag(getattr(trt.BuilderFlag, name))


SETTINGS = (
    Setting("workspace_mb", "a workspace limit",
            ("IBuilderConfig.set_memory_pool_limit", "IBuilderConfig.max_workspace_size"), _workspace),
    Setting("fp16", "FP16 by flag", ("BuilderFlag.FP16",), _flag("FP16")),
    Setting("int8", "INT8 by flag", ("BuilderFlag.INT8",), _flag("INT8")),
    Setting("keep_fp32", "nodes pinned to FP32", ("BuilderFlag.OBEY_PRECISION_CONSTRAINTS",),
            _flag("OBEY_PRECISION_CONSTRAINTS")),
    Setting("ranges", "ranges of tensors", ("ITensor.set_dynamic_range",), lambda trt, config, request: None),
    Setting("version_compatible", "version-compatible plans", ("BuilderFlag.VERSION_COMPATIBLE",),
            _flag("VERSION_COMPATIBLE")),
    Setting("hardware_compatible", "hardware-compatible plans", ("IBuilderConfig.hardware_compatibility_level",),
            _hardware),
    Setting("dla_core", "DLA", ("IBuilderConfig.DLA_core",), _dla),
    Setting("compute_capabilities", "plans for named compute capabilities",
            ("IBuilderConfig.set_compute_capability",), _capabilities),
    Setting("optimisation_level", "builder optimisation level", ("IBuilderConfig.builder_optimization_level",), _level),
)  # fmt: skip


def wanted(request: BuildRequest) -> List[Setting]:
    """The settings that a request departs from the default in."""
    default = BuildRequest(request.profiles)
    return [setting for setting in SETTINGS if getattr(request, setting.field) != getattr(default, setting.field)]


def check_request(trt: Any, request: BuildRequest) -> None:
    """Raise `Refused` for anything asked that this version has not. Needs no GPU."""
    weak = [name for name in ("fp16", "int8", "keep_fp32", "ranges") if getattr(request, name)]
    if weak and types_strongly(trt, request):
        raise Refused(
            f"{label(trt)} takes types from the graph, not from {', '.join(weak)}: write them into it as casts and Q/DQ"
        )
    not_done = NOT_DONE.get(trt.__name__, {})
    for setting in wanted(request):
        if setting.field in not_done:
            raise Refused(f"{label(trt)} has no {setting.says}: {not_done[setting.field]}")
        if not any(has(trt, name) for name in setting.needs):
            raise Refused(f"{label(trt)} has no {setting.says}; leave it out of the request")
    level = request.hardware_compatible.upper()
    if level and not has(trt, f"HardwareCompatibilityLevel.{level}"):
        raise Refused(f"{label(trt)} has no hardware compatibility level '{request.hardware_compatible}'")
    for capability in request.compute_capabilities:
        if not has(trt, f"ComputeCapability.{sm_name(capability)}"):
            raise Refused(
                f"{label(trt)} builds for no GPU of compute capability {capability}; it has: "
                f"{', '.join(known_capabilities(trt))}"
            )


def types_strongly(trt: Any, request: BuildRequest) -> bool:
    """Whether the network of this request takes its types from the graph."""
    if not has(trt, "BuilderFlag.FP16"):  # 11 and RTX know nothing else
        return True
    return request.strongly_typed and has(trt, "NetworkDefinitionCreationFlag.STRONGLY_TYPED")


def network_flags(trt: Any, request: BuildRequest) -> int:
    """Flags of `create_network`: an explicit batch where that has to be said, strong typing where there is a choice."""
    flags = 0
    if has(trt, "NetworkDefinitionCreationFlag.EXPLICIT_BATCH"):
        flags |= 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    if has(trt, "NetworkDefinitionCreationFlag.STRONGLY_TYPED") and types_strongly(trt, request):
        flags |= 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    return flags


def sm_name(capability: str) -> str:
    """'8.9' -> 'SM89', as ComputeCapability calls it."""
    return "SM" + capability.replace(".", "")


def known_capabilities(trt: Any) -> List[str]:
    """The compute capabilities that a module can build for by name: '7.5', ...; none where it has no such choice."""
    if not has(trt, "ComputeCapability"):
        return []
    numbers = [int(name[2:]) for name in dir(trt.ComputeCapability) if re.fullmatch(r"SM\d+", name)]
    return [f"{number // 10}.{number % 10}" for number in sorted(numbers)]


def _make(factory: Callable[[Any], Any], trt: Any, lines: List[Line]) -> Any:
    try:
        made = factory(logger_of(trt))
    except (TypeError, RuntimeError) as error:  # pybind11 says TypeError where the factory returned nothing
        raise _no_gpu(trt, lines) from error
    if made is None:
        raise _no_gpu(trt, lines)
    return made


def _no_gpu(trt: Any, lines: List[Line]) -> Refused:
    said = errors(lines) or [line.text for line in lines if line.severity == "WARNING"]  # 8.6 warns, and gives nothing
    return Refused(
        f"{label(trt)} cannot start here: {said[-1] if said else 'no reason given'}. "
        "It needs an NVIDIA GPU and a driver that is new enough; build a bundle and run it on the device"
    )


def parse_error(trt: Any, parser: Any, lines: Sequence[Line]) -> str:
    """One line for a graph that the parser rejects: node, operator, reason."""
    if parser.num_errors == 0:
        return f"{label(trt)} cannot read the graph: {'; '.join(errors(list(lines))) or 'no reason given'}"
    parser_error = parser.get_error(0)
    if has(trt, "ParserError.node_name"):
        node, op = parser_error.node_name(), parser_error.node_operator()
    else:  # older ones give a number; the log names the node that was being parsed
        begun = [found for line in lines for found in re.findall(r"Parsing node: (\S*) \[(\w+)\]", line.text)]
        node, op = begun[-1] if begun and parser_error.node() >= 0 else (f"number {parser_error.node()}", "?")
    where = f"node '{node}' ({op})" if node or op else "the graph"
    more = f" (and {parser.num_errors - 1} more)" if parser.num_errors > 1 else ""
    return f"{label(trt)} cannot read {where}: {' '.join(parser_error.desc().split())}{more}"


# Why a build failed, as the log says it -> what the person is told to do. The first that matches decides.
REMEDIES = (
    (r"FP32 GEMM is not supported", "let this node compute in FP16 or INT8, or leave compute capability 7.5 out"),
    (r"require hardware with Int8 support", "this GPU has no INT8: build FP16"),
    (r"out of memory|OutOfMemory|insufficient memory", "lower the workspace limit or the longest profile"),
)


def build_error(trt: Any, lines: List[Line]) -> Exception:
    """The error for a build that came to nothing: `Refused` where the target lacks something, else `BadInput`."""
    said = "; ".join(" ".join(text.split()) for text in errors(lines)) or "no reason was logged"
    for pattern, remedy in REMEDIES:
        if re.search(pattern, said):
            return Refused(f"{label(trt)} cannot build this graph: {said}. {remedy[0].upper()}{remedy[1:]}")
    return BadInput(f"{label(trt)} cannot build this graph: {said}")


def _keep_fp32(trt: Any, network: Any, request: BuildRequest) -> None:
    """Pin layers of the named nodes to FP32 in a weakly typed network. `BadInput` for a name that no layer has.

    A node may become several layers: the first bears its name, further ones add a number (LogSoftmax: softmax_7).
    """
    missing = set(request.keep_fp32)
    for number in range(network.num_layers if missing else 0):
        layer = network.get_layer(number)
        if layer.name in request.keep_fp32 or re.sub(r"_\d+$", "", layer.name) in request.keep_fp32:
            missing.discard(layer.name)
            layer.precision = trt.DataType.FLOAT
            for output in range(layer.num_outputs):
                layer.set_output_type(output, trt.DataType.FLOAT)
    if missing:
        raise BadInput(f"no layer is named {', '.join(sorted(missing))}; keep_fp32 takes names of nodes")


def _set_ranges(network: Any, request: BuildRequest) -> None:
    """Tell the builder the ranges of tensors. Those that it has not, it has folded into others."""
    tensors = [network.get_input(number) for number in range(network.num_inputs)]
    for number in range(network.num_layers if request.ranges else 0):
        layer = network.get_layer(number)
        tensors += [layer.get_output(output) for output in range(layer.num_outputs)]
    for tensor in tensors:
        if tensor.name in request.ranges:
            tensor.set_dynamic_range(-request.ranges[tensor.name], request.ranges[tensor.name])


def _add_profiles(builder: Any, network: Any, config: Any, request: BuildRequest) -> None:
    if network.num_inputs != 1:
        raise BadInput(f"the graph has {network.num_inputs} inputs; one, (B,T',...), is expected")
    tensor = network.get_input(0)
    shape = tuple(tensor.shape)
    if len(shape) < 2 or any(size < 0 for size in shape[2:]):
        raise BadInput(f"input '{tensor.name}' has shape {shape}; only clips and frames, the first two, may be open")
    if not request.profiles and -1 in shape:
        raise BadInput(f"input '{tensor.name}' has shape {shape}: the request needs a profile for it")
    for bucket in request.profiles:
        shapes = [(request.batch, bucket[name], *shape[2:]) for name in ("min", "opt", "max")]
        if any(shape[axis] not in (-1, asked[axis]) for asked in shapes for axis in (0, 1)):
            said = f"batch {request.batch} and profile {dict(bucket)}"
            raise BadInput(f"input '{tensor.name}' has shape {shape}, which {said} do not fit")
        profile = builder.create_optimization_profile()
        profile.set_shape(tensor.name, *shapes)
        config.add_optimization_profile(profile)
