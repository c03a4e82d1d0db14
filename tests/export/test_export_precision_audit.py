"""The gate of eight bits: a scale that is wrong by 100 is found wherever it is, whether words change or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from export_stage import contract
from network_stage import Networks
from onnx import ModelProto, numpy_helper

import export.tailor as tailor
from distill.corpus.store import Corpus
from export.engine import build
from export.onnx_graph import ExportReport, metadata, read_model
from export.parity import plausible_clip
from export.precision import Made, make_precision
from export.precision.audit import LEAST, audit, require
from runtime.contract import METADATA_KEY, Contract
from runtime.errors import CriterionFailed


def damaged(model: ModelProto, index: int, factor: float) -> ModelProto:
    """A copy whose initializer `index`, a scale, is multiplied."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    tensor = copy.graph.initializer[index]
    value = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array((value * factor).astype(value.dtype), tensor.name))
    return copy


def scales(model: ModelProto) -> list[int]:
    """Places of the initializers that are scales; those of integers that are all 0 say nothing, whatever they are."""
    stored = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    names = {node.input[1] for node in nodes if np.any(stored.get(node.input[0], 1))}
    return [place for place, item in enumerate(model.graph.initializer) if item.name in names]


@pytest.mark.parametrize("flavour", ["u8s8", "s8s8"])
@pytest.mark.parametrize("name", ["lrinet", "stgt"])
def test_every_scale_of_a_real_network_is_watched(name: str, flavour: str, networks: Networks) -> None:
    model = read_model(networks(name).report.path)
    told = Contract.from_json(metadata(model)[METADATA_KEY])
    clips = [plausible_clip(told, frames, seed=frames) for frames in (40, 90)]
    made = make_precision(model, "int8", clips, flavour)
    sound = audit(model, made.model, clips)
    assert len(sound) >= 10 and min(item.decibel for item in sound) > LEAST + 8
    assert all(item.sound and item.levels > 100 for item in sound)
    assert {"activation", "weight"} <= {item.what for item in sound}
    found = scales(made.model)
    assert len(found) >= 10
    for place in found:
        for factor in (100.0, 0.01):
            kept = audit(model, damaged(made.model, place, factor), clips)
            assert not all(item.sound for item in kept), made.model.graph.initializer[place].name


def test_a_damaged_scale_leaves_no_engine(
    exported: ExportReport, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tried = tailor.make_precision, 0
    sound = real(read_model(exported.path), "int8", [plausible_clip(contract(), 40, 0)], "u8s8").model
    for place in range(len(scales(sound))):

        def broken(*arguments: object, place: int = place) -> Made:
            made = real(*arguments)  # type: ignore[arg-type]
            model = damaged(made.model, scales(made.model)[place], 100.0)
            return Made(model, model, made.plan, made.report)

        monkeypatch.setattr(tailor, "make_precision", broken)
        with pytest.raises(CriterionFailed, match="does not survive eight bits"):
            build(exported.path, "x86-cpu", "int8", corpus, tmp_path / "engine")
        tried += 1
    assert tried >= 3 and not list(tmp_path.iterdir())


def test_what_is_zero_has_nothing_to_lose_and_nan_has_all() -> None:
    from export.precision.audit import Kept

    require([Kept("a", "weight", np.inf)], "x")
    with pytest.raises(CriterionFailed, match="'b' does not survive"):
        require([Kept("a", "weight", 40.0), Kept("b", "activation", float("nan"))], "x")
