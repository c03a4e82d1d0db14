"""Whose engine it is: signatures by the user's key, the chain of hashes, code that is refused before it is loaded."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from test_engine import CONTRACT, write_engine

from runtime import cli, trust
from runtime.binding import LibraryError, Model
from runtime.contract import Contract
from runtime.engine import CONTRACT_FILE, ENGINE_FILE, MANIFEST, PLAN_FILE, Engine, admit, read_manifest
from runtime.errors import BadInput, Refused
from runtime.hashing import sha256_bytes

ROOT = Path(__file__).parents[2]
MANIFEST_OF_A_PLAN = {"runtime": "tensorrt", "files": {PLAN_FILE: "a" * 64}, "ranges": {"x": [0.1, 3e-7]}, "gate": None}


@pytest.fixture(autouse=True)
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of this test's own."""
    monkeypatch.delenv(trust.KEY_VARIABLE, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return trust.key_path()


def write_plan(folder: Path, contract: Contract = CONTRACT, plan: bytes = b"not a plan", **changes: Any) -> Path:
    """An engine folder for TensorRT, unsigned, whose plan is none: whoever loads it fails, but does not refuse."""
    folder.mkdir()
    (folder / PLAN_FILE).write_bytes(plan)
    (folder / CONTRACT_FILE).write_text(contract.to_json())
    files = {name: sha256_bytes((folder / name).read_bytes()) for name in (PLAN_FILE, CONTRACT_FILE)}
    manifest = {
        "format": 1, "runtime": "tensorrt-rtx", "target": "rtx-4090", "files": files,
        "chain": {"onnx": "0" * 64, "engine": files[PLAN_FILE]}, "versions": {"tensorrt_rtx": "1.7"},
    }  # fmt: skip
    (folder / MANIFEST).write_text(json.dumps({**manifest, **changes}))
    return folder


def rewrite(folder: Path, manifest: dict[str, Any]) -> Path:
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return folder


def test_what_was_signed_is_known_again_from_its_file(key: Path) -> None:
    signed = trust.sign(MANIFEST_OF_A_PLAN)
    assert {name: signed[name] for name in MANIFEST_OF_A_PLAN} == MANIFEST_OF_A_PLAN and len(signed) == 5
    assert trust.verify(signed).own
    assert trust.verify(json.loads(json.dumps(signed, indent=2))).own
    assert trust.verify(dict(reversed(signed.items()))).own  # order says nothing
    assert trust.sign(signed) == signed
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 and stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert [item.name for item in key.parent.iterdir()] == ["key"]
    assert key.read_text().strip() not in json.dumps(signed)


@pytest.mark.parametrize(
    "change",
    [{"runtime": "tensorrt-rtx"}, {"files": {}}, {"more": 1}, {"gate": False}, {"more": float("nan")}],
    ids=str,
)
def test_a_manifest_changed_after_it_was_signed_is_not_own(change: dict[str, Any]) -> None:
    found = trust.verify({**trust.sign(MANIFEST_OF_A_PLAN), **change})
    assert not found.own and "changed after it was signed" in found.why


@pytest.mark.parametrize(
    "signature", [1, [], {}, {"algorithm": "none", "key": "", "value": ""}, {"algorithm": "HMAC-SHA256"}]
)
def test_signatures_of_another_kind_are_not_own(signature: Any) -> None:
    found = trust.verify({**MANIFEST_OF_A_PLAN, "signature": signature})
    assert not found.own and "not read here" in found.why


def test_signatures_by_another_key_are_not_own(key: Path) -> None:
    signed = trust.sign(MANIFEST_OF_A_PLAN)
    key.unlink()
    found = trust.verify(signed)
    assert not found.own and "no key yet" in found.why and not key.exists()  # looking makes no key
    trust.sign({})
    found = trust.verify(signed)
    assert not found.own and "signed with another key" in found.why
    forged = {**signed, "signature": {**trust.sign({})["signature"], "value": "Ö" * 64}}
    assert "changed after" in trust.verify(forged).why


def test_a_team_shares_a_key(tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = tmp_path / "team" / "key"
    monkeypatch.setenv(trust.KEY_VARIABLE, str(shared))
    signed = trust.sign(MANIFEST_OF_A_PLAN)
    shared.chmod(0o640)
    assert trust.verify(signed).own and not key.exists()


@pytest.mark.parametrize("mode", [0o644, 0o620, 0o602])
def test_a_key_that_is_open_to_others_proves_nothing(key: Path, mode: int) -> None:
    signed = trust.sign(MANIFEST_OF_A_PLAN)
    key.chmod(mode)
    assert "chmod 600" in trust.verify(signed).why and not trust.verify(signed).own
    again = trust.sign({**MANIFEST_OF_A_PLAN, "warnings": ["first"]})
    assert "signature" not in again and again["warnings"][0] == "first" and "chmod 600" in again["warnings"][1]


def test_damaged_keys_are_told(key: Path) -> None:
    key.parent.mkdir(parents=True)
    for text, words in (("", "damaged"), ("short", "damaged"), ("x" * 5000, "damaged")):
        key.write_text(text)
        key.chmod(0o600)
        assert words in trust.sign({})["warnings"][0]
    key.unlink()
    os.mkfifo(key, 0o600)
    assert "not a file" in trust.sign({})["warnings"][0]  # and nobody waits for a writer
    key.unlink()
    key.mkdir()
    assert "not a file" in trust.sign({})["warnings"][0]


def test_without_a_home_an_engine_is_built_unsigned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))  # nothing can be made below a file, not even by root
    unsigned = trust.sign(MANIFEST_OF_A_PLAN)
    assert "signature" not in unsigned and trust.KEY_VARIABLE in unsigned["warnings"][0]
    assert trust.verify(unsigned) == trust.Trust(False, "its manifest is not signed")


def test_processes_that_start_together_make_one_key(key: Path, tmp_path: Path) -> None:
    code = "import json; from runtime import trust; print(json.dumps(trust.sign({'a': 1})))"
    started = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    signed = [process.communicate()[0] for process in started]
    assert len(set(signed)) == 1 and [item.name for item in key.parent.iterdir()] == ["key"]


def test_a_strangers_plan_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    folder = write_plan(tmp_path / "engine")
    with pytest.raises(Refused, match=r"code, which would run with your rights.*not signed.*--trust"):
        Engine.open(folder)


def test_a_foreign_plan_is_refused_before_it_is_read_even_if_it_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = pytest.importorskip("tensorrt_rtx")
    from runtime.trt import run

    monkeypatch.setattr(run, "Runner", None)  # nothing comes so far
    version = str(module.__version__)
    facts = {
        "module": "tensorrt_rtx", "version": version, "os": platform.system().lower(), "machine": platform.machine(),
        "gpu": "", "compute_capability": "", "sms": "", "version_compatible": False, "hardware_compatible": "",
        "compute_capabilities": ["1.0"], "dla_core": None,
    }  # fmt: skip
    plan = b"vtrt" + bytes(20) + bytes(int(part) for part in version.split(".")[:4])
    folder = write_plan(tmp_path / "engine", plan=plan, plan_facts=facts)
    for manifest in (read_manifest(folder), trust.sign(read_manifest(folder))):
        rewrite(folder, manifest)
        with pytest.raises(Refused, match=r"does not run here: (there is no NVIDIA|it is for compute)"):
            Engine.open(folder, trust=True)
    for lacking in ({}, None, 3, {"module": "tensorrt_rtx"}, {**facts, "version": "0.0.1"}):
        rewrite(folder, {**read_manifest(folder), "plan_facts": lacking})
        with pytest.raises(BadInput, match=r"does not say for which GPU|its manifest says"):
            Engine.open(folder, trust=True)


def test_a_plan_of_ones_own_needs_no_word_of_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = pytest.importorskip("tensorrt_rtx")
    from runtime.trt import cuda, run

    asked: list[Any] = []
    monkeypatch.setattr(cuda, "gpu", lambda: cuda.Gpu("Stand-in", "8.9", 8, "13.0"))
    monkeypatch.setattr(run, "Runner", lambda *given: asked.append(given))
    facts = {
        "module": "tensorrt_rtx", "version": str(module.__version__), "os": platform.system().lower(),
        "machine": platform.machine().lower(), "gpu": "", "compute_capability": "", "sms": "",
        "version_compatible": False, "hardware_compatible": "", "compute_capabilities": ["8.9"], "dla_core": 1,
    }  # fmt: skip
    plan = b"vtrt" + bytes(20) + bytes(int(part) for part in module.__version__.split(".")[:4])
    folder = write_plan(tmp_path / "engine", plan=plan, plan_facts=facts)
    with pytest.raises(Refused, match="not signed"):
        Engine.open(folder)
    rewrite(folder, trust.sign(read_manifest(folder)))
    assert Engine.open(folder).signed.own
    assert asked == [(plan, module, False, 1)]  # the core and the host's code are the manifest's to say
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / PLAN_FILE).write_bytes(b"another plan")
    with pytest.raises(BadInput, match="its hash differs"):
        Engine.open(folder)
    manifest["files"][PLAN_FILE] = sha256_bytes(b"another plan")
    rewrite(folder, manifest)
    with pytest.raises(Refused, match="changed after it was signed"):
        Engine.open(folder)


def test_a_manifest_says_each_thing_once(tmp_path: Path) -> None:
    folder = write_plan(tmp_path / "engine")
    text = json.dumps(trust.sign(read_manifest(folder)))
    (folder / MANIFEST).write_text('{"files": {"engine.plan": "%s"}, ' % ("0" * 64) + text[1:])
    with pytest.raises(BadInput, match="'files' is named twice"):
        Engine.open(folder)


def test_an_onnx_engine_is_data_and_its_signature_is_told(tmp_path: Path) -> None:
    folder = write_engine(tmp_path / "engine")
    engine = Engine.open(folder, 1)
    assert not engine.signed.own and "not signed" in engine.signed.why
    rewrite(folder, trust.sign(read_manifest(folder)))
    assert Engine.open(folder, 1).signed.own
    assert not Engine.from_onnx(folder / ENGINE_FILE, 1).signed.own


@pytest.mark.parametrize("bare", [False, True])
def test_data_handed_to_a_runtime_of_code_is_code(tmp_path: Path, bare: bool) -> None:
    folder = write_engine(tmp_path / "engine")
    given = folder / ENGINE_FILE if bare else folder
    assert not admit(given, "openvino").signed.own
    for opens in (admit, lambda path, backend: Model(path, backend=backend)):
        with pytest.raises(Refused, match="--trust"):
            opens(given, "tensorrt")
    assert not admit(given, "tensorrt", trust=True).signed.own


def test_the_binding_refuses_what_engines_refuse(tmp_path: Path, library_in_use: None) -> None:
    folder = write_plan(tmp_path / "engine", runtime="tensorrt")
    with pytest.raises(Refused, match=r"code, which would run with your rights.*not signed"):
        Model(folder)
    with pytest.raises(BadInput, match="does not say for which GPU"):
        Model(folder, trust=True)
    rewrite(folder, {**read_manifest(folder), "chain": {}})
    with pytest.raises(BadInput, match="another engine than"):
        Model(folder, trust=True)
    with pytest.raises(LibraryError, match="protobuf parsing failed"):
        Model(folder, backend="onnxruntime")  # which reads it as data


def test_the_run_command_verifies_the_chain(tmp_path: Path, library_in_use: None) -> None:
    folder = write_engine(tmp_path / "engine", chain={"onnx": "0" * 64, "engine": "1" * 64})
    with pytest.raises(BadInput, match="another engine than"):
        typer.main.get_command(cli.app).main([str(folder), "video.mp4"], standalone_mode=False)


def test_the_run_command_refuses_a_strangers_plan(tmp_path: Path) -> None:
    folder = write_plan(tmp_path / "engine")
    command = typer.main.get_command(cli.app)
    with pytest.raises(Refused, match="--trust"):
        command.main([str(folder), "video.mp4"], standalone_mode=False)
    with pytest.raises(BadInput):
        command.main([str(folder), "video.mp4", "--trust"], standalone_mode=False)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"chain": None}, "no chain of hashes"),
        ({"chain": {"engine": 3}}, "no chain of hashes"),
        ({"chain": {"onnx": "0" * 64, "engine": "1" * 64}}, r"another engine than engine\.onnx"),
        ({"target": ""}, "which target"),
        ({"versions": {}}, "which versions"),
    ],
)
def test_broken_chains_are_told(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        Engine.open(write_engine(tmp_path / "engine", **changes), 1)


def test_the_chain_and_the_contract_name_the_same_sources(tmp_path: Path) -> None:
    folder = write_engine(tmp_path / "engine")
    manifest = read_manifest(folder)
    made = manifest["files"][ENGINE_FILE]
    rewrite(folder, {**manifest, "chain": {"engine": made, "onnx": made, "checkpoint": "e" * 64}})
    with pytest.raises(BadInput, match=r"from checkpoint eeeeeeeeeeee\.\.\., its contract from none"):
        Engine.open(folder, 1)
    rewrite(folder, {**manifest, "chain": {"engine": made}})
    with pytest.raises(BadInput, match="names no ONNX file"):
        Engine.open(folder, 1)
    contract = dataclasses.replace(CONTRACT, sources={"corpus": "c" * 64})
    plan = write_plan(tmp_path / "plan", contract)
    with pytest.raises(BadInput, match=r"from corpus none, its contract from cccccccccccc"):
        Engine.open(plan, trust=True)
