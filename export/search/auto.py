"""`--precision auto`: ranks the nodes of a job's graph, searches, and says what was tried.

Times are measured, in turns, where the target is this machine; elsewhere they are predicted (predict.py) and called so.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from devices.profile import Resolved
from export.backends.base import backend
from export.backends.choice import fastest, usable
from export.backends.race import race
from export.calibration import clipped, observe
from export.gate import Reading, compare, read
from export.graph import GraphView, name_nodes
from export.onnx_graph import versions
from export.precision import PrecisionPlan, plan_fp16, write
from export.precision import flavour as flavours
from export.precision.fp16 import float_tensors, halves
from export.precision.int8 import decide
from export.precision.nearness import widened
from export.precision.placement import PRODUCTS, Placement
from export.search.predict import Machine, predicted_ms, work_of
from export.search.search import Assignment, Candidate, Found, Judged, Search, Tried
from export.search.sensitivity import Harm, harm
from export.tailor import Cut, audited, flavour_of
from runtime.engine import Engine, open_session
from runtime.errors import BadInput
from runtime.hashing import sha256_bytes, sha256_file

if TYPE_CHECKING:
    from onnx import ModelProto

    from export.engine import Job

REST = "*"  # in an assignment: what all nodes compute in that it does not name
TRIED = "tried.jsonl"
RANKED_ON = 16  # clips on which the harm of a single node is measured
TIMED_ON = 8  # clips on which candidates race
SECONDS = 8.0  # of a race
THREADS = 1
EIGHT_BITS = 0.4  # of a product's time in FP32, on CPUs with VNNI: what nodes are ranked by before any is timed
TOOLS = ("signedge", "onnxruntime", "numpy")
LAUNCH = 5e-6  # s a kernel, on GPUs; an assumption
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Auto:
    """What a search came to: the graph, the runtime that runs it, and the record for the manifest."""

    cut: Cut
    runtime: str
    record: dict[str, Any]


def find(job: Job, work: Path, tell: Tell = lambda words: None) -> Auto:
    """Search the precision of a job's graph. `work` keeps what was tried, so that a search that was stopped goes on.

    Raises `CriterionFailed` where not even FP32 can be kept, which is a matter of the runtime, not of precision.
    """
    if job.corpus is None or job.calibration is None:
        raise BadInput("auto needs --corpus: clips to calibrate on, and a development split to judge by")
    began = time.monotonic()
    end = began + 60 * job.order.minutes
    with tempfile.TemporaryDirectory(prefix="signedge.") as scratch:
        bench = _Bench(job, Path(scratch), tell)
        tell(f"ranking {len(bench.products)} nodes by what they do to the glosses")
        candidates = bench.candidates(lambda: end - time.monotonic())
        tried = Tried(work / TRIED, bench.key())
        known = len(tried)

        def told(name: str, judged: Judged) -> None:
            tell(f"{name}: WER {judged.wer:.2f} %, rise {judged.rise:+.2f} (to {judged.high:+.2f})")

        budget = job.order.max_wer_rise
        search = Search(bench.judge, bench.clock, budget, tried, lambda: end - time.monotonic(), told)
        found = search.run(bench.anchors(), bench.wide(), candidates)
        runtime, choice = bench.choose_runtime(found.chosen.assignment)
        record = {
            **_record(found, bench),
            "known_before": known,
            "seconds": round(time.monotonic() - began, 1),
            "budget_minutes": job.order.minutes,
            **({"choice": choice} if choice else {}),
        }
        return Auto(bench.cut(found.chosen.assignment, record), runtime, record)


class _Bench:
    """Builds, judges and times the assignments of one job."""

    def __init__(self, job: Job, scratch: Path, tell: Tell) -> None:
        assert job.calibration is not None and job.corpus is not None
        self.job, self.scratch, self.tell = job, scratch, tell
        self.graph = job.lowering.graph
        name_nodes(self.graph)
        self.view = GraphView(self.graph)
        self.flavour = flavour_of(job.target)
        self.inputs = list(job.calibration.inputs())
        self.rest = _rest(job)
        tensors = float_tensors(self.view)
        self.seen, samples = observe(self.graph, tensors, tensors, self.inputs, scratch)
        self.ranges = {
            name: clipped(name, samples[name], self.seen[name], job.plan.method)
            for name in tensors
            if np.isfinite(self.seen[name]).all()
        }
        del samples
        self.int8_by_rules = {item.node: item.precision for item in decide(self.graph, self.flavour)}
        products = [node for node in self.view.graph.node if node.op_type in PRODUCTS]
        self.products = [node for node in products if self._may_be_narrow(node)]
        self.harms: dict[str, Harm] = {}
        self._baseline: Reading | None = None
        self._files: dict[str, Path] = {}

    def _may_be_narrow(self, node: Any) -> bool:
        """Whether eight bits can be tried: constant weights, and ranges that are finite."""
        names = [node.input[0], node.output[0]]
        return self.view.weighted(node) and all(name in self.ranges for name in names)

    # Assignments.

    def wide(self) -> Assignment:
        """Nothing in eight bits."""
        return {REST: self.rest, **{node.name: self.rest for node in self.products}}

    def anchors(self) -> dict[str, Assignment]:
        """The plain precisions that this target has."""
        everywhere = {kind: {REST: kind, **{node.name: kind for node in self.products}} for kind in ("fp32", "fp16")}
        anchors: dict[str, Assignment] = {"fp32": everywhere["fp32"]}
        if "fp16" in self.job.target.profile.precisions:
            anchors["fp16"] = everywhere["fp16"]
        if "int8" in self.job.target.profile.precisions:
            chosen = {node.name: self.int8_by_rules.get(node.name, "fp32") for node in self.products}
            anchors["int8"] = {
                REST: self.rest, **{name: kind if kind == "int8" else self.rest for name, kind in chosen.items()}
            }  # fmt: skip
        return anchors

    def candidates(self, left: Callable[[], float]) -> list[Candidate]:
        """Every node that may be narrow, with the harm that it does alone and the time that it saves."""
        if "int8" not in self.job.target.profile.precisions:
            return []
        gains = self._gains()
        clips = self.inputs[:RANKED_ON]
        reference = self._log_probs(self._graph(self.wide()), clips)
        for number, node in enumerate(self.products):
            if left() <= 0:
                self.tell(f"the time is over after {number} of {len(self.products)} nodes")
                break
            assignment = {**self.wide(), node.name: "int8"}
            self.harms[node.name] = harm(reference, self._log_probs(self._graph(assignment), clips))
        return [Candidate(name, "int8", found.total, gains[name]) for name, found in self.harms.items()]

    def plan(self, assignment: Assignment) -> PrecisionPlan:
        """The whole plan that follows from the products' precisions: sums, ReLUs and movers go with them by rule."""
        narrow = [name for name, kind in assignment.items() if kind == "int8"]
        rest = assignment[REST]
        if not narrow:
            return PrecisionPlan({}) if rest == "fp32" else plan_fp16(self.graph, self.inputs)
        forced = {node.name: "int8" if assignment[node.name] == "int8" else "fp32" for node in self.products}
        decisions = decide(self.graph, self.flavour, forced)
        chosen = {item.node: item.precision for item in decisions}
        roots = Placement(self.view, chosen, flavours.load(self.flavour)).roots()
        ranges = {name: self.ranges[name] for name in roots}
        if rest == "fp16":
            eight = {name: kind for name, kind in chosen.items() if kind == "int8"}
            half = halves(self.view, self.seen, eight)
            told = {item.node: item for item in (*half.decisions, *(item for item in decisions if item.node in eight))}
            ordered = [told[node.name] for node in self.view.graph.node if node.name in told]
            return PrecisionPlan({**half.assignment, **eight}, ranges, ordered, self.job.plan.weight_bits)
        return PrecisionPlan(chosen, ranges, decisions, self.job.plan.weight_bits)

    def cut(self, assignment: Assignment, record: Mapping[str, Any]) -> Cut:
        """The graph of an assignment, with what the manifest keeps of it."""
        assert self.job.calibration is not None
        plan = self.plan(assignment)
        facts = {
            "plan": dataclasses.asdict(self.job.plan),
            "calibration": self.job.calibration.described(),
            "decisions": [dataclasses.asdict(item) for item in plan.decisions],
            "ranges": {name: [round(low, 6), round(high, 6)] for name, (low, high) in plan.ranges.items()},
            "search": dict(record),
        }
        graph = self._graph(assignment)
        if plan.ranges:
            audited(self.graph, graph, self.job.calibration)
        return Cut(graph, facts)

    def _graph(self, assignment: Assignment) -> ModelProto:
        plan = self.plan(assignment)
        return write(self.graph, plan, self.flavour) if plan.assignment else self.graph

    # WER.

    def judge(self, assignment: Assignment) -> Judged:
        """Read the development split with the assignment's engine, or with its graph where the target is elsewhere."""
        assert self.job.corpus is not None
        if self._baseline is None:
            self._baseline = read(Engine.from_onnx(self.job.model, THREADS), self.job.corpus)
        result = compare(read(self._engine(assignment), self.job.corpus), self._baseline, self.job.order.max_wer_rise)
        return Judged(result.wer, result.rise, result.low, result.high)

    def _engine(self, assignment: Assignment) -> Engine:
        if not self.job.target.at_hand:
            return Engine.from_onnx(self._file(assignment), THREADS)
        folder = self._file(assignment).parent
        return backend(self.job.target.software.runtime).load(folder, THREADS)

    def _file(self, assignment: Assignment) -> Path:
        """What the assignment's engine is read from, built once."""
        name = sha256_bytes(json.dumps(dict(assignment), sort_keys=True).encode())[:16]
        if name not in self._files:
            folder = self.scratch / name
            folder.mkdir()
            graph = self._graph(assignment)
            if self.job.target.at_hand:
                engines = backend(self.job.target.software.runtime)
                built = engines.build(graph, self.job.contract, folder, self.job.request({}))
                self._files[name] = folder / built.files[0]
            else:
                judged = widened(graph) if any(kind == "fp16" for kind in assignment.values()) else graph
                engines = backend("onnxruntime")
                self._files[name] = folder / engines.build(judged, self.job.contract, folder).files[0]
        return self._files[name]

    # Time.

    def clock(self, assignments: Sequence[Assignment]) -> list[float]:
        """Times of a clip, ms: medians of one race on this machine, or predicted."""
        if not self.job.target.at_hand:
            work, machine = self._work(), machine_of(self.job.target)
            return [predicted_ms(work, self.plan(item).assignment, machine, item[REST]) for item in assignments]
        self.tell(f"timing {len(assignments)} that passed, in turns")
        engines = {str(number): self._engine(item) for number, item in enumerate(assignments)}
        calls = {name: engine.log_probs for name, engine in engines.items()}
        times = race(calls, self.inputs[:TIMED_ON], SECONDS)
        return [float(np.median(times[name]) / 1e6) for name in calls]

    @property
    def timed(self) -> str:
        """How the times of the record came about."""
        if self.job.target.at_hand:
            return f"measured here on {min(TIMED_ON, len(self.inputs))} clips in turns, {THREADS} thread, median"
        return "predicted by a roofline a node from the target's figures; fit to rank, not to quote"

    def _gains(self) -> dict[str, float]:
        """Time that each product saves when narrow, ms: from a profile of the graph here, or predicted."""
        names = [node.name for node in self.products]
        if self.job.target.at_hand:
            profile = profiled_ms(self.graph, self.inputs[:TIMED_ON], self.scratch)
            return {name: profile.get(name, 0.0) * (1 - EIGHT_BITS) for name in names}
        work, machine = self._work(), machine_of(self.job.target)
        return {
            name: 1e3 * (machine.seconds(work[name], self.rest) - machine.seconds(work[name], "int8"))
            for name in names
            if name in work
        } | {name: 0.0 for name in names if name not in work}

    def _work(self) -> dict[str, Any]:
        lengths = sorted(x.shape[1] for x in self.inputs)
        return dict(work_of(self.graph, lengths[len(lengths) // 2]))

    # The runtime.

    def choose_runtime(self, assignment: Assignment) -> tuple[str, dict[str, Any]]:
        """The faster of the runtimes that can run the graph here, where the order left that open."""
        runtime = self.job.target.software.runtime
        if not self.job.target.at_hand or self.job.target.profile.kind != "cpu" or "@" in self.job.order.target:
            return runtime, {}
        names, missing = usable(self.job.target.profile)
        file = self._file(assignment)
        choice = fastest(dict.fromkeys(names, file), self.inputs[:TIMED_ON], THREADS, missing, SECONDS)
        return choice.runtime, choice.as_json()

    def _log_probs(self, graph: ModelProto, clips: Sequence[np.ndarray]) -> list[np.ndarray]:
        file = self.scratch / "probe.onnx"
        half = any(item.data_type == 10 for item in graph.graph.initializer)
        file.write_bytes((widened(graph) if half else graph).SerializeToString())
        session = open_session(file, THREADS)
        return [session.run(None, {session.get_inputs()[0].name: x})[0][0] for x in clips]

    def key(self) -> str:
        """Hash of all that decides a judgement."""
        assert self.job.corpus is not None and self.job.calibration is not None
        told = {
            "onnx": sha256_file(self.job.model),
            "corpus": self.job.corpus.fingerprint(),
            "calibration": self.job.calibration.described()["hash"],
            "plan": dataclasses.asdict(self.job.plan),
            "target": [self.job.target.profile.name, self.job.target.software.key, self.job.target.at_hand],
            "versions": versions(TOOLS),
        }
        return sha256_bytes(json.dumps(told, sort_keys=True).encode())


def _rest(job: Job) -> str:
    """What surrounds eight bits: FP16 where a GPU's dialect takes types from the graph."""
    from export.tailor import TENSORRT, dialect_of

    dialect = dialect_of(job.target)
    return "fp16" if dialect.runtime in TENSORRT and dialect.typing != "weak" else "fp32"


def machine_of(target: Resolved) -> Machine:
    """A target's figures as the roofline takes them. Raises `BadInput` where the profile lacks them."""
    profile = target.profile
    peaks = {name: profile.peak(name) for name in profile.precisions}
    bandwidth = profile.figures.get("bandwidth")
    if bandwidth is None or None in peaks.values():
        raise BadInput(f"{profile.name}: its profile lacks peaks or bandwidth to predict times from; run auto on it")
    numbers = {name: figure.value * 1e12 for name, figure in peaks.items() if figure is not None}
    return Machine(numbers, bandwidth.value * 1e9, LAUNCH if profile.kind == "gpu" else 0.0)


def profiled_ms(model: ModelProto, clips: Sequence[np.ndarray], work: Path) -> dict[str, float]:
    """Time of every node in FP32 on this machine, ms a clip: ONNX Runtime's own profile, without its fusions.

    Fused kernels bear other names, so nodes could not be told; for ranking, times before fusion will do.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.log_severity_level = 4
    options.enable_profiling = True
    options.profile_file_prefix = str(work / "profile")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for x in clips:
        session.run(None, {session.get_inputs()[0].name: x})
    path = Path(session.end_profiling())
    taken: dict[str, float] = {}
    for event in json.loads(path.read_text(encoding="utf-8")):
        name, suffix, _ = event.get("name", "").rpartition("_kernel_time")
        if event.get("cat") == "Node" and suffix:
            taken[name] = taken.get(name, 0.0) + event["dur"] / 1e3
    path.unlink()
    return {name: total / len(clips) for name, total in taken.items()}


def _record(found: Found, bench: _Bench) -> dict[str, Any]:
    """What was tried, for the manifest and for people."""
    return {
        "chosen": found.chosen.name,
        "complete": found.complete,
        "times": bench.timed,
        "ranking": {name: {**dataclasses.asdict(item), "total": item.total} for name, item in bench.harms.items()},
        "trials": [
            {
                "name": trial.name,
                "int8": sum(kind == "int8" for kind in trial.assignment.values()),
                "of": len(bench.products),
                **dataclasses.asdict(trial.judged),
                "ms": trial.ms,
            }
            for trial in found.trials
        ],
    }
