"""An exported graph cut to its target: checked against the dialect, lowered, calibrated, in the precision asked for."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from devices import dialect as dialects
from devices.dialect import Dialect
from devices.profile import Resolved
from export.calibration import choose_clips, extremes, fingerprint
from export.check import Verdict, check, typing_of
from export.graph import GraphView
from export.lowering import lower, prove
from export.precision import Int8Plan, PrecisionPlan, audit, implicit, make_precision, write
from export.precision.fp16 import float_tensors, with_halves
from export.precision.plan import PRECISIONS
from runtime.contract import Contract
from runtime.errors import BadInput, Refused
from runtime.preprocess import prepare

if TYPE_CHECKING:
    from onnx import ModelProto

    from distill.corpus.schema import ClipRow
    from distill.corpus.store import Corpus

TRAIN = "train"
TENSORRT = ("tensorrt", "tensorrt-rtx")
AUTO = "auto"
NEEDS_CLIPS = ("fp16", "int8", AUTO)


@dataclass(frozen=True)
class Lowering:
    """A graph that its dialect reads, and what was done to it."""

    graph: ModelProto
    facts: dict[str, Any]  # for a manifest: `lowered`, where something was done, `dla`, what of it DLA takes


@dataclass(frozen=True)
class Cut:
    """A graph in its precision: `facts` for the manifest, `flags` for versions that take FP16 from flags.

    `complete` has all of its precision written into it: the graph itself, but where flags take the place of casts.
    It is what is judged where the target is another machine.
    """

    graph: ModelProto
    complete: ModelProto
    facts: dict[str, Any] = field(default_factory=dict)
    flags: dict[str, Any] = field(default_factory=dict)


def dialect_of(target: Resolved) -> Dialect:
    """The dialect of the target's software."""
    return dialects.load(target.software.dialect)


def flavour_of(target: Resolved) -> str:
    """How eight-bit tensors are written for the target."""
    return target.profile.int8_flavour.lower()


def precisions_of(target: Resolved) -> tuple[str, ...]:
    """What both hardware and runtime of the target compute in, the widest first."""
    profile, dialect = target.profile, dialect_of(target)
    return tuple(kind for kind in PRECISIONS if kind in dialect.precisions and kind not in profile.lacks)


def around_int8(target: Resolved) -> str:
    """What a graph of eight bits computes in elsewhere: on GPUs in FP16, as far as its rules let it."""
    return "fp16" if dialect_of(target).runtime in TENSORRT and "fp16" in precisions_of(target) else "fp32"


def lowered(model: ModelProto, contract: Contract, target: Resolved, precision: str) -> Lowering:
    """`model` as the target's dialect reads it, shown to compute the same. `precision` auto: any that the target has.

    Raises `Refused` naming node and rule where no lowering makes it fit or the target has not this precision, or not
    on its deep learning accelerator, `CriterionFailed` where what was lowered computes something else.
    """
    dialect = dialect_of(target)
    asked = precisions_of(target)[-1] if precision == AUTO else precision
    verdict = check(model, target.profile, dialect, asked, target.dla)
    _require(verdict, f"'{contract.name}' in {precision}")
    shares = [item.says for item in verdict.notes if item.rule == "dla-share"]
    facts: dict[str, Any] = {"dla": shares[0]} if shares else {}
    graph, changes = lower(model, dialect)
    if not changes:
        return Lowering(model, facts)
    differences = prove(model, graph, contract)
    steps = [dataclasses.asdict(item) for item in changes]
    worst = max(item.difference for item in differences)
    return Lowering(graph, {**facts, "lowered": {"dialect": dialect.name, "steps": steps, "difference": worst}})


def fitted(plan: Int8Plan, target: Resolved) -> Int8Plan:
    """The plan as the target carries it out: 7 bits for weights where products of 8 bits saturate."""
    return plan if target.profile.int8_exact else dataclasses.replace(plan, weight_bits=7)


class Calibration:
    """The training clips that ranges are taken on: of the corpus' lengths and signers, never of its other splits."""

    def __init__(self, contract: Contract, corpus: Corpus, plan: Int8Plan) -> None:
        self._contract, self._corpus = contract, corpus
        self.rows: Sequence[ClipRow] = choose_clips(corpus.split(TRAIN), plan.clips, plan.seed)

    def inputs(self) -> Iterator[np.ndarray]:
        """The clips, or the windows over them, as network inputs (1,T',...) float32."""
        for windows in self.clips():
            yield from np.split(windows, len(windows))

    def clips(self) -> Iterator[np.ndarray]:
        """Each clip whole (W,T',...) float32, in one window but for networks of one length."""
        for row in self.rows:
            clip = self._corpus.load_for(row, self._contract.modality)
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
    """A lowered graph in fp32, fp16 or int8, as the target's dialect takes it.

    Raises as `make_precision` does, `BadInput` where there is nothing to calibrate on, `Refused` where what was written
    no longer fits.
    """
    if precision == "fp32":
        return Cut(graph, graph)
    if calibration is None:
        raise BadInput(f"{precision} needs clips of a corpus to calibrate on")
    rest, ranges = around_int8(target), dict[str, float]()
    made = make_precision(
        graph, precision, calibration.inputs(), flavour_of(target), plan, "fp32" if by_flags(target) else rest
    )
    chosen = made.plan
    if precision == "int8":
        audited(graph, made.model, calibration.inputs())
        if by_flags(target) and rest == "fp16":
            view = GraphView(graph)
            seen = extremes(graph, float_tensors(view), calibration.inputs())
            ranges = implicit.largest(view, chosen, seen) if target.dla else {}
            chosen = with_halves(view, chosen, seen)
    facts = {"plan": dataclasses.asdict(plan), "calibration": calibration.described(), **told_of(chosen)}
    return carried(graph, chosen, target, {**facts, "precision_report": made.report}, ranges)


def by_flags(target: Resolved) -> bool:
    """Whether flags, not types in the graph, say what computes in FP16: TensorRT before 10, and its DLA before 11."""
    return typing_of(dialect_of(target), target.dla) == "weak"


def carried(
    graph: ModelProto, plan: PrecisionPlan, target: Resolved, facts: dict[str, Any],
    ranges: Mapping[str, float] | None = None,
) -> Cut:  # fmt: skip
    """`graph` with `plan` in it, as the target's dialect takes it: flags name the nodes that they must leave in FP32.

    With `ranges` (export/precision/implicit.py) eight bits are told beside the graph, too, which then has no Q/DQ.
    Raises `Refused` where what was written no longer fits: what a writer adds must be read, too.
    """
    flavour = flavour_of(target)
    flags: dict[str, Any] = {}
    if not plan.assignment:
        shipped = complete = graph
    elif not by_flags(target):
        shipped = complete = write(graph, plan, flavour)
    else:
        eight = {node: kind for node, kind in plan.assignment.items() if kind == "int8"}
        quantised = write(graph, dataclasses.replace(plan, assignment=eight), flavour) if eight else graph
        if ranges:
            shipped, more = graph, {name: value for name, value in ranges.items() if name not in plan.ranges}
            quantised = implicit.rounded(quantised, more)
        else:
            shipped = quantised
        halves = {node: kind for node, kind in plan.assignment.items() if kind == "fp16"}
        complete = write(quantised, dataclasses.replace(plan, assignment=halves), flavour) if halves else quantised
        held = tuple(sorted(node for node, kind in plan.assignment.items() if kind == "fp32")) if halves else ()
        flags = {"fp16": bool(halves), "int8": bool(eight), "keep_fp32": held, "strongly_typed": False}
        flags |= {"ranges": dict(ranges)} if ranges else {}
    narrowest = next((kind for kind in reversed(PRECISIONS) if plan.count(kind)), PRECISIONS[0])
    verdict = check(shipped, target.profile, dialect_of(target), narrowest, target.dla)
    _require(verdict, f"the graph once written in {narrowest}")
    return Cut(shipped, complete, facts, flags)


def _require(verdict: Verdict, what: str) -> None:
    if verdict.fits:
        return
    more = len(verdict.refusals) - 1
    others = f" ({more} more: signedge check)" if more else ""
    raise Refused(f"{what} does not fit {verdict.target} ({verdict.dialect}): {verdict.reason}{others}")


def audited(graph: ModelProto, quantised: ModelProto, inputs: Iterable[np.ndarray]) -> None:
    """Raise `CriterionFailed` naming a tensor of `quantised` whose scale does not fit it: export/precision/audit.py."""
    clips = itertools.islice(inputs, audit.CLIPS)
    audit.require(audit.audit(graph, quantised, clips), "the gate of eight bits failed")


def told_of(plan: PrecisionPlan) -> dict[str, Any]:
    """What a manifest keeps of a plan."""
    return {
        "decisions": [dataclasses.asdict(item) for item in plan.decisions],
        "ranges": {name: [round(low, 6), round(high, 6)] for name, (low, high) in plan.ranges.items()},
    }
