"""Dialect files: valid, each fact with a source, sound against ONNX's own list of operators; broken ones are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from devices import dialect, profile
from devices.dialect import Dialect
from runtime.errors import BadInput

LEGACY = {"ImageScaler", "ParametricSoftplus", "ScaledTanh", "Scatter", "Upsample"}  # withdrawn, but still read by some


@pytest.fixture(params=dialect.names())
def each(request: pytest.FixtureRequest) -> Dialect:
    return dialect.load(request.param)


def test_known_dialects() -> None:
    assert dialect.names() == [
        "onnxruntime", "openvino", "tensorrt-10.16", "tensorrt-10.3", "tensorrt-11", "tensorrt-8.2", "tensorrt-8.5",
        "tensorrt-8.6", "tensorrt-rtx",
    ]  # fmt: skip


def test_every_operator_named_is_one_of_onnx(each: Dialect) -> None:
    defs = pytest.importorskip("onnx").defs
    known = {item.name for item in defs.get_all_schemas_with_history() if item.domain == ""} | LEGACY
    named = each.ops | each.absent | {op for limit in each.limits for op in limit.ops}
    named |= each.dla.ops if each.dla else set()
    assert sorted(named - known) == []


def test_every_limit_says_what_why_and_what_else(each: Dialect) -> None:
    for limit in each.limits:
        assert limit.says and limit.source, limit.rule
        assert bool(limit.remedy) != bool(limit.instead), f"{limit.rule}: a lowering, or what a person can do"


def test_element_types_are_those_of_onnx(each: Dialect) -> None:
    onnx = pytest.importorskip("onnx")
    assert each.types | each.end_types <= set(onnx.TensorProto.DataType.keys())


def test_every_software_row_names_a_dialect_of_its_runtime() -> None:
    for name in profile.profile_names():
        for row in profile.load(name).software:
            assert dialect.load(row.dialect).runtime == row.runtime, f"{name}, {row.name}"


def test_targets_that_drive_dla_have_one() -> None:
    for name in dialect.names():
        facts = dialect.load(name).dla
        for target in facts.devices if facts else ():
            assert profile.load(target).dla is not None


@pytest.mark.parametrize(
    ("name", "opset", "typing", "layer_norm", "sampling"),
    [
        ("tensorrt-8.2", 13, "weak", False, False),
        ("tensorrt-8.5", 17, "weak", False, True),
        ("tensorrt-8.6", 17, "weak", True, True),
        ("tensorrt-10.3", 20, "both", True, True),
        ("tensorrt-10.16", 24, "both", True, True),
        ("tensorrt-11", 24, "strong", True, True),
    ],
)
def test_facts_that_decide_over_our_networks(
    name: str, opset: int, typing: str, layer_norm: bool, sampling: bool
) -> None:
    found = dialect.load(name)
    assert (found.max_opset, found.typing) == (opset, typing)
    assert (found.has("LayerNormalization"), found.has("GridSample")) == (layer_norm, sampling)
    assert found.qdq.flavour == "s8s8"
    assert "int8" in found.quiet_precision["LSTM"]


def test_dla_is_driven_up_to_10_7_and_again_by_11() -> None:
    driven = {name: dialect.load(name).dla is not None for name in dialect.names() if "tensorrt" in name}
    assert driven == {
        "tensorrt-8.2": True, "tensorrt-8.5": True, "tensorrt-8.6": True, "tensorrt-10.3": True,
        "tensorrt-10.16": False, "tensorrt-11": True, "tensorrt-rtx": False,
    }  # fmt: skip


def test_operators_and_limits_are_inherited_and_can_go() -> None:
    old, new = dialect.load("tensorrt-8.6"), dialect.load("tensorrt-10.3")
    assert old.ops < new.ops
    assert "einsum-ellipsis" in {limit.rule for limit in old.limits}
    assert "einsum-ellipsis" not in {limit.rule for limit in new.limits}
    assert not dialect.load("tensorrt-rtx").has("Attention")


def test_unknown_dialect_names_the_known_ones() -> None:
    with pytest.raises(BadInput, match="known dialects: onnxruntime"):
        dialect.load("tensorrt-9")


def broken(folder: Path, old: str, new: str) -> Path:
    """The file of ONNX Runtime under its own name with one text replaced."""
    text = (dialect.FOLDER / "onnxruntime.toml").read_text(encoding="utf-8")
    assert old in text
    path = folder / "onnxruntime.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('name = "onnxruntime"', 'name = "other"', "calls itself 'other'"),
        ("max_opset = 26", "max_opset = 3", "opsets 7 to 3"),
        ("max_opset = 26", 'max_opset = "26"', "max_opset has the wrong type"),
        ('typing = "strong"', 'typing = "firm"', "typing 'firm'"),
        ('flavour = "u8s8"', 'flavour = "u8"', "qdq needs a flavour"),
        ("all_ops = true", "all_ops = false", "either all_ops"),
        ("all_ops = true", "colour = 1\nall_ops = true", "colour"),
        ('test = "attribute_only"', 'test = "feels_wrong"', "no known test"),
        ("value = { layout = 0 }", "value = 7", "needs a value of type dict"),
        ('source = "[M]"\n\n[quiet', 'source = ""\n\n[quiet', "has no source"),
        ('ops = ["LSTM", "GRU", "RNN"]', 'ops = ["ImageDecoder"]', "which the dialect has not"),
        ('ops = ["LSTM", "GRU", "RNN"]', "ops = []", "speaks of no operator"),
        ("says = \"the time axis", "told = 1\nsays = \"the time axis", "limit recurrence-layout"),
        ('sources = ["onnxruntime 1.31.1, run here", ', 'sources = []\n[x]\ny = ["', "unknown field|cannot read"),
        ('runtime = "onnxruntime"', "runtime = ", "cannot read dialect"),
        ('name = "onnxruntime"', 'name = "onnxruntime"\nbased_on = "onnxruntime"', "goes in a circle"),
    ],
)
def test_broken_file_is_told_by_field(tmp_path: Path, old: str, new: str, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        dialect.parse(broken(tmp_path, old, new))


def test_limit_that_is_not_there_cannot_go(tmp_path: Path) -> None:
    broken(tmp_path, "[quiet", "[quiet")
    path = tmp_path / "younger.toml"
    path.write_text('name = "younger"\nbased_on = "onnxruntime"\nlimits_gone = ["x"]\n', encoding="utf-8")
    with pytest.raises(BadInput, match="limits_gone names 'x'"):
        dialect.parse(path)
