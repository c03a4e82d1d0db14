"""ONNX's own test models, one per operator and form: whatever lowering rewrites gives the same in ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.backend.test.case.node import collect_testcases

from devices import dialect
from export.graph import GraphView
from export.lowering import lower
from export.rules import graph_findings

RANDOM = "bernoulli"  # draws anew in each run


def results(model: onnx.ModelProto, given: dict[str, np.ndarray]) -> list[Any] | None:
    """What ONNX Runtime gives, None where it has no kernel."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        found: list[Any] = onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, given)
    except Exception:  # its exceptions share no base class but Exception
        return None
    return found


def same(wanted: Any, given: Any) -> bool:
    one, other = np.asarray(wanted), np.asarray(given)
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.dtype.kind != "f":
        return np.array_equal(one, other)
    near = 1e-2 if one.dtype == np.float16 else 1e-3
    return np.allclose(one.astype(np.float64), other.astype(np.float64), near, near, equal_nan=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning:onnx")  # of the models' own references
@pytest.mark.parametrize("name", ["tensorrt-8.2", "tensorrt-8.6", "tensorrt-10.3"])
def test_what_is_rewritten_gives_the_same(name: str) -> None:
    target, rewritten, wrong = dialect.load(name), 0, []
    for case in collect_testcases(None):
        model = case.model
        assert model is not None
        ends = (*model.graph.input, *model.graph.output)
        if RANDOM in case.name or model.functions or not all(item.type.HasField("tensor_type") for item in ends):
            continue
        after, done = lower(model, target)
        if not done or any(item.rule == "opset-too-new" for item in graph_findings(GraphView(after), target)):
            continue
        values = case.data_sets[0][0]
        given = dict(zip([item.name for item in model.graph.input], values, strict=True))
        wanted, found = results(model, given), results(after, given)
        if wanted is None:  # a kernel that ONNX Runtime lacks: the rewritten graph need not have one either
            continue
        rewritten += 1
        if found is None or not all(map(same, wanted, found)):
            wrong.append(case.name)
    assert rewritten > 300 and wrong == []
