"""The precision plan: told as JSON, hashed, and refused where it does not fit."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from export_stage import contract

from export.onnx_graph import ExportReport, read_model
from export.parity import plausible_clip
from export.precision import PrecisionPlan, make_precision, plan_int8, scales, write
from runtime.errors import BadInput


def plan_of(exported: ExportReport) -> PrecisionPlan:
    return plan_int8(read_model(exported.path), [plausible_clip(contract(), 30, seed=1)])


def test_a_plan_outlives_json_with_the_same_graph(exported: ExportReport) -> None:
    plan = plan_of(exported)
    again = PrecisionPlan.from_dict(json.loads(json.dumps(plan.as_dict())))
    assert again.hash() == plan.hash() and again.decisions == plan.decisions
    model = read_model(exported.path)
    one, two = (write(model, item, "u8s8").SerializeToString(deterministic=True) for item in (plan, again))
    assert one == two


def test_the_hash_follows_what_is_written_and_not_the_reasons(exported: ExportReport) -> None:
    plan = plan_of(exported)
    assert dataclasses.replace(plan, decisions=[]).hash() == plan.hash()
    name = next(iter(plan.ranges))
    other = {**plan.ranges, name: (0.0, 1.0)}
    changes: list[dict[str, Any]] = [{"weight_bits": 7}, {"assignment": {}}, {"ranges": other}]
    for change in changes:
        assert dataclasses.replace(plan, **change).hash() != plan.hash()


def test_plans_that_do_not_fit_are_refused(exported: ExportReport) -> None:
    model, plan = read_model(exported.path), plan_of(exported)
    with pytest.raises(BadInput, match="no range for tensor"):
        write(model, dataclasses.replace(plan, ranges={}), "u8s8")
    with pytest.raises(BadInput, match="no node 'nowhere'"):
        write(model, PrecisionPlan({"nowhere": "int8"}), "u8s8")
    with pytest.raises(BadInput, match="assigns 'int4'"):
        PrecisionPlan({"node": "int4"})
    with pytest.raises(BadInput, match="no Q/DQ flavour 's4s4'; known: u8s8, s8s8"):
        write(model, plan, "s4s4")
    with pytest.raises(BadInput, match="not a precision plan"):
        PrecisionPlan.from_dict({"format": 1})
    with pytest.raises(BadInput, match="no precision 'int4'"):
        make_precision(model, "int4", [])


@pytest.mark.parametrize("floats", [np.float32, np.float16])
@pytest.mark.parametrize("bounds", [(0.0, 6.7), (-3.0, 0.001), (-1.0, 1.0), (0.0, 0.0)])
def test_scales_cover_their_range_and_hold_zero(floats: type[np.floating], bounds: tuple[float, float]) -> None:
    for integers, levels in (("uint8", (0, 255)), ("int8", (-127, 127))):
        scale, zero = scales.activation(bounds, integers, floats)
        assert scale.dtype == floats and scale > 0
        for bound in bounds:
            step = bound / float(scale) + float(zero)
            assert levels[0] - 0.51 <= step <= levels[1] + 0.51
        assert levels[0] <= zero <= levels[1]


def test_weights_round_by_channel_to_nearest() -> None:
    value = np.random.default_rng(0).normal(0, [[1.0], [0.01], [100.0]], (3, 200)).astype(np.float32)
    whole, scale = scales.weight(value, 0, 8, np.float32)
    assert np.abs(whole.astype(int)).max(1).tolist() == [127, 127, 127]
    assert np.all(np.abs(whole * scale[:, None] - value) <= 0.51 * scale[:, None])
