"""The few calls of the CUDA driver that running a plan needs: device, memory, streams, events, graphs.

Untested on hardware here; its calls are tested against a stand-in for the driver. cuda-python makes the calls where
it is installed, else ctypes on libcuda, which every driver brings and a Jetson has. A context that is current (that of
pycuda, say) is used; otherwise the device's primary context is.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import numpy as np

from runtime.errors import Refused

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_INT, _UINT, _SIZE, _ADDRESS, _FLOAT = ctypes.c_int, ctypes.c_uint, ctypes.c_size_t, ctypes.c_uint64, ctypes.c_float
_HANDLE = ctypes.c_void_p
# Call -> (symbol of the library, types of what it gives, types of what it takes). What it gives comes first in C but
# where GIVES_LAST says so.
CALLS: Dict[str, Tuple[str, Tuple[Any, ...], Tuple[Any, ...]]] = {
    "cuInit": ("cuInit", (), (_UINT,)),
    "cuDriverGetVersion": ("cuDriverGetVersion", (_INT,), ()),
    "cuDeviceGet": ("cuDeviceGet", (_INT,), (_INT,)),
    "cuDeviceGetAttribute": ("cuDeviceGetAttribute", (_INT,), (_INT, _INT)),
    "cuDevicePrimaryCtxRetain": ("cuDevicePrimaryCtxRetain", (_HANDLE,), (_INT,)),
    "cuCtxGetCurrent": ("cuCtxGetCurrent", (_HANDLE,), ()),
    "cuCtxSetCurrent": ("cuCtxSetCurrent", (), (_HANDLE,)),
    "cuMemAlloc": ("cuMemAlloc_v2", (_ADDRESS,), (_SIZE,)),
    "cuMemFree": ("cuMemFree_v2", (), (_ADDRESS,)),
    "cuMemcpyHtoDAsync": ("cuMemcpyHtoDAsync_v2", (), (_ADDRESS, _HANDLE, _SIZE, _HANDLE)),
    "cuMemcpyDtoHAsync": ("cuMemcpyDtoHAsync_v2", (), (_HANDLE, _ADDRESS, _SIZE, _HANDLE)),
    "cuStreamCreate": ("cuStreamCreate", (_HANDLE,), (_UINT,)),
    "cuStreamSynchronize": ("cuStreamSynchronize", (), (_HANDLE,)),
    "cuStreamDestroy": ("cuStreamDestroy_v2", (), (_HANDLE,)),
    "cuStreamBeginCapture": ("cuStreamBeginCapture_v2", (), (_HANDLE, _INT)),
    "cuStreamEndCapture": ("cuStreamEndCapture", (_HANDLE,), (_HANDLE,)),
    "cuGraphInstantiate": ("cuGraphInstantiateWithFlags", (_HANDLE,), (_HANDLE, ctypes.c_ulonglong)),
    "cuGraphLaunch": ("cuGraphLaunch", (), (_HANDLE, _HANDLE)),
    "cuGraphDestroy": ("cuGraphDestroy", (), (_HANDLE,)),
    "cuGraphExecDestroy": ("cuGraphExecDestroy", (), (_HANDLE,)),
    "cuEventCreate": ("cuEventCreate", (_HANDLE,), (_UINT,)),
    "cuEventRecord": ("cuEventRecord", (), (_HANDLE, _HANDLE)),
    "cuEventSynchronize": ("cuEventSynchronize", (), (_HANDLE,)),
    "cuEventElapsedTime": ("cuEventElapsedTime", (_FLOAT,), (_HANDLE, _HANDLE)),
    "cuEventDestroy": ("cuEventDestroy_v2", (), (_HANDLE,)),
}
GIVES_LAST = ("cuStreamEndCapture",)
_COUNT, _MAJOR, _MINOR = 16, 75, 76  # CUdevice_attribute: multiprocessors, compute capability
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING
_NOT_FOUND = 500  # CUDA_ERROR_NOT_FOUND
_STARTS = {100: "there is no GPU that this process may use",
           803: "its library and its kernel module are of different versions; a restart may help",
           804: "this GPU takes no library of another version than its kernel module's"}  # fmt: skip
_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL

_caller: List[Callable[..., Any]] = []


class Gpu(NamedTuple):
    """The GPU in use."""

    name: str  # NVIDIA H100 80GB HBM3; Orin
    compute_capability: str  # 9.0
    sms: int  # multiprocessors
    driver: str  # newest CUDA that the driver runs: 12.6


def require_driver() -> None:
    """Raise `Refused` where no NVIDIA driver answers."""
    _call("cuDriverGetVersion")


def gpu() -> Gpu:
    """The first GPU that is visible. `Refused` without a driver or a GPU."""
    device = _call("cuDeviceGet", 0)
    number = _call("cuDriverGetVersion")
    capability = ".".join(str(_call("cuDeviceGetAttribute", what, device)) for what in (_MAJOR, _MINOR))
    sms = _call("cuDeviceGetAttribute", _COUNT, device)
    return Gpu(_name(device), capability, sms, f"{number // 1000}.{number % 1000 // 10}")


def has_graphs() -> bool:
    """Whether this driver makes graphs by the call that is used here (CUDA 11.4 on)."""
    return int(_call("cuDriverGetVersion")) >= 11040


class Stream:
    """A queue of work in the context at hand, and what it works on. Everything it made goes when it is closed."""

    def __init__(self) -> None:
        device = _call("cuDeviceGet", 0)
        self._context = _call("cuCtxGetCurrent") or _call("cuDevicePrimaryCtxRetain", device)
        self.enter()
        self.handle: int = _call("cuStreamCreate", _NON_BLOCKING)
        self._memory: List[int] = []
        self._graphs: Dict[Callable[[], None], int] = {}
        self._events = [_call("cuEventCreate", 0) for _ in range(2)]

    def enter(self) -> None:
        """Make the context current for the calling thread; calls from another thread need it first."""
        _call("cuCtxSetCurrent", self._context)

    def alloc(self, size: int) -> int:
        """Device memory of `size` bytes, until this is closed: its address."""
        address = _call("cuMemAlloc", max(size, 1))
        self._memory.append(address)
        return address

    def upload(self, address: int, array: np.ndarray) -> None:
        """Copy a contiguous array to the device; keep the array until the stream is synchronised."""
        _call("cuMemcpyHtoDAsync", address, array.ctypes.data, array.nbytes, self.handle)

    def download(self, array: np.ndarray, address: int) -> None:
        """Copy from the device into a contiguous array, which is filled once the stream is synchronised."""
        _call("cuMemcpyDtoHAsync", array.ctypes.data, address, array.nbytes, self.handle)

    def synchronise(self) -> None:
        """Wait until all work is done."""
        _call("cuStreamSynchronize", self.handle)

    def timed(self, work: Callable[[], None]) -> float:
        """Do `work` on this stream and wait: milliseconds on the device."""
        first, last = self._events
        _call("cuEventRecord", first, self.handle)
        work()
        _call("cuEventRecord", last, self.handle)
        _call("cuEventSynchronize", last)
        return float(_call("cuEventElapsedTime", first, last))

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        """`work` on this stream as one graph of kernels: what is returned launches it, until it is given to `drop`."""
        _call("cuStreamBeginCapture", self.handle, _THREAD_LOCAL)
        try:
            work()
        finally:
            graph = _call("cuStreamEndCapture", self.handle)
        try:
            launchable = _call("cuGraphInstantiate", graph, 0)
        finally:
            _call("cuGraphDestroy", graph)

        def launch() -> None:
            _call("cuGraphLaunch", launchable, self.handle)

        self._graphs[launch] = launchable
        return launch

    def drop(self, launch: Callable[[], None]) -> None:
        """Give back what `captured` made."""
        _call("cuGraphExecDestroy", self._graphs.pop(launch))

    def close(self) -> None:
        """Give everything back."""
        self.enter()
        for launch in list(self._graphs):
            self.drop(launch)
        for event in self._events:
            _call("cuEventDestroy", event)
        for address in self._memory:
            _call("cuMemFree", address)
        if self.handle:
            _call("cuStreamDestroy", self.handle)
        self._events, self._memory, self.handle = [], [], 0


def _call(name: str, *inputs: Any) -> Any:
    """Make a call of `CALLS`; what it gives, or None. `Refused` without a driver, RuntimeError where the call fails."""
    if not _caller:
        caller = _cuda_python() or _libcuda()
        status = caller("cuInit", 0)[0]
        if status != 0:
            why = _STARTS.get(status, "look at nvidia-smi")
            raise Refused(f"the NVIDIA driver does not start (CUDA error {status}): {why}")
        _caller.append(caller)
    status, *given = _caller[0](name, *inputs)
    if status != 0:
        raise RuntimeError(f"{name} failed with CUDA error {status}")
    return given[0] if given else None


def _cuda_python() -> Any:
    """Calls through cuda-python 12 or 13; None where it is not installed, or finds no driver."""
    try:
        driver = importlib.import_module("cuda.bindings.driver")
        driver.cuInit(0)  # it looks for the library at its first call
    except (ImportError, RuntimeError):
        return None

    def call(name: str, *inputs: Any) -> Tuple[Any, ...]:
        if name == "cuDeviceGetAttribute":
            inputs = (driver.CUdevice_attribute(inputs[0]), *inputs[1:])
        elif name == "cuStreamBeginCapture":
            inputs = (inputs[0], driver.CUstreamCaptureMode(inputs[1]))
        status, *given = getattr(driver, name)(*inputs)
        return (int(status), *(value if isinstance(value, float) else int(value) for value in given))

    return call


def _libcuda() -> Callable[..., Tuple[Any, ...]]:
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise Refused(f"no NVIDIA driver here: {LIBRARY} cannot be loaded ({error})") from error

    def call(name: str, *inputs: Any) -> Tuple[Any, ...]:
        symbol, gives, takes = CALLS[name]
        function = getattr(library, symbol, None)
        if function is None:
            return (_NOT_FOUND, *(0 for _ in gives))
        given = [kind() for kind in gives]
        pointers = [ctypes.byref(value) for value in given]
        arguments = [kind(value) for kind, value in zip(takes, inputs)]  # noqa: B905 - strict needs Python 3.10
        ordered = [*arguments, *pointers] if name in GIVES_LAST else [*pointers, *arguments]
        return (function(*ordered), *(value.value or 0 for value in given))

    return call


def _name(device: int) -> str:
    """By ctypes whoever makes the other calls: it fills a buffer, as no other call here does."""
    buffer = ctypes.create_string_buffer(256)
    ctypes.CDLL(LIBRARY).cuDeviceGetName(buffer, 256, device)
    return buffer.value.decode("utf-8", "replace")
