"""Rivals of an engine: the same network on the same clips, judged by paired ratios where the precision is fair."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bench_stage import write_corpus, write_engine, write_run

from bench import rivals
from bench.rivals import AGAIN, ENGINE, Rival, Row
from bench.systems import EngineSystem
from distill.corpus.store import Corpus
from distill.run import load_run
from export.backends.race import Ratio
from export.onnx_graph import export_onnx
from runtime.errors import BadInput, CriterionFailed

Stage = tuple[Path, Path, Corpus]


@pytest.fixture(scope="module", params=["stgt", "lrinet"])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """A run, the ONNX file that it was exported to, a corpus."""
    folder = tmp_path_factory.mktemp("rivals")
    write_run(folder / "run", "c", rgb=request.param == "lrinet")
    trained = load_run(folder / "run")
    export_onnx(trained.model.inference(), trained.contract, folder / "engine.onnx")
    return folder / "run", folder / "engine.onnx", write_corpus(folder / "corpus", clips=3)


def row(name: str, low: float, high: float, judged: bool = True, unclear: float = 0.01) -> Row:
    return Row(name, "by hand", "fp32", judged, 1.0, 0.5, Ratio((low + high) / 2, low, high, 10), 0.0, unclear)


def test_only_what_is_fair_and_faster_beyond_doubt_fails_the_engine() -> None:
    rows = [
        row("eager", 1.2, 1.4), row("ONNX Runtime", 0.98, 0.995), row("OpenVINO, default", 0.5, 0.6, judged=False),
        row("OpenVINO, f32", 0.8, 0.9),
    ]  # fmt: skip
    assert [item.verdict for item in rows] == ["engine faster", "a tie", "not judged", "engine SLOWER"]
    rivals.require(rows[:3])
    with pytest.raises(CriterionFailed, match=r"slower than OpenVINO, f32 \(0\.850\)$"):
        rivals.require(rows)


def test_a_run_that_tells_too_little_acquits_nobody() -> None:
    noisy = [row("eager", 1.2, 1.4, unclear=0.1), row("ONNX Runtime", 0.98, 1.01, unclear=0.1)]
    rivals.require(noisy)
    with pytest.raises(CriterionFailed, match=r"not decided: .* slower than OpenVINO, f32 \(0\.930\), .* by 10\.0%"):
        rivals.require([*noisy, row("OpenVINO, f32", 0.92, 0.94, unclear=0.1)])


def test_rivals_compute_what_the_engine_computes(stage: Stage) -> None:
    run, file, corpus = stage
    engine = EngineSystem(file, 1)
    found = [
        *rivals.pytorch_rivals(run, engine.hashes["checkpoint"], 1, compiled=False),
        rivals.onnxruntime_rival(file, "fp32", 1),
        *rivals.openvino_rivals(file, "fp32", 1),
    ]
    eager = [rival.name for rival in found if rival.name.startswith("PyTorch")]
    assert eager == ["PyTorch eager", "PyTorch eager, channels last"][: 2 if engine.contract.modality == "rgb" else 1]
    inputs = [engine.prepare(corpus.load(item)) for item in corpus.split("test")[:2]]
    rows = rivals.compare(engine, EngineSystem(file, 1), found, inputs, seconds=0)
    assert [item.name for item in rows] == [ENGINE, AGAIN, *(rival.name for rival in found)]
    control = rows[1]
    assert not control.judged and control.apart == 0 and "unclear" in control.verdict
    assert all(item.unclear == max(control.ratio.high - 1, 1 - control.ratio.low) for item in rows)
    assert rows[0].ratio.value == 1 and all(item.ratio.pairs == rows[0].ratio.pairs >= 10 for item in rows)
    for item in rows[2:]:
        assert item.judged == (item.precision == "fp32")
        assert item.apart < (1e-4 if item.judged else 1), item.name
        assert item.name in rivals.table(rows)


def test_an_int8_engine_is_judged_by_int8_and_by_full_precision(stage: Stage) -> None:
    _, file, corpus = stage
    engine = EngineSystem(file, 1)
    engine.precision = "int8"
    x = [engine.prepare(corpus.load(corpus.split("test")[0]))]
    found = [Rival(name, engine.log_probs, name, "") for name in ("int8", "fp32", "int8 with bf16")]
    rows = rivals.compare(engine, engine, found, x, seconds=0)
    assert [item.judged for item in rows] == [False, False, True, True, False]


def test_other_weights_are_no_rival(stage: Stage, tmp_path: Path) -> None:
    run, _, _ = stage
    with pytest.raises(BadInput, match="other weights than the engine"):
        rivals.pytorch_rivals(run, "f" * 64, 1)


def test_a_plan_has_no_rivals_on_a_cpu(stage: Stage, tmp_path: Path) -> None:
    run, file, _ = stage
    engine = EngineSystem(file, 1)
    engine.runtime = "tensorrt"
    with pytest.raises(BadInput, match="for tensorrt"):
        rivals.rivals_of(engine, file, run, 1)


def test_errors_end_with_their_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_corpus(tmp_path / "corpus")
    write_run(tmp_path / "run", "c")
    engine = write_engine(tmp_path / "engine", "f" * 64)
    status = rivals.main([str(engine), "--run", str(tmp_path / "run"), "--corpus", str(tmp_path / "corpus")])
    assert status == 2 and "other weights" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_measures_all_in_one_run(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, file, corpus = stage
    require: Callable[..., None] = lambda rows: None  # noqa: E731 (what so small a network's times say is nobody's matter)
    monkeypatch.setattr(rivals, "require", require)
    told = tmp_path / "rivals.json"
    arguments = [str(file), "--run", str(run), "--corpus", str(corpus.folder), "--clips", "2", "--seconds", "0"]
    assert rivals.main([*arguments, "--json", str(told)]) == 0
    record, printed = json.loads(told.read_text()), capsys.readouterr().out
    names = [item["name"] for item in record["rows"]]
    assert names[0] == ENGINE and "torch.compile" in names and all(name in printed for name in names)
    assert np.isfinite([item["ratio"]["value"] for item in record["rows"]]).all()
