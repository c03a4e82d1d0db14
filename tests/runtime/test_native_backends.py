"""Backends of libsignedge: OpenVINO computes what ONNX Runtime does, and what cannot run is refused in plain words."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from ctypes import byref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from test_engine import CONTRACT, write_engine, write_model

from runtime import abi
from runtime.binding import Model, capabilities
from runtime.contract import BLANK, Contract, KeypointInput, RgbInput, body_and_hands_layout
from runtime.engine import Engine
from runtime.errors import BadInput
from runtime.preprocess import prepare

pytestmark = pytest.mark.usefixtures("library_in_use")

BACKENDS = ("onnxruntime", "openvino")
BACKEND_FAILED = 4
FINE = 1e-4  # of log-probabilities
JOINTS = ("left_wrist", "right_wrist", "nose")
SKELETON = KeypointInput(body_and_hands_layout(), JOINTS, ("nose",) * 3, ("left_shoulder", "right_shoulder"))
NETWORKS = [("lrinet", RgbInput(32, 32)), ("stgt", SKELETON)]


@pytest.fixture
def openvino() -> None:
    """Skips where there is no OpenVINO to compare with."""
    if abi.backend_library("openvino") is None and "SIGNEDGE_OPENVINO_LIBRARY" not in os.environ:
        pytest.skip("no OpenVINO: install signedge[openvino] or set SIGNEDGE_OPENVINO_LIBRARY to libopenvino_c.so")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "openvino":
        request.getfixturevalue("openvino")
    return request.param


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A convolutional network that reads colours, exported in fp32 and quantised: paths `fp32` and `int8`, `clip()`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1] / "export"))
        from export_stage import colour_clip, contract, network
    from export.onnx_graph import export_onnx, read_model
    from export.precision import Int8Plan, make_precision

    folder = tmp_path_factory.mktemp("colours")

    def clip(*glosses: str) -> np.ndarray:
        return colour_clip(list(glosses), np.random.default_rng(len(glosses)))

    export_onnx(network(), contract(), folder / "fp32.onnx")
    seen = [prepare(contract(), clip("RED", "GREEN", "BLUE"), None), prepare(contract(), clip("BLUE", "RED"), None)]
    made = make_precision(read_model(folder / "fp32.onnx"), "int8", seen, options=Int8Plan())
    (folder / "int8.onnx").write_bytes(made.to_bytes())
    return SimpleNamespace(fp32=folder / "fp32.onnx", int8=folder / "int8.onnx", clip=clip, contract=contract())


def refusal(engine: Path, backend: str = "", library: object = None) -> tuple[int, str]:
    """Status and message of an engine that does not open; `backend` "": that which it names, ONNX Runtime."""
    library = library or abi.backend_library(backend or "onnxruntime")
    options = abi.ModelOptions(
        backend=backend.encode() or None, library=os.fsencode(library) if library else None, threads=1
    )
    handle = ctypes.c_void_p()
    functions = abi.load()
    status = functions.signedge_model_open(os.fsencode(engine), byref(options), byref(handle))
    message = ctypes.create_string_buffer(4096)
    functions.signedge_model_message(handle, message, len(message), None)
    functions.signedge_model_destroy(handle)
    return status, message.value.decode()


def stub(folder: Path, source: str) -> Path:
    """A shared library made of a line of C."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("a C compiler is needed for a library that is not what it should be")
    (folder / "stub.c").write_text(source)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "stub.so", folder / "stub.c"], check=True)
    return folder / "stub.so"


@pytest.mark.parametrize("name, source", NETWORKS)
def test_openvino_computes_what_onnxruntime_does(
    openvino: None, name: str, source: RgbInput | KeypointInput, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    from distill.models import build
    from export.onnx_graph import export_onnx

    torch.manual_seed(0)
    network = build({"name": name, "preset": "small"}, 5, source)
    contract = Contract(name, source, (BLANK, "A", "B", "C", "D"), 25.0, padding=network.padding)
    path = tmp_path / "model.onnx"
    export_onnx(network.inference(), contract, path)
    engine, model = Engine.from_onnx(path, 1), Model(path, threads=1, backend="openvino")
    assert model.backend.startswith("openvino ")
    shape = (3, source.height, source.width) if isinstance(source, RgbInput) else (len(JOINTS), 5)
    for frames, batch in ((16, 1), (40, 3), (36, 1)):
        padded = frames + contract.padding.left + contract.padding.right
        x = np.random.default_rng(frames).normal(size=(batch, padded, *shape)).astype(np.float32)
        np.testing.assert_allclose(model.run(x, frames // 4), engine.log_probs(x), atol=FINE)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_openvino_reads_the_same_glosses(openvino: None, colours: SimpleNamespace, precision: str) -> None:
    path = getattr(colours, precision)
    engine, model = Engine.from_onnx(path, 1), Model(path, threads=1, backend="openvino")
    for glosses in (["RED"], ["GREEN", "BLUE", "RED"], ["BLUE", "BLUE", "GREEN", "RED", "GREEN"]):
        clip = colours.clip(*glosses)
        assert model.recognise(clip) == engine.recognise(clip) == glosses


def test_the_manifest_names_the_backend(openvino: None, tmp_path: Path) -> None:
    assert Model(write_engine(tmp_path / "engine", runtime="openvino")).backend.startswith("openvino ")


def test_threads_share_a_model(backend: str, tmp_path: Path) -> None:
    model = Model(write_model(tmp_path / "model.onnx"), threads=1, backend=backend)
    inputs = [np.random.default_rng(i).normal(size=(1, 4 * (1 + i % 3), 3, 4, 4)).astype(np.float32) for i in range(64)]
    expected = [model.run(x, x.shape[1] // 4) for x in inputs]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda x: model.run(x, x.shape[1] // 4), inputs))
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("stride", [2, 8])
def test_an_output_of_another_length_than_promised_is_refused(backend: str, stride: int, tmp_path: Path) -> None:
    """The network gives a step for 4 frames; a contract that says otherwise asks for more or fewer."""
    contract = dataclasses.replace(CONTRACT, frame_stride=stride)
    model = Model(write_model(tmp_path / "model.onnx", contract), threads=1, backend=backend)
    room = np.full((1, 16 // stride, 4), 7, np.float32)
    guard = np.full(1000, 7, np.float32)
    guard[: room.size] = 0
    x = np.zeros((1, 16, 3, 4, 4), np.float32)
    run = abi.load().signedge_model_run
    assert run(model._handle, x.ctypes.data, x.size, 1, 16, guard.ctypes.data, room.size, None, 0) == BACKEND_FAILED
    assert (guard[room.size :] == 7).all()


def test_models_that_are_not_what_their_contract_says_are_refused(backend: str, tmp_path: Path) -> None:
    for name, changes, words in (
        ("named", {"source": "pictures"}, "named.onnx must have one input, 'input'; it has 1, pictures"),
        ("wide", {"classes": 6}, "wide.onnx gives 6 classes; its contract names 4 (blank included)"),
        ("large", {"contract": dataclasses.replace(CONTRACT, input=RgbInput(5, 5))}, "its input has not the shape"),
    ):
        status, message = refusal(write_model(tmp_path / f"{name}.onnx", **changes), backend)
        assert status == abi.BAD_FILE and words in message


def test_libraries_that_are_missing_or_others_are_told(tmp_path: Path) -> None:
    engine = write_engine(tmp_path / "engine")
    for backend, function in (("onnxruntime", "OrtGetApiBase"), ("openvino", "ov_get_openvino_version")):
        status, message = refusal(engine, backend, tmp_path / "nowhere.so")
        assert status == abi.NO_BACKEND and "was not found" in message and "nowhere.so" in message
        assert f"SIGNEDGE_{backend.upper()}_LIBRARY" in message
        status, message = refusal(engine, backend, "libm.so.6")
        assert status == abi.NO_BACKEND and f"libm.so.6 has no {function}" in message
    status, message = refusal(engine, "abacus")
    assert status == abi.NO_BACKEND and "no backend 'abacus'" in message


def test_libraries_of_another_version_are_told(tmp_path: Path) -> None:
    engine = write_engine(tmp_path / "engine")
    old = stub(
        tmp_path,
        'static const void *api(unsigned v) { return 0; } static const char *version(void) { return "1.2.3"; }'
        "static const void *base[] = {api, version}; const void *OrtGetApiBase(void) { return base; }",
    )
    status, message = refusal(engine, "onnxruntime", old)
    assert status == abi.NO_BACKEND and "ONNX Runtime 1.2.3 is too old" in message
    other = stub(tmp_path, "int ov_get_openvino_version(void *version) { return 0; }")
    status, message = refusal(engine, "openvino", other)
    assert status == abi.NO_BACKEND and "it is not the library, or of a version, that signedge knows" in message


def test_the_environment_names_a_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNEDGE_ONNXRUNTIME_LIBRARY", "/nowhere/libonnxruntime.so")
    assert abi.backend_library("onnxruntime") is None
    with pytest.raises(BadInput, match=r"/nowhere/libonnxruntime\.so: cannot open"):
        Model(write_model(tmp_path / "model.onnx"))
    found = json.loads(capabilities())["backends"]["onnxruntime"]
    assert not found["available"] and "/nowhere/libonnxruntime.so" in found["reason"]


def test_capabilities_tell_the_version_found(openvino: None, monkeypatch: pytest.MonkeyPatch) -> None:
    library = os.environ.get("SIGNEDGE_OPENVINO_LIBRARY") or abi.backend_library("openvino")
    monkeypatch.setenv("SIGNEDGE_OPENVINO_LIBRARY", str(library))
    found = json.loads(capabilities())["backends"]["openvino"]
    assert found["available"] and found["version"].startswith("20")
