"""Export: what is in the file, what is not, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from export_stage import ColourNet, contract, network
from network_stage import HANDS, INPUTS, KEYPOINTS, Networks
from onnx import TensorProto, helper, numpy_helper

from export import onnx_graph, parity
from export.onnx_graph import PARITY_KEY, ExportReport, ParameterCount, export_onnx
from runtime.contract import Padding
from runtime.engine import Engine
from runtime.errors import BadInput, CriterionFailed


def test_file_carries_the_contract_unchanged(exported: ExportReport) -> None:
    assert Engine.from_onnx(exported.path, 1).contract == contract()


def test_parity_is_shown_at_several_lengths_other_than_the_traced_one(exported: ExportReport) -> None:
    proof = json.loads(onnx_graph.metadata(onnx_graph.read_model(exported.path))[PARITY_KEY])
    lengths = {item["frames"] for item in proof["lengths"]}
    assert len(lengths) >= 3 and min(lengths) == 1 and proof["traced_frames"] not in lengths
    assert max(item["difference"] for item in proof["lengths"]) <= 1e-4


def test_any_length_and_number_of_clips_runs(exported: ExportReport) -> None:
    engine, module = Engine.from_onnx(exported.path, 1), network()
    for clips, frames in ((1, 4), (5, 36), (2, 300)):
        x = np.random.default_rng(frames).normal(size=(clips, frames, 3, 8, 8)).astype(np.float32)
        with torch.no_grad():
            wanted = module(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(engine.log_probs(x), wanted, atol=1e-4)


def test_file_tells_nothing_of_the_machine_and_is_the_same_twice(exported: ExportReport, tmp_path: Path) -> None:
    content = Path(exported.path).read_bytes()
    export_onnx(network(), contract(), tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == content
    assert str(Path(__file__).parent).encode() not in content and b".py" not in content


@pytest.mark.parametrize("name", INPUTS)
def test_every_network_exports_with_dynamic_time_and_batch(name: str, networks: Networks) -> None:
    made = networks(name)
    report = made.report
    assert report.dynamic_batch and report.opset <= 20
    assert report.parameters.consistent
    trained = sum(item.numel() for item in made.trained.parameters())
    assert sum(report.left_out.values()) == trained - report.parameters.module
    if name == "lrinet":
        assert report.left_out and all(item.startswith("auxiliary.") for item in report.left_out)


class Branching(ColourNet):
    """Decides by the data what it computes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if x.sum() > 0 else super().forward(-x)


class Drifting(ColourNet):
    """Computes something else under export than by itself."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + (0.01 if torch.onnx.is_in_onnx_export() else 0.0)


def test_network_that_cannot_be_traced_fails_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CriterionFailed, match="cannot be exported"):
        export_onnx(Branching(), contract(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_parity_failure_names_length_and_difference(tmp_path: Path) -> None:
    with pytest.raises(CriterionFailed, match=r"parity failed: at \d+ frames .* 0\.01"):
        export_onnx(Drifting(), contract(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_graph_that_cannot_run_a_length_or_counts_other_steps_fails(exported: ExportReport) -> None:
    agreed = contract(padding=Padding(0, 0, 3))  # 15 frames do not divide by 4

    def anything(x: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(x), x.shape[1] // 3, 4)

    with pytest.raises(CriterionFailed, match=r"cannot run 1 clip\(s\) of 1 frames"):
        parity.measure(anything, Path(exported.path), agreed)  # type: ignore[arg-type]
    with pytest.raises(CriterionFailed, match=r"gives \(1, 1, 4\) for 1 frames, the network \(1, 2, 4\)"):
        parity.measure(lambda x: torch.zeros(1, 2, 4), Path(exported.path), contract())  # type: ignore[arg-type]


def test_parity_does_not_accept_nan() -> None:
    with pytest.raises(CriterionFailed, match="13 frames"):
        parity.require([parity.Difference(1, 1, 0.0), parity.Difference(13, 1, float("nan"))])


def test_network_that_disagrees_with_its_contract_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="contract says"):
        export_onnx(network(), contract(glosses=("<blank>", "A")), tmp_path / "model.onnx")


def test_surplus_and_missing_parameters_are_caught(exported: ExportReport) -> None:
    model = onnx_graph.read_model(exported.path)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((64, 64), np.float32), "auxiliary.weight"))
    counted = onnx_graph.count_parameters(network(), model)
    assert counted.stored == exported.parameters.stored + 64 * 64
    with pytest.raises(CriterionFailed, match="missing or too many"):
        onnx_graph.check_graph(model, counted)
    with pytest.raises(CriterionFailed, match=r"auxiliary\.weight, which only training needs"):
        onnx_graph.check_graph(model, exported.parameters, ["auxiliary.weight"])
    assert not ParameterCount(module=100, required=90, buffers=10, stored=89).consistent
    assert ParameterCount(module=100, required=90, buffers=10, stored=90).consistent


def test_data_dependent_node_is_named(exported: ExportReport) -> None:
    model = onnx_graph.read_model(exported.path)
    model.graph.node.append(helper.make_node("NonZero", ["input"], ["where"], name="finder"))
    with pytest.raises(CriterionFailed, match=r"finder \(NonZero\)"):
        onnx_graph.check_graph(model, exported.parameters)


def test_opset_beyond_the_ceiling_and_invalid_graph_are_refused(exported: ExportReport) -> None:
    model = onnx_graph.read_model(exported.path)
    model.opset_import[0].version = 21
    with pytest.raises(CriterionFailed, match="opset 21"):
        onnx_graph.check_graph(model, exported.parameters)
    model.graph.output.append(helper.make_tensor_value_info("nowhere", TensorProto.FLOAT, [1]))
    model.graph.node[0].op_type = "NoSuchOp"
    with pytest.raises(CriterionFailed, match="not valid ONNX"):
        onnx_graph.check_graph(model, exported.parameters)


def test_reading_broken_files_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "junk.onnx").write_bytes(b"this is no model")
    (tmp_path / "empty.onnx").write_bytes(onnx.ModelProto().SerializeToString())
    for name in ("junk.onnx", "empty.onnx", "missing.onnx"):
        with pytest.raises(BadInput, match=name):
            onnx_graph.read_model(tmp_path / name)


def test_unwritable_place_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadInput, match="cannot"):
        export_onnx(network(), contract(), tmp_path / "file" / "model.onnx")


def test_full_disk_leaves_nothing(tiny_disk: Path) -> None:
    with pytest.raises(BadInput, match="No space left"):
        export_onnx(network(), contract(), tiny_disk / "model.onnx")
    assert [item.name for item in tiny_disk.iterdir()] == ["ballast"]


def test_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput.__base__, match=r"signedge\[export\]"):  # type: ignore[arg-type]
        export_onnx(network(), contract(), tmp_path / "model.onnx")


def test_made_up_clips_look_like_prepared_ones() -> None:
    rgb = parity.plausible_clip(contract(), 13, 0)
    assert rgb.shape == (1, 16, 3, 8, 8) and rgb.min() >= -1 and rgb.max() <= 1
    points = parity.plausible_clip(dataclasses.replace(contract(), input=KEYPOINTS), 13, 0)
    assert points.shape == (1, 16, len(HANDS), 5) and np.isfinite(points).all()
