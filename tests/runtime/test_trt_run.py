"""Running a plan, as far as it goes without a GPU.

The driver's calls are made for real, to a stand-in whose device is host memory; the engine is a stand-in too, which
doubles its input. What they cannot show is that TensorRT does the same on hardware.
"""

from __future__ import annotations

import ctypes
import enum
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from native_programs import NATIVE

from runtime.errors import BadInput, Refused
from runtime.trt import compat, cuda, module
from runtime.trt.inspect import layers_from_plan
from runtime.trt.run import GRAPHS, Runner

PLAN = b"ftrt" + bytes(20) + bytes([10, 3, 0, 26]) + b"the rest"
RANGES = [((1, 8, 2), (1, 16, 2), (1, 32, 2)), ((1, 33, 2), (1, 64, 2), (1, 128, 2))]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in for libcuda."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("a C compiler is needed: cc")
    library = tmp_path_factory.mktemp("cuda") / "libhost_cuda.so"
    options = ["-shared", "-fPIC", "-Wall", "-Werror"]
    subprocess.run([compiler, *options, str(NATIVE / "host_cuda.c"), "-o", str(library), "-ldl"], check=True)
    return library


@pytest.fixture
def device(driver: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ctypes.CDLL]:
    """The stand-in, as cuda.py finds it. Whatever a test made must be given back."""
    monkeypatch.setattr(cuda, "LIBRARY", str(driver))
    monkeypatch.setattr(cuda, "_cuda_python", lambda: None)
    monkeypatch.setattr(cuda, "_caller", [])
    library = ctypes.CDLL(str(driver))
    before = library.host_cuda_live()
    yield library
    assert library.host_cuda_live() == before


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without one, whatever this one has."""
    monkeypatch.setattr(cuda, "LIBRARY", "libcuda.so.absent")
    monkeypatch.setattr(cuda, "_cuda_python", lambda: None)
    monkeypatch.setattr(cuda, "_caller", [])


class Mode(enum.Enum):
    INPUT, OUTPUT = 1, 2


class Context:
    """IExecutionContext of an engine that doubles: (1,T,2) -> (1,T/4,4)."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.active_optimization_profile = engine, 0
        self.addresses: dict[str, int] = {}
        self.shape: tuple[int, ...] = ()

    def set_optimization_profile_async(self, number: int, stream: int) -> bool:
        assert stream
        self.active_optimization_profile = number
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = RANGES[self.active_optimization_profile]
        assert name == "input" and low[1] <= shape[1] <= high[1]
        self.shape = shape
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert name == "log_probs"
        return (1, self.shape[1] // 4, 4)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        self.engine.runs.append((self, self.active_optimization_profile))
        count = int(np.prod(self.get_tensor_shape("log_probs")))
        floats = ctypes.POINTER(ctypes.c_float)
        source, target = (ctypes.cast(self.addresses[name], floats) for name in ("input", "log_probs"))
        for at in range(count):
            target[at] = 2 * source[at]
        return bool(stream)


class Engine:
    """ICudaEngine of the same."""

    num_io_tensors, num_optimization_profiles = 2, len(RANGES)

    def __init__(self, dtype: str = "float", one: int = -1) -> None:
        self.dtype, self.one = dtype, one
        self.runs: list[tuple[Context, int]] = []

    def get_tensor_name(self, number: int) -> str:
        return ("input", "log_probs")[number]

    def get_tensor_mode(self, name: str) -> Mode:
        return Mode.INPUT if name == "input" else Mode.OUTPUT

    def get_tensor_dtype(self, name: str) -> str:
        return self.dtype

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (1, self.one, 2)

    def get_tensor_profile_shape(self, name: str, profile: int) -> Any:
        assert self.one < 0, "a network of one length has no profiles to ask for"
        return RANGES[profile]

    def create_execution_context(self) -> Context:
        return Context(self)


def tensorrt(engine: Engine | None, version: str = "10.3.0") -> Any:
    """The module, as far as a runner asks."""

    class ILogger:
        pass

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self.logger, self.DLA_core = logger, 0

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            if engine is None:
                self.logger.log("Severity.ERROR", "the plan is torn")
            return engine

    module._LOGGERS.pop("tensorrt", None)
    return SimpleNamespace(
        __name__="tensorrt", __version__=version, ILogger=ILogger, Runtime=Runtime, IExecutionContext=Context,
        TensorIOMode=Mode, DataType=SimpleNamespace(FLOAT="float"),
    )  # fmt: skip


@pytest.fixture(autouse=True)
def forget_the_stand_in() -> Iterator[None]:
    yield
    module._LOGGERS.pop("tensorrt", None)


def clip(frames: int) -> np.ndarray:
    return np.random.default_rng(frames).normal(size=(1, frames, 2)).astype(np.float32)


def expected(x: np.ndarray) -> np.ndarray:
    return 2 * x.reshape(-1)[: x.shape[1] // 4 * 4].reshape(1, -1, 4)


def test_an_input_of_any_length_runs_under_the_profile_that_holds_it(device: ctypes.CDLL) -> None:
    engine = Engine()
    with Runner(PLAN, tensorrt(engine)) as runner:
        for frames in (8, 32, 33, 128, 16):
            x = clip(frames)
            np.testing.assert_array_equal(runner.log_probs(x), expected(x))
    assert [profile for _, profile in engine.runs] == [0, 0, 1, 1, 0]


def test_a_plan_of_one_length_runs_that_alone(device: ctypes.CDLL) -> None:
    with Runner(PLAN, tensorrt(Engine(one=16))) as runner:
        for _ in range(3):
            np.testing.assert_array_equal(runner.log_probs(clip(16)), expected(clip(16)))
        with pytest.raises(BadInput, match=r"\(1, 16, 2\) to \(1, 16, 2\)"):
            runner.log_probs(clip(20))


def test_a_repeated_shape_becomes_a_graph_in_a_context_of_its_own(device: ctypes.CDLL) -> None:
    engine = Engine()
    with Runner(PLAN, tensorrt(engine)) as runner:
        before = device.host_cuda_launches()
        x = clip(16)
        for _ in range(4):
            runner.log_probs(x)
        assert device.host_cuda_launches() - before == 3
        assert len({id(context) for context, _ in engine.runs}) == 2
        np.testing.assert_array_equal(runner.log_probs(x), expected(x))


def test_graphs_are_kept_for_a_few_shapes(device: ctypes.CDLL) -> None:
    engine = Engine()
    with Runner(PLAN, tensorrt(engine)) as runner:
        for frames in (*range(8, 8 + GRAPHS + 2), 8):
            x = clip(frames)
            for _ in range(3):
                np.testing.assert_array_equal(runner.log_probs(x), expected(x))
        assert len(runner._graphs) == len(runner._stream._graphs) == GRAPHS  # the device keeps no more than we do


def test_what_no_graph_can_hold_runs_without(device: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(stream: cuda.Stream, work: Any) -> None:
        raise RuntimeError("not while capturing")

    monkeypatch.setattr(cuda.Stream, "captured", refuse)
    with Runner(PLAN, tensorrt(Engine())) as runner:
        before, x = device.host_cuda_launches(), clip(16)
        for _ in range(4):
            np.testing.assert_array_equal(runner.log_probs(x), expected(x))
        assert device.host_cuda_launches() == before


@pytest.mark.parametrize(("version", "contexts"), [("8.5.2", 1), ("8.6.1", 1), ("10.3.0", 2)])
def test_before_9_one_context_alone_has_a_profile(device: ctypes.CDLL, version: str, contexts: int) -> None:
    engine = Engine()
    with Runner(PLAN, tensorrt(engine, version)) as runner:
        for _ in range(3):
            runner.log_probs(clip(16))
    assert len({id(context) for context, _ in engine.runs}) == contexts


def test_the_time_is_that_of_the_device(device: ctypes.CDLL) -> None:
    with Runner(PLAN, tensorrt(Engine())) as runner:
        assert runner.device_ms(clip(16), times=3) == [1.5, 1.5, 1.5]


@pytest.mark.parametrize("shape", [(1, 7, 2), (1, 129, 2), (2, 16, 2), (1, 16), (1, 16, 3)])
def test_a_shape_outside_every_profile_is_bad_input(device: ctypes.CDLL, shape: tuple[int, ...]) -> None:
    with Runner(PLAN, tensorrt(Engine())) as runner, pytest.raises(BadInput, match=r"\(1, 8, 2\) to \(1, 32, 2\)"):
        runner.log_probs(np.zeros(shape, np.float32))


def test_a_plan_of_dla_runs_on_the_core_that_is_named(device: ctypes.CDLL) -> None:
    with Runner(PLAN, tensorrt(Engine()), dla_core=1) as runner:
        assert runner._runtime.DLA_core == 1


def test_a_plan_that_is_not_read_says_why(device: ctypes.CDLL) -> None:
    with pytest.raises(Refused, match="the plan is torn"):
        Runner(PLAN, tensorrt(None))


def test_only_float32_is_run(device: ctypes.CDLL) -> None:
    with pytest.raises(BadInput, match="'input' of the plan is half"):
        Runner(PLAN, tensorrt(Engine("half")))


def test_a_plan_of_another_module_is_refused_unread(device: ctypes.CDLL) -> None:
    with pytest.raises(Refused, match=r"of tensorrt_rtx 1\.7\.1\.116; tensorrt 10"):
        Runner(b"vtrt" + bytes(20) + bytes([1, 7, 1, 116]), tensorrt(Engine()))


def test_plans_before_8_6_begin_otherwise_and_are_run(device: ctypes.CDLL) -> None:
    with Runner(b"ptrt" + bytes(60), tensorrt(Engine(), "8.5.2")) as runner:
        runner.log_probs(clip(16))
    with pytest.raises(BadInput, match="not a TensorRT plan"):
        Runner(b"ptrt" + bytes(60), tensorrt(Engine(), "8.6.1"))


def test_the_gpu_is_known(device: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST_CUDA_CAPABILITY", "12.0")
    assert cuda.gpu() == cuda.Gpu("Stand-in", "12.0", 8, "12.6")
    here = compat.here(tensorrt(None))
    assert (here["gpu"], here["compute_capability"], here["sms"]) == ("Stand-in", "12.0", "8")


def test_a_driver_without_a_gpu_is_refused(device: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST_CUDA_ERROR", "100")
    with pytest.raises(Refused, match=r"CUDA error 100\): there is no GPU"):
        cuda.require_driver()


def test_a_call_that_fails_is_named(device: ctypes.CDLL) -> None:
    with pytest.raises(RuntimeError, match="cuDeviceGetAttribute failed with CUDA error 1"):
        cuda._call("cuDeviceGetAttribute", 1, 0)


def test_without_a_driver_running_is_refused(no_driver: None) -> None:
    with pytest.raises(Refused, match=r"no NVIDIA driver here: libcuda\.so\.absent"):
        Runner(PLAN, tensorrt(Engine()))
    assert compat.here(tensorrt(None))["gpu"] == ""


def test_a_real_plan_is_not_read_without_a_driver(no_driver: None) -> None:
    rtx = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    with pytest.raises(Refused, match="no NVIDIA driver"):
        layers_from_plan(rtx, b"vtrt")


def test_cuda_python_makes_the_same_calls(driver: Path, tmp_path: Path) -> None:
    pytest.importorskip("cuda.bindings.driver", reason="cuda-python is not installed")
    shutil.copy(driver, tmp_path / "libcuda.so.1")
    script = """
import numpy as np
from runtime.trt import cuda
caller = cuda._cuda_python()
assert caller is not None
cuda._caller.append(caller)
stream, source, target = cuda.Stream(), np.arange(4, dtype=np.float32), np.zeros(4, np.float32)
address = stream.alloc(16)
stream.upload(address, source)
stream.captured(lambda: stream.download(target, address))()
stream.synchronise()
print(cuda.gpu().name, target.tolist(), stream.timed(lambda: None))
stream.close()
"""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert done.stdout == "Stand-in [0.0, 1.0, 2.0, 3.0] 1.5\n", done.stderr
