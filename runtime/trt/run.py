"""Run a plan on the GPU: numpy array in, log-probabilities out, and how long the device took.

Untested on hardware here; its order of calls is tested against stand-ins for the driver and the engine. Needs
TensorRT 8.5 or later, or TensorRT-RTX; for 8.2 there is runtime.trt.trtexec.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np

from runtime.errors import BadInput, Refused
from runtime.trt import cuda
from runtime.trt.compat import has_header, plan_header
from runtime.trt.inspect import layers_of_engine
from runtime.trt.module import collected, errors, has, label, logger_of

GRAPHS = 8  # shapes whose kernels are kept as CUDA graphs, each with an execution context of its own
SHARED_FROM = 9  # major version of TensorRT from which several contexts may use one profile (headers of 8.5 and 8.6)
Shape = Tuple[int, ...]


class Runner:
    """One plan, ready. Safe to call from several threads, which take turns. Close it, or use it as a context.

    A plan is native code: read its manifest first (`runtime.trt.compat.check_plan`), and read plans that you trust.
    `version_compatible` lets such a plan bring its own runtime code; `dla_core` runs a plan of DLA on that core.
    """

    def __init__(
        self, plan: bytes, trt: Any, version_compatible: bool = False, dla_core: Optional[int] = None
    ) -> None:
        header = plan_header(plan) if has_header(trt.__name__, str(trt.__version__)) else {}
        if header.get("module", trt.__name__) != trt.__name__:
            raise Refused(f"this plan is of {header['module']} {header['version']}; {label(trt)} does not read it")
        if not has(trt, "IExecutionContext.execute_async_v3"):
            raise Refused(f"{label(trt)} is older than 8.5; run this plan with trtexec")
        cuda.require_driver()  # without one, some versions crash on the next lines
        self._trt, self._lock = trt, threading.Lock()
        self._stream = cuda.Stream()
        try:
            with collected(trt) as lines:
                self._runtime = trt.Runtime(logger_of(trt))
                if version_compatible and has(trt, "Runtime.engine_host_code_allowed"):
                    self._runtime.engine_host_code_allowed = True
                if dla_core is not None:
                    self._runtime.DLA_core = dla_core
                self._engine = self._runtime.deserialize_cuda_engine(plan)
                if self._engine is None:
                    raise Refused(f"{label(trt)} does not read this plan: {'; '.join(errors(lines)) or 'no reason'}")
                self._source, self._target = _names(trt, self._engine)
                self._shared = self._context()
            self._ranges = _ranges(self._engine, self._source)
            self._addresses = self._allocate()
        except BaseException:
            self._stream.close()
            raise
        self._graphed = cuda.has_graphs() and _shares_profiles(trt)
        self._seen: Dict[Shape, int] = {}
        self._graphs: OrderedDict[Shape, Tuple[Any, Callable[[], None]]] = OrderedDict()

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    @property
    def layers(self) -> List[Dict[str, Any]]:
        """The layers of the plan as this machine reads them; see runtime.trt.inspect."""
        return layers_of_engine(self._trt, self._engine)

    def log_probs(self, x: np.ndarray) -> np.ndarray:
        """Network input (B,T',...) float32 -> log-probabilities (B,N,K) float32. `BadInput` for other shapes."""
        x = np.ascontiguousarray(x, dtype=np.float32)
        with self._lock:
            self._stream.enter()
            shape, launch = self._ready(x.shape)
            out = np.empty(shape, np.float32)
            self._stream.upload(self._addresses[self._source], x)
            launch()
            self._stream.download(out, self._addresses[self._target])
            self._stream.synchronise()
        return out

    def device_ms(self, x: np.ndarray, times: int = 1) -> List[float]:
        """Milliseconds on the device, by its own events, of each of `times` runs: copies are not in them."""
        x = np.ascontiguousarray(x, dtype=np.float32)
        with self._lock:
            self._stream.enter()
            _, launch = self._ready(x.shape)
            self._stream.upload(self._addresses[self._source], x)
            self._stream.synchronise()
            return [self._stream.timed(launch) for _ in range(times)]

    def close(self) -> None:
        """Give the GPU's memory back."""
        with self._lock:
            self._graphs.clear()
            self._shared = self._engine = self._runtime = None
            self._stream.close()

    def _ready(self, shape: Shape) -> Tuple[Shape, Callable[[], None]]:
        """Shape of the output for an input of `shape`, and what runs it: a CUDA graph from the second time on."""
        self._seen[shape] = self._seen.get(shape, 0) + 1
        if shape in self._graphs:
            self._graphs.move_to_end(shape)
            context, launch = self._graphs[shape]
            return tuple(context.get_tensor_shape(self._target)), launch
        repeated = self._graphed and self._seen[shape] == 2
        context = self._context() if repeated else self._shared
        self._prepare(context, shape)
        out = tuple(context.get_tensor_shape(self._target))

        def enqueue() -> None:
            if not context.execute_async_v3(self._stream.handle):
                raise RuntimeError(f"{label(self._trt)} could not run an input of shape {shape}")

        if not (repeated and self._capturable(context)):
            return out, enqueue
        enqueue()  # the first run allocates, which a capture must not
        self._stream.synchronise()
        try:
            launch = self._stream.captured(enqueue)
        except RuntimeError:  # a layer that no graph can hold: such plans run as they did the first time
            self._graphed = False
            return out, enqueue
        self._graphs[shape] = (context, launch)
        if len(self._graphs) > GRAPHS:
            oldest, (_, unused) = self._graphs.popitem(last=False)
            self._stream.drop(unused)
            self._seen[oldest] = 0
        return out, launch

    def _capturable(self, context: Any) -> bool:
        if has(self._trt, "IExecutionContext.is_stream_capturable"):  # TensorRT-RTX may still be compiling kernels
            return bool(context.is_stream_capturable(self._stream.handle))
        return True

    def _prepare(self, context: Any, shape: Shape) -> None:
        self._take(context, self._profile(shape))
        if not context.set_input_shape(self._source, shape):
            raise BadInput(f"the plan takes no input of shape {shape}")
        for name, address in self._addresses.items():
            context.set_tensor_address(name, address)

    def _take(self, context: Any, profile: int) -> None:
        if context.active_optimization_profile != profile:
            context.set_optimization_profile_async(profile, self._stream.handle)
            self._stream.synchronise()

    def _profile(self, shape: Shape) -> int:
        """The profile for an input: of those that hold it, the one with the smallest largest input."""
        fitting = [
            (high, number) for number, (low, high) in enumerate(self._ranges)
            if len(low) == len(shape) and all(low[axis] <= shape[axis] <= high[axis] for axis in range(len(shape)))
        ]  # fmt: skip
        if not fitting:
            known = ", ".join(f"{low} to {high}" for low, high in self._ranges)
            raise BadInput(f"an input of shape {shape} fits no optimisation profile of the plan: {known}")
        return min(fitting)[1]

    def _context(self) -> Any:
        context = self._engine.create_execution_context()
        if context is None:
            raise Refused("the GPU has not enough memory to run this plan")
        return context

    def _allocate(self) -> Dict[str, int]:
        """Memory for the largest input of any profile and the largest output: addresses stay, as graphs need."""
        largest = 0
        for number, (_, high) in enumerate(self._ranges):
            self._take(self._shared, number)
            self._shared.set_input_shape(self._source, high)
            largest = max(largest, int(np.prod(tuple(self._shared.get_tensor_shape(self._target)), dtype=np.int64)))
        source = max(int(np.prod(high, dtype=np.int64)) for _, high in self._ranges)
        return {self._source: self._stream.alloc(4 * source), self._target: self._stream.alloc(4 * largest)}


def _shares_profiles(trt: Any) -> bool:
    """Whether a second context may take a profile that another has."""
    return trt.__name__ != "tensorrt" or int(str(trt.__version__).split(".")[0]) >= SHARED_FROM


def _names(trt: Any, engine: Any) -> Tuple[str, str]:
    """Names of the one input and the one output, both float32. `BadInput` for other plans."""
    names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
    sources = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    targets = [name for name in names if name not in sources]
    if len(sources) != 1 or len(targets) != 1:
        raise BadInput(f"the plan has tensors {', '.join(names)}; one input and one output are expected")
    for name in names:
        if engine.get_tensor_dtype(name) != trt.DataType.FLOAT:
            raise BadInput(f"tensor '{name}' of the plan is {engine.get_tensor_dtype(name)}; float32 is expected")
    return sources[0], targets[0]


def _ranges(engine: Any, source: str) -> List[Tuple[Shape, Shape]]:
    """Smallest and largest shape of the input, of each profile; of a graph of one length, that."""
    fixed = tuple(engine.get_tensor_shape(source))
    if -1 not in fixed:
        return [(fixed, fixed)]
    shapes = [engine.get_tensor_profile_shape(source, number) for number in range(engine.num_optimization_profiles)]
    return [(tuple(found[0]), tuple(found[2])) for found in shapes]
