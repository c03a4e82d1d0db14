"""One call from a float32 graph to the graph of a precision: planned, written, checked, and told."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from export.precision.fp16 import plan_fp16
from export.precision.int8 import Int8Plan, plan_int8
from export.precision.nearness import Nearness, nearness, widened
from export.precision.plan import PRECISIONS, PrecisionPlan
from export.precision.write import write
from runtime.errors import BadInput, CriterionFailed

if TYPE_CHECKING:
    from onnx import ModelProto

COMPARED = 8  # clips of those given on which nearness to float32 is measured


@dataclass(frozen=True)
class Made:
    """A graph of some precision, its plan, and facts for people and manifests (JSON-able).

    `judged` is what ONNX Runtime runs to judge it where the target is not at hand: the same graph, or one of float32
    with the same values where `model` has float16 in it (see `widened`).
    """

    model: ModelProto
    judged: ModelProto
    plan: PrecisionPlan
    report: dict[str, Any]

    def to_bytes(self) -> bytes:
        """The file; the same for the same graph, clips and options."""
        return self.model.SerializeToString(deterministic=True)


def make_precision(
    model: ModelProto,
    precision: str,
    clips: Iterable[np.ndarray],
    flavour: str = "u8s8",
    options: Int8Plan | None = None,
    rest: str = "fp32",
) -> Made:
    """`model` in `precision` (fp32, fp16, int8), decided and checked on real `clips` (1,T',...) float32.

    flavour: how int8 is written (flavours.toml); rest: what an int8 graph computes in elsewhere, fp32 or fp16. Nodes
    of `model` get names where they have none. Raises `CriterionFailed` if nothing gains by the precision, or if the
    graph that was written is not valid or not finite on the clips.
    """
    if precision not in PRECISIONS:
        raise BadInput(f"no precision '{precision}'; known: {', '.join(PRECISIONS)}")
    kept: list[np.ndarray] = []
    passing = _keeping(clips, kept)
    if precision == "fp32":
        return Made(model, model, PrecisionPlan({}), {"nodes": {"fp32": len(model.graph.node)}})
    plan = plan_fp16(model, passing) if precision == "fp16" else plan_int8(model, passing, options, flavour, rest)
    written = write(model, plan, flavour)
    check(written)
    half = plan.count("fp16") > 0
    judged = widened(written) if half else written
    near = nearness(model, judged, kept)
    if not near.finite:
        raise CriterionFailed("the graph of lower precision gives values that are not finite on real clips")
    return Made(written, judged, plan, _report(model, written, plan, near))


def check(model: ModelProto) -> None:
    """Raise `CriterionFailed` unless the graph is valid, every operator's types included."""
    import onnx

    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # the checker's and the inference's errors have no useful common base
        reason = " ".join(str(error).split())[:300]
        raise CriterionFailed(f"the graph of lower precision is not valid ONNX: {reason}") from error


def _keeping(clips: Iterable[np.ndarray], kept: list[np.ndarray]) -> Iterator[np.ndarray]:
    for x in clips:
        if len(kept) < COMPARED:
            kept.append(x)
        yield x


def _report(model: ModelProto, written: ModelProto, plan: PrecisionPlan, near: Nearness) -> dict[str, Any]:
    ops = [node.op_type for node in written.graph.node]
    half = plan.count("fp16") > 0
    return {
        "nodes": {name: plan.count(name) for name in PRECISIONS},
        "casts": ops.count("Cast") - [node.op_type for node in model.graph.node].count("Cast"),
        "quantise": ops.count("QuantizeLinear"),
        "dequantise": ops.count("DequantizeLinear"),
        "plan": plan.hash(),
        "nearness": dataclasses.asdict(near),
        "computed": "ONNX Runtime on this CPU, " + (
            "float32 kernels, rounded to float16 after every fp16 node" if half else "its kernels for these nodes"
        ),
    }  # fmt: skip
