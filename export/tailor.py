"""An exported graph cut to its target: checked against the dialect, lowered, calibrated, in the precision asked for."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from devices import dialect as dialects
from devices.dialect import Dialect
from devices.profile import Resolved
from export.calibration import choose_clips, fingerprint
from export.check import Verdict, check
from export.lowering import lower, prove
from export.precision import Int8Plan, Made, audit, make_precision, plan_fp16
from runtime.contract import Contract, RgbInput
from runtime.errors import BadInput, Refused
from runtime.preprocess import prepare

if TYPE_CHECKING:
    from onnx import ModelProto

    from distill.corpus.schema import ClipRow
    from distill.corpus.store import Corpus

TRAIN = "train"
TENSORRT = ("tensorrt", "tensorrt-rtx")
NEEDS_CLIPS = ("fp16", "int8", "auto")


@dataclass(frozen=True)
class Lowering:
    """A graph that its dialect reads, and what was done to it."""

    graph: ModelProto
    facts: dict[str, Any]  # for a manifest; empty where nothing had to be done


@dataclass(frozen=True)
class Cut:
    """A graph in its precision; `facts` for the manifest, `flags` for versions that take precision from flags."""

    graph: ModelProto
    facts: dict[str, Any] = field(default_factory=dict)
    flags: dict[str, Any] = field(default_factory=dict)


def dialect_of(target: Resolved) -> Dialect:
    """The dialect of the target's software."""
    return dialects.load(target.software.dialect)


def flavour_of(target: Resolved) -> str:
    """How eight-bit tensors are written for the target."""
    return target.profile.int8_flavour.lower()


def lowered(model: ModelProto, contract: Contract, target: Resolved, precision: str) -> Lowering:
    """`model` as the target's dialect reads it, shown to compute the same.

    Raises `Refused` naming node and rule where no lowering makes it fit or the target has not this precision,
    `CriterionFailed` where what was lowered computes something else.
    """
    dialect = dialect_of(target)
    _require(check(model, target.profile, dialect, precision), f"'{contract.name}' in {precision}")
    graph, changes = lower(model, dialect)
    if not changes:
        return Lowering(model, {})
    differences = prove(model, graph, contract)
    steps = [dataclasses.asdict(item) for item in changes]
    worst = max(item.difference for item in differences)
    return Lowering(graph, {"lowered": {"dialect": dialect.name, "steps": steps, "difference": worst}})


def fitted(plan: Int8Plan, target: Resolved) -> Int8Plan:
    """The plan as the target carries it out: 7 bits for weights where products of 8 bits saturate."""
    return plan if target.profile.int8_exact else dataclasses.replace(plan, weight_bits=7)


class Calibration:
    """The training clips that ranges are taken on: of the corpus' lengths and signers, never of its other splits."""

    def __init__(self, contract: Contract, corpus: Corpus, plan: Int8Plan) -> None:
        self._contract, self._corpus = contract, corpus
        self.rows: Sequence[ClipRow] = choose_clips(corpus.split(TRAIN), plan.clips, plan.seed)

    def inputs(self) -> Iterator[np.ndarray]:
        """The clips as network inputs (1,T',...) float32."""
        rgb = isinstance(self._contract.input, RgbInput)
        for row in self.rows:
            clip = self._corpus.load(row, frames=rgb, keypoints=not rgb)
            yield prepare(self._contract, clip.frames, clip.keypoints)

    def described(self) -> dict[str, Any]:
        """For a manifest."""
        lengths = [row.frames for row in self.rows]
        return {
            "split": TRAIN,
            "clips": [row.id for row in self.rows],
            "frames": {"shortest": min(lengths), "median": float(np.median(lengths)), "longest": max(lengths)},
            "signers": sorted({row.signer for row in self.rows}),
            "hash": fingerprint(self.rows),
        }


def in_precision(
    graph: ModelProto, precision: str, calibration: Calibration | None, target: Resolved, plan: Int8Plan
) -> Cut:
    """A lowered graph in fp32, fp16 or int8, written as the target's dialect takes it.

    Where precision is a matter of flags (TensorRT before 10), fp16 leaves the graph as it is and names the nodes that
    must stay in FP32. Raises as `make_precision` does, `BadInput` where there is nothing to calibrate on, `Refused`
    where what was written no longer fits.
    """
    dialect = dialect_of(target)
    tensorrt = dialect.runtime in TENSORRT
    if precision == "fp32":
        return Cut(graph)
    if calibration is None:
        raise BadInput(f"{precision} needs clips of a corpus to calibrate on")
    facts: dict[str, Any] = {"plan": dataclasses.asdict(plan), "calibration": calibration.described()}
    if precision == "fp16" and dialect.typing == "weak":
        halves = plan_fp16(graph, calibration.inputs())
        wide = tuple(sorted(name for name, kind in halves.assignment.items() if kind == "fp32"))
        told = {"decisions": [dataclasses.asdict(item) for item in halves.decisions], "ranges": {}}
        return Cut(graph, {**facts, **told}, {"fp16": True, "keep_fp32": wide, "strongly_typed": False})
    strong = tensorrt and dialect.typing != "weak"
    rest = "fp16" if strong else "fp32"
    made = make_precision(graph, precision, calibration.inputs(), flavour_of(target), plan, rest)
    if precision == "int8":
        audited(graph, made.model, calibration)
    flags = {"fp16": True, "int8": True, "strongly_typed": False} if tensorrt and not strong else {}
    return Cut(written(made, target, precision), {**facts, **told_of(made)}, flags)


def written(made: Made, target: Resolved, precision: str) -> ModelProto:
    """The graph of `made`, once more held against the dialect: what a writer adds must fit, too."""
    _require(check(made.model, target.profile, dialect_of(target), precision), f"the graph once written in {precision}")
    return made.model


def _require(verdict: Verdict, what: str) -> None:
    if verdict.fits:
        return
    first, more = verdict.refusals[0], len(verdict.refusals) - 1
    where = f"node {first.node} ({first.op}): " if first.node else ""
    others = f" ({more} more: signedge check)" if more else ""
    helps = f"; would fit: {first.remedy}" if first.remedy else ""
    raise Refused(f"{what} does not fit {verdict.target} ({verdict.dialect}): {where}{first.says}{helps}{others}")


def audited(graph: ModelProto, quantised: ModelProto, calibration: Calibration) -> None:
    """Raise `CriterionFailed` naming a tensor of `quantised` whose scale does not fit it: export/precision/audit.py."""
    clips = itertools.islice(calibration.inputs(), audit.CLIPS)
    audit.require(audit.audit(graph, quantised, clips), "the gate of eight bits failed")


def told_of(made: Made) -> dict[str, Any]:
    """What a manifest keeps of a precision."""
    return {
        "decisions": [dataclasses.asdict(item) for item in made.plan.decisions],
        "ranges": {name: [round(low, 6), round(high, 6)] for name, (low, high) in made.plan.ranges.items()},
        "precision_report": made.report,
    }
