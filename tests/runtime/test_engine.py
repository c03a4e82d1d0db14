"""Engines: opened only when whole and unchanged, run with a stated number of threads."""

from __future__ import annotations

import ast
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtime import abi
from runtime.binding import Model
from runtime.contract import BLANK, METADATA_KEY, Contract, RgbInput
from runtime.engine import ENGINE_FILE, MANIFEST, Engine, available_threads, open_session, read_manifest, verify_opened
from runtime.errors import BadInput
from runtime.hashing import sha256_file
from runtime.trust import sign

SIZE = 4


@pytest.fixture(params=["libsignedge", "onnxruntime"], autouse=True)
def through(request: pytest.FixtureRequest, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test with the library that ships, and with what reads where it was not built."""
    built = library if request.param == "libsignedge" else tmp_path / "no-libsignedge.so"
    monkeypatch.setenv(abi.LIBRARY_VARIABLE, str(built))
    return str(request.param)


CONTRACT = Contract("primary", RgbInput(SIZE, SIZE), (BLANK, "RED", "GREEN", "BLUE"), 25.0)


def write_model(path: Path, contract: Contract | None = CONTRACT, source: str = "input", classes: int = 4) -> Path:
    """A graph that reads the primary colours: mean over pixels, maximum of 4 frames, a linear layer."""
    shape = numpy_helper.from_array(np.array([0, -1, 4, 3]), "shape")
    weight = np.zeros((3, classes), np.float32)
    weight[[0, 1, 2], [1, 2, 3]] = 10
    constants = [
        shape,
        numpy_helper.from_array(np.array([3, 4]), "pixels"),
        numpy_helper.from_array(np.array([2]), "four"),
        numpy_helper.from_array(weight, "weight"),
        numpy_helper.from_array(np.array([5] + [0] * (classes - 1), np.float32), "bias"),
    ]
    nodes = [
        helper.make_node("ReduceMean", [source, "pixels"], ["mean"], keepdims=0),
        helper.make_node("Reshape", ["mean", "shape"], ["grouped"]),
        helper.make_node("ReduceMax", ["grouped", "four"], ["steps"], keepdims=0),
        helper.make_node("MatMul", ["steps", "weight"], ["scores"]),
        helper.make_node("Add", ["scores", "bias"], ["logits"]),
        helper.make_node("LogSoftmax", ["logits"], ["log_probs"]),
    ]
    graph = helper.make_graph(
        nodes, "primary",
        [helper.make_tensor_value_info(source, TensorProto.FLOAT, ["batch", "frames", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("log_probs", TensorProto.FLOAT, ["batch", "steps", classes])],
        constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if contract is not None:
        model.metadata_props.append(onnx.StringStringEntryProto(key=METADATA_KEY, value=contract.to_json()))
    path.write_bytes(model.SerializeToString())
    return path


def write_engine(folder: Path, **changes: Any) -> Path:
    """An engine folder; `changes` go into its manifest."""
    folder.mkdir()
    write_model(folder / ENGINE_FILE)
    made = sha256_file(folder / ENGINE_FILE)
    manifest = {
        "format": 1, "runtime": "onnxruntime", "precision": "fp32", "target": "x86-cpu",
        "files": {ENGINE_FILE: made}, "chain": {"onnx": made, "engine": made}, "versions": {"onnx": "1.0"},
    }  # fmt: skip
    (folder / MANIFEST).write_text(json.dumps({**manifest, **changes}))
    return folder


def test_a_bundle_is_told_from_an_engine(tmp_path: Path) -> None:
    bundle = write_engine(tmp_path / "bundle", kind="bundle", runtime=None)
    for opens in (Engine.open, read_manifest):
        with pytest.raises(BadInput, match=r"is a bundle, not yet an engine; .* with: sh bundle/build.sh"):
            opens(bundle)


def test_a_manifest_changed_after_it_was_signed_is_told_from_one_that_is_not_ones_own(tmp_path: Path) -> None:
    folder = write_engine(tmp_path / "engine")
    manifest = read_manifest(folder)
    told = {"own": sign(manifest), "unsigned": manifest, "changed": {**sign(manifest), "precision": "int8"}}
    for name, text in told.items():
        (folder / MANIFEST).write_text(json.dumps(text))
        engine = Engine.open(folder, threads=1)
        assert (engine.signed.own, engine.signed.changed) == (name == "own", name == "changed")
        assert verify_opened(folder, engine.contract) == engine.signed


def clip(*labels: int) -> np.ndarray:
    """(T,8,8,3) uint8: four frames a label, 0 for darkness."""
    colours = np.concatenate([np.zeros((1, 3)), 255 * np.eye(3)])[list(labels)].repeat(4, axis=0)
    return (colours[:, None, None, :] * np.ones((1, 8, 8, 1))).astype(np.uint8)


def test_engine_reads_a_clip(tmp_path: Path, through: str) -> None:
    engine = Engine.open(write_engine(tmp_path / "engine"), threads=1)
    assert engine.recognise(frames=clip(0, 1, 1, 0, 1, 2, 0, 3)) == ["RED", "RED", "GREEN", "BLUE"]
    assert engine.recognise(frames=clip(0)) == []
    assert engine.contract == CONTRACT and engine.manifest["target"] == "x86-cpu" and engine.threads == 1
    assert engine.through.startswith(through) and "onnxruntime 1." in engine.through


def test_log_probabilities_are_normalised_and_batched(tmp_path: Path) -> None:
    engine = Engine.from_onnx(write_model(tmp_path / "model.onnx"), threads=1)
    result = engine.log_probs(np.random.default_rng(0).normal(size=(3, 8, 3, SIZE, SIZE)))
    assert result.shape == (3, 2, 4) and result.dtype == np.float32
    np.testing.assert_allclose(np.exp(result).sum(-1), 1, rtol=1e-5)
    assert engine.manifest == {}


def test_threads_are_stated(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model.onnx")
    assert Engine.from_onnx(model).threads == available_threads() >= 1
    session = open_session(model, threads=1)
    options = session.get_session_options()
    assert options.intra_op_num_threads == 1 and options.inter_op_num_threads == 1
    with pytest.raises(BadInput, match="one thread at least"):
        Engine.from_onnx(model, threads=0)


def test_changed_file_is_refused(tmp_path: Path) -> None:
    folder = write_engine(tmp_path / "engine")
    with (folder / ENGINE_FILE).open("ab") as handle:
        handle.write(b"\0")
    with pytest.raises(BadInput, match=r"engine\.onnx is not the file that the manifest was written for"):
        Engine.open(folder)


def test_missing_file_is_named(tmp_path: Path) -> None:
    folder = write_engine(tmp_path / "engine")
    (folder / ENGINE_FILE).unlink()
    with pytest.raises(BadInput, match=r"incomplete: engine\.onnx is missing"):
        Engine.open(folder)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"format": 99}, "format 99"),
        ({"runtime": "tea leaves"}, "unknown runtime 'tea leaves'"),
        ({"runtime": ["onnxruntime"]}, "unknown runtime"),
        ({"runtime": "tensorrt"}, r"no hash of engine\.plan"),
        ({"files": ["engine.onnx"]}, "names no files"),
        ({"files": {}}, r"no hash of engine\.onnx"),
    ],
)
def test_manifest_of_another_kind_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        Engine.open(write_engine(tmp_path / "engine", **changes))


def test_manifest_may_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    outside = write_model(tmp_path / "outside.onnx")
    for name in ("../outside.onnx", str(outside)):
        files = {ENGINE_FILE: "0" * 64, name: sha256_file(outside)}
        folder = write_engine(tmp_path / f"engine{len(name)}", files=dict(reversed(files.items())))
        with pytest.raises(BadInput, match="outside its folder"):
            read_manifest(folder)
    folder = write_engine(tmp_path / "linked")
    (folder / ENGINE_FILE).unlink()
    (folder / ENGINE_FILE).symlink_to(outside)
    with pytest.raises(BadInput, match="outside its folder"):
        read_manifest(folder)


def test_missing_and_corrupt_manifests_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"not an engine folder: it has no manifest\.json"):
        Engine.open(tmp_path)
    folder = write_engine(tmp_path / "engine")
    for text in ("{", "[]", "\x00"):
        (folder / MANIFEST).write_text(text)
        with pytest.raises(BadInput, match=r"manifest\.json"):
            Engine.open(folder)
    (folder / MANIFEST).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="cannot read"):
        Engine.open(folder)


@pytest.mark.parametrize("text", ["[" * 200_000, '{"files": ' * 200_000], ids=["lists", "objects"])
def test_manifests_of_endless_depth_are_refused(tmp_path: Path, through: str, text: str) -> None:
    folder = write_engine(tmp_path / "engine")
    (folder / MANIFEST).write_text(text)
    for reader in (Engine.open, read_manifest, Model)[: 3 if through == "libsignedge" else 2]:
        with pytest.raises(BadInput, match=r"manifest\.json|nested"):
            reader(folder)


def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path: Path, through: str) -> None:
    for name in (MANIFEST, ENGINE_FILE):
        folder = write_engine(tmp_path / f"{name} is a pipe")
        (folder / name).unlink()
        os.mkfifo(folder / name)
        for reader in (Engine.open, read_manifest, Model)[: 3 if through == "libsignedge" else 2]:
            with pytest.raises(BadInput, match=f"{re.escape(name)} is"):
                reader(folder)


def test_names_that_are_too_long_are_refused(tmp_path: Path) -> None:
    name = "a" * 5000
    files = {name: "0" * 64, ENGINE_FILE: "0" * 64}
    with pytest.raises(BadInput, match=r"cannot read 'a.*long"):
        Engine.open(write_engine(tmp_path / "engine", files=files))
    for reader in (Engine.open, Engine.from_onnx):
        with pytest.raises(BadInput, match="long"):
            reader(tmp_path / name)


def test_metadata_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model.onnx")
    model.write_bytes(model.read_bytes().replace(b'"GREEN"', b'"GR\xffEN"'))
    with pytest.raises(BadInput, match="UTF-8"):
        Engine.from_onnx(model)


def test_models_that_are_none_or_have_no_contract_are_refused(tmp_path: Path) -> None:
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    with pytest.raises(BadInput, match=r"junk\.onnx.* is not an ONNX"):
        Engine.from_onnx(tmp_path / "junk.onnx")
    with pytest.raises(BadInput, match="missing file"):
        Engine.from_onnx(tmp_path / "nowhere.onnx")
    with pytest.raises(BadInput, match="has no contract"):
        Engine.from_onnx(write_model(tmp_path / "bare.onnx", contract=None))
    with pytest.raises(BadInput, match=r"must have one input, 'input'; it has.* pictures"):
        Engine.from_onnx(write_model(tmp_path / "named.onnx", source="pictures"))
    with pytest.raises(BadInput, match="gives 6 classes; its contract names 4"):
        Engine.from_onnx(write_model(tmp_path / "wide.onnx", classes=6))


def test_input_of_the_wrong_kind_is_told(tmp_path: Path) -> None:
    engine = Engine.from_onnx(write_model(tmp_path / "model.onnx"), 1)
    with pytest.raises(BadInput, match=r"cannot run an input of shape \(1, 8, 2, 4, 4\)"):
        engine.log_probs(np.zeros((1, 8, 2, 4, 4), np.float32))
    with pytest.raises(BadInput, match="reads frames; this clip has none"):
        engine.recognise(keypoints=np.zeros((8, 49, 3), np.float32))


def test_unoptimised_session_computes_the_same(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model.onnx")
    x = np.random.default_rng(1).normal(size=(1, 16, 3, SIZE, SIZE)).astype(np.float32)
    plain, fast = (open_session(model, 1, optimise).run(None, {"input": x})[0] for optimise in (False, True))
    np.testing.assert_allclose(plain, fast, atol=1e-5)


@pytest.mark.parametrize("folder", ["runtime", "devices"])
def test_what_runs_on_a_device_is_valid_python_3_8_without_torch(folder: str) -> None:
    paths = list((Path(__file__).parents[2] / folder).rglob("*.py"))
    assert {"engine.py", "compat.py", "builders.py"} <= {path.name for path in paths} or folder == "devices"
    for path in paths:
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=(3, 8))
        names = [item.name for node in ast.walk(tree) if isinstance(node, ast.Import) for item in node.names]
        names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        assert not {name.split(".")[0] for name in names} & {"torch", "onnx", "distill", "export", "bench"}, path
