"""Engines: the chain in the manifest, the gate, and that nothing is left of what was refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from export_stage import contract, network, write_corpus
from onnx import numpy_helper

import export.engine as engines
import export.tailor as tailor
import signedge
from devices import profile as profiles
from distill.corpus.store import Corpus
from export.engine import build
from export.gate import GateResult, doubts, judge
from export.onnx_graph import PARITY_KEY, ExportReport, read_model
from export.precision import Int8Plan, Made, write
from export.tailor import Lowering
from runtime.contract import METADATA_KEY
from runtime.device.judging import require
from runtime.engine import Engine
from runtime.errors import BadInput, CriterionFailed, Refused
from runtime.hashing import sha256_file


def test_int8_engine_passes_its_gate_and_chains_its_sources(
    exported: ExportReport, corpus: Corpus, tmp_path: Path
) -> None:
    manifest = build(exported.path, "x86-cpu", "int8", corpus, tmp_path / "engine", plan=Int8Plan(clips=8))
    assert json.loads((tmp_path / "engine" / "manifest.json").read_text()) == manifest
    files = ["engine.onnx", "manifest.json", "precision.md"]
    assert sorted(item.name for item in (tmp_path / "engine").iterdir()) == files
    page = (tmp_path / "engine" / "precision.md").read_text()
    for item in manifest["decisions"]:
        assert f"| {item['node']} | {item['op']} | {item['precision']} | {item['why']} |" in page
    assert "Ranges were taken on 8 clips of the train split" in page
    gate = manifest["gate"]
    assert gate["passed"] and gate["clips"] == 8 and gate["baseline_wer"] == 0 and gate["rise"] <= 0.5
    chain = manifest["chain"]
    assert chain["checkpoint"] == "c" * 64 and chain["recipe"] == "r" * 64
    assert chain["onnx"] == sha256_file(exported.path)
    assert chain["engine"] == manifest["files"]["engine.onnx"] == sha256_file(tmp_path / "engine" / "engine.onnx")
    assert chain["gate_corpus"] == corpus.fingerprint()
    drawn = manifest["calibration"]
    assert len(drawn["clips"]) == 8 and all(item.startswith("train") for item in drawn["clips"])
    assert {"int8", "fp32"} == {item["precision"] for item in manifest["decisions"]}


def test_int8_engine_reads_clips(exported: ExportReport, corpus: Corpus, tmp_path: Path) -> None:
    build(exported.path, "x86-cpu", "int8", corpus, tmp_path / "engine")
    engine = Engine.open(tmp_path / "engine", 1)
    for row in corpus.split("test"):
        assert engine.recognise(frames=corpus.load(row).frames) == row.glosses


def test_the_same_build_twice_gives_the_same_bytes(exported: ExportReport, corpus: Corpus, tmp_path: Path) -> None:
    for name in ("one", "two"):
        build(exported.path, "x86-cpu", "int8", corpus, tmp_path / name)
    for file in ("engine.onnx", "manifest.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_fp32_engine_is_the_exported_graph(exported: ExportReport, corpus: Corpus, tmp_path: Path) -> None:
    manifest = build(exported.path, "x86-cpu", "fp32", None, tmp_path / "bare")
    assert manifest["gate"] is None and manifest["chain"]["engine"] == manifest["chain"]["onnx"]
    gated = build(exported.path, "x86-cpu", "fp32", corpus, tmp_path / "gated")["gate"]
    assert gated["wer"] == gated["baseline_wer"] == 0 and gated["rise"] == 0


@pytest.mark.parametrize("factor", [1000.0, 0.01])  # all rounds to zero; all is clipped
def test_damaged_scale_is_caught_by_its_words_and_leaves_nothing(
    exported: ExportReport, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    def damaged(model: Any, precision: str, clips: Any, flavour: str, options: Int8Plan, rest: str) -> Made:
        made = real(model, precision, clips, flavour, options, rest)
        name, (low, high) = next(iter(made.plan.ranges.items()))
        ranges = {**made.plan.ranges, name: (low * factor, high * factor)}
        plan = dataclasses.replace(made.plan, ranges=ranges)
        written = write(model, plan, "u8s8")
        return Made(written, written, plan, made.report)

    real = tailor.make_precision
    monkeypatch.setattr(tailor, "make_precision", damaged)
    monkeypatch.setattr(tailor, "audited", lambda *arguments: None)  # it would be the first to object
    words = r"failed the WER gate: .* rise \+\d+\.\d\d points .* 0\.50 allowed"
    with pytest.raises(CriterionFailed, match=words):
        build(exported.path, "x86-cpu", "int8", corpus, tmp_path / "engine")
    assert not list(tmp_path.iterdir())


def test_gate_counts_its_budget_exactly() -> None:
    result = GateResult(10, 100, 10.5, 10.0, 0.5, 0.0, 1.0, 1, 0.5)
    require(result, "engine")
    with pytest.raises(CriterionFailed, match=r"rise \+0\.51 points"):
        require(dataclasses.replace(result, rise=0.51), "engine")


@pytest.mark.parametrize("target", ["x86-cpu", "x86-cpu@openvino"])
def test_fp32_is_judged_against_the_exported_graph_and_not_itself(
    exported: ExportReport, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    """A lowering, or a runtime, that spoils the graph must not be its own measure."""
    pytest.importorskip("openvino")

    def spoilt(*given: Any) -> Lowering:
        graph = read_model(exported.path)
        weight = next(item for item in graph.graph.initializer if len(item.dims) == 4)
        weight.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weight), weight.name))
        return Lowering(graph, {})

    monkeypatch.setattr(engines, "lowered", spoilt)
    with pytest.raises(CriterionFailed, match=r"fp32 for \S+ failed the WER gate: .* fp32 0\.00 %"):
        build(exported.path, target, "fp32", corpus, tmp_path / "engine")
    assert not (tmp_path / "engine").exists()


def test_without_a_corpus_only_what_was_shown_to_be_equal_is_an_engine(exported: ExportReport, tmp_path: Path) -> None:
    manifest = build(exported.path, "x86-cpu", "fp32", None, tmp_path / "engine")
    assert manifest["gate"] is None and "no WER gate" in manifest["warnings"][-1]
    pytest.importorskip("openvino")
    with pytest.raises(BadInput, match="an engine of openvino needs --corpus, in fp32, too"):
        build(exported.path, "x86-cpu@openvino", "fp32", None, tmp_path / "other")


def test_gate_says_when_it_proves_little() -> None:
    clips, wer = doubts(12, 79.0)
    assert "12 clips" in clips and "79 %" in wer
    assert not doubts(150, 12.0)


def test_gate_needs_a_development_split_and_the_same_glosses(exported: ExportReport, tmp_path: Path) -> None:
    undeveloped = Corpus(write_corpus(tmp_path / "undeveloped", {"train": 3}))
    foreign = Corpus(write_corpus(tmp_path / "foreign", {"train": 3, "dev": 2}, ("BLUE", "GREEN", "MAUVE", "RED")))
    engine = Engine.from_onnx(exported.path, 1)
    with pytest.raises(BadInput, match="no clips in split 'dev'"):
        judge(engine, engine, undeveloped, 0.5)
    for precision in ("fp32", "int8"):
        with pytest.raises(BadInput, match="such as 'MAUVE'"):
            build(exported.path, "x86-cpu", precision, foreign, tmp_path / "engine")
        with pytest.raises(BadInput, match="no clips in split 'dev'"):
            build(exported.path, "x86-cpu", precision, undeveloped, tmp_path / "engine")
    assert not (tmp_path / "engine").exists()


def test_a_clip_with_an_unknown_gloss_is_named(exported: ExportReport, tmp_path: Path) -> None:
    corpus = Corpus(write_corpus(tmp_path / "corpus", {"train": 3, "dev": 2}))
    corpus.rows[0].glosses[0] = "MAUVE"
    with pytest.raises(BadInput, match=r"clips\.jsonl:1: clip '\w+': gloss 'MAUVE' is not in the table"):
        build(exported.path, "x86-cpu", "int8", corpus, tmp_path / "engine")
    assert not (tmp_path / "engine").exists()


def test_other_corpus_than_in_training_is_warned_of(corpus: Corpus, exported: ExportReport, tmp_path: Path) -> None:
    model = read_model(exported.path)
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            entry.value = contract(sources={"corpus": "0" * 64}).to_json()
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    manifest = build(tmp_path / "model.onnx", "x86-cpu", "fp32", corpus, tmp_path / "engine")
    assert "not the one that the model was trained on" in manifest["warnings"][0]


def _without(path: str, key: str, value: str | None, out: Path) -> Path:
    """A copy of the model with one metadata entry removed or changed."""
    model = read_model(path)
    kept = [entry for entry in model.metadata_props if entry.key != key]
    if value is not None:
        kept.append(onnx.StringStringEntryProto(key=key, value=value))
    entries = [onnx.StringStringEntryProto.FromString(entry.SerializeToString()) for entry in kept]
    del model.metadata_props[:]
    model.metadata_props.extend(entries)
    out.write_bytes(model.SerializeToString())
    return out


def test_models_without_contract_or_proof_are_refused(exported: ExportReport, tmp_path: Path) -> None:
    worse = json.dumps({"lengths": [{"frames": f, "difference": 0.5} for f in (1, 2, 3)]})
    cases = [
        (METADATA_KEY, None, "no contract"),
        (METADATA_KEY, "{", "not JSON"),
        (PARITY_KEY, None, "no parity"),
        (PARITY_KEY, worse, "does not equal its checkpoint"),
    ]
    for key, value, words in cases:
        model = _without(exported.path, key, value, tmp_path / "model.onnx")
        with pytest.raises(BadInput, match=words):
            build(model, "x86-cpu", "fp32", None, tmp_path / "engine")
    (tmp_path / "model.onnx").write_bytes(Path(exported.path).read_bytes()[:200])
    with pytest.raises(BadInput, match=r"model\.onnx is not an ONNX file"):
        build(tmp_path / "model.onnx", "x86-cpu", "fp32", None, tmp_path / "engine")
    assert not (tmp_path / "engine").exists()


@pytest.mark.parametrize(
    "target, precision, error, words",
    [
        ("toaster", "fp32", BadInput, "no target 'toaster'; known targets: jetson, x86-cpu"),
        ("x86-cpu", "int3", BadInput, "^no precision 'int3'; there are: fp32, fp16, int8, auto$"),
        ("x86-cpu", "fp16", Refused, "does not compute in fp16.*would fit: int8"),
        ("jetson-nano", "int8", Refused, "does not compute in int8.*would fit: "),
        ("jetson-orin-nano-8gb", "fp32", Refused, "passes its WER gate on the machine that it is for"),
    ],
)
def test_targets_and_precisions_that_cannot_be_built(
    exported: ExportReport, corpus: Corpus, tmp_path: Path, target: str, precision: str, error: type[Exception],
    words: str,
) -> None:  # fmt: skip
    with pytest.raises(error, match=words):
        build(exported.path, target, precision, corpus, tmp_path / "engine")
    assert not list(tmp_path.iterdir())


def test_int8_without_corpus_and_senseless_budget(exported: ExportReport, corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="int8 needs --corpus"):
        build(exported.path, "x86-cpu", "int8", None, tmp_path / "engine")
    with pytest.raises(BadInput, match="makes no sense"):
        build(exported.path, "x86-cpu", "int8", corpus, tmp_path / "engine", max_wer_rise=float("nan"))


def test_cpu_without_vnni_gets_seven_bits_and_a_warning(
    exported: ExportReport, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = dataclasses.replace(profiles.detect(), machine="x86_64", flags=("avx2",))
    monkeypatch.setattr(profiles, "detect", lambda root: plain)
    manifest = build(exported.path, "x86-cpu", "int8", corpus, tmp_path / "engine")
    assert manifest["plan"]["weight_bits"] == 7 and "without VNNI" in manifest["warnings"][0]


def test_existing_engine_is_not_overwritten(exported: ExportReport, tmp_path: Path) -> None:
    build(exported.path, "x86-cpu", "fp32", None, tmp_path / "engine")
    with pytest.raises(BadInput, match="already exists"):
        build(exported.path, "x86-cpu", "fp32", None, tmp_path / "engine")


def test_full_disk_leaves_nothing(exported: ExportReport, corpus: Corpus, tiny_disk: Path) -> None:
    for precision in ("fp32", "int8"):
        with pytest.raises(BadInput, match="No space left"):
            build(exported.path, "x86-cpu", precision, corpus, tiny_disk / "engine")
        assert [item.name for item in tiny_disk.iterdir()] == ["ballast"]


def test_command_builds_reports_and_fails_in_one_line(
    exported: ExportReport, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["engine", str(exported.path), "--corpus", str(corpus.folder)]
    assert signedge.main([*base, "--precision", "int8", "--out", str(tmp_path / "engine")]) == 0
    assert "WER gate passed: 0.00 %" in capsys.readouterr().out
    assert signedge.main([*base, "--precision", "fp32", "--out", str(tmp_path / "fp32")]) == 0
    assert "WER 0.00 % on 8 dev clips" in capsys.readouterr().out
    assert signedge.main([*base, "--out", str(tmp_path / "again"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["precision"] == "int8"
    assert signedge.main([*base, "--target", "jetson-nano", "--out", str(tmp_path / "jetson")]) == 3
    assert signedge.main(["engine", str(tmp_path / "no.onnx"), *base[2:], "--out", str(tmp_path / "n")]) == 2
    assert signedge.main([*base, "--calibration-method", "magic", "--out", str(tmp_path / "n")]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3 and all(line.startswith("signedge engine: ") for line in errors)


def test_export_command_turns_a_run_into_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    from distill.models import build as build_network
    from distill.models import resolve
    from distill.recipe import load_recipe

    run, source = tmp_path / "run", contract(padding=contract().padding)
    run.mkdir()
    recipe = load_recipe("demo/lrinet", ["input.size=8"])
    model = build_network(recipe.model, len(source.glosses), source.input)
    stored = {"model": resolve(recipe.model), "classes": len(source.glosses), "state_dict": model.state_dict()}
    torch.save(stored, run / "weights.pt")
    checkpoint = sha256_file(run / "weights.pt")
    (run / "recipe.yaml").write_text(recipe.text())
    (run / "contract.json").write_text(source.to_json())
    (run / "metrics.jsonl").write_text("")
    (run / "run.json").write_text(json.dumps({"name": "lrinet", "status": "complete", "checkpoint": checkpoint}))
    assert yaml.safe_load((run / "recipe.yaml").read_text())["name"] == "lrinet"

    assert signedge.main(["export", str(run), "--out", str(tmp_path / "model.onnx")]) == 0
    shown = capsys.readouterr()
    assert "left out, for training only: auxiliary" in shown.out and "parity with the checkpoint" in shown.out
    assert shown.err == ""
    x = np.zeros((1, 8, 3, 8, 8), np.float32)
    with torch.no_grad():
        wanted = model.inference()(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(Engine.from_onnx(tmp_path / "model.onnx", 1).log_probs(x), wanted, atol=1e-4)

    (run / "weights.pt").write_bytes(b"broken")
    assert signedge.main(["export", str(run), "--out", str(tmp_path / "other.onnx")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1 and not (tmp_path / "other.onnx").exists()


def test_the_network_of_these_tests_really_reads(corpus: Corpus) -> None:
    assert network().training is False and len(corpus.split("dev")) == 8
