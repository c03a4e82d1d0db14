"""The assignments of one job: which nodes have a choice of precision, and the graph that follows from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from export.calibration import clipped, observe
from export.graph import GraphView, name_nodes
from export.precision import PrecisionPlan
from export.precision import flavour as flavours
from export.precision.fp16 import float_tensors, with_halves
from export.precision.int8 import decide, takes_eight_bits
from export.precision.placement import PRODUCTS, Placement
from export.search.search import Assignment
from export.tailor import Calibration, Cut, around_int8, carried, flavour_of, told_of

if TYPE_CHECKING:
    from onnx import NodeProto

    from export.engine import Job

REST = "*"  # in an assignment: what all nodes compute in that it does not name


class Space:
    """The products of a job's graph may each be narrow or not; what lies between them follows by the rules.

    kinds: the precisions that may be chosen, of those that the target has.
    """

    def __init__(self, job: Job, calibration: Calibration, kinds: Sequence[str], scratch: Path) -> None:
        self.graph = job.lowering.graph
        name_nodes(self.graph)
        self._job, self._calibrated = job, calibration.described()
        self._view = GraphView(self.graph)
        self._flavour = flavour_of(job.target)
        self._rest = around_int8(job.target)
        self._kinds = kinds
        self.clips = list(calibration.clips())  # (W,T',...) float32: W is 1, but for networks of one length
        self.inputs = [part for clip in self.clips for part in np.split(clip, len(clip))]
        tensors = float_tensors(self._view)
        self._seen, samples = observe(self.graph, tensors, tensors, self.inputs, scratch)
        self._ranges = {
            name: clipped(name, samples[name], self._seen[name], job.plan.method)
            for name in tensors
            if np.isfinite(self._seen[name]).all()
        }
        self._all = [node.name for node in self.graph.graph.node if node.op_type in PRODUCTS]
        choice = (node for node in self.graph.graph.node if node.op_type in PRODUCTS and self._may_be_narrow(node))
        self.products = [node.name for node in choice]

    def _may_be_narrow(self, node: NodeProto) -> bool:
        """Whether eight bits can be tried: constant weights of a usual form, and ranges that are finite."""
        finite = node.input[0] in self._ranges and node.output[0] in self._ranges
        return "int8" in self._kinds and finite and takes_eight_bits(self._view, node)

    def wide(self) -> Assignment:
        """Nothing in eight bits."""
        return {REST: self._rest, **dict.fromkeys(self.products, self._rest)}

    def narrow(self) -> Assignment:
        """All products in eight bits."""
        return {**self.wide(), **dict.fromkeys(self.products, "int8")}

    def anchors(self) -> dict[str, Assignment]:
        """The plain precisions that this target has, each as `--precision` has it."""
        chosen = {item.node: item.precision for item in decide(self.graph, self._flavour)}
        by_rules = {name: "int8" for name in self.products if chosen.get(name) == "int8"}
        plain: dict[str, Assignment] = {
            "fp32": {REST: "fp32", **dict.fromkeys(self.products, "fp32")},
            "fp16": {REST: "fp16", **dict.fromkeys(self.products, "fp16")},
            "int8": {**self.wide(), **by_rules},
        }
        return {name: assignment for name, assignment in plain.items() if name in self._kinds}

    def plan(self, assignment: Assignment) -> PrecisionPlan:
        """The whole plan that follows: sums, ReLUs and movers go with the products by rule."""
        forced = {name: "int8" if assignment.get(name) == "int8" else "fp32" for name in self._all}
        decisions = decide(self.graph, self._flavour, forced)
        chosen = {item.node: item.precision for item in decisions}
        if "int8" not in chosen.values() and assignment[REST] == "fp32":
            return PrecisionPlan({})
        roots = Placement(self._view, chosen, flavours.load(self._flavour)).roots()
        ranges = {name: self._ranges[name] for name in roots}
        plan = PrecisionPlan(chosen, ranges, decisions, self._job.plan.weight_bits)
        return with_halves(self._view, plan, self._seen) if assignment[REST] == "fp16" else plan

    def cut(self, assignment: Assignment) -> Cut:
        """The graph of an assignment. Raises `Refused` where it does not fit the target."""
        plan = self.plan(assignment)
        options = {"plan": dataclasses.asdict(self._job.plan), "calibration": self._calibrated}
        return carried(self.graph, plan, self._job.target, {**options, **told_of(plan)})
