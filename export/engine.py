"""ONNX file -> engine folder: fitted to its target, gated by WER, with the manifest that chains it to its origins."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from devices.host import detect
from devices.profile import Resolved, resolve
from export.backends.base import backend
from export.gate import SPLIT, GateResult, check_corpus, check_split, doubts, judge
from export.length import of_one_length, window
from export.onnx_graph import PARITY_KEY, metadata, read_model, versions
from export.parity import TOLERANCE
from export.precision import Int8Plan, report
from export.tailor import (
    AUTO,
    NEEDS_CLIPS,
    TENSORRT,
    TRAIN,
    Calibration,
    Cut,
    Lowering,
    dialect_of,
    fitted,
    in_precision,
    lowered,
)
from runtime.atomic import atomic_folder
from runtime.contract import METADATA_KEY, Contract
from runtime.device.judging import require
from runtime.engine import DEFAULT_RUNTIME, MANIFEST, MANIFEST_FORMAT, Engine
from runtime.errors import BadInput, Refused
from runtime.hashing import sha256_file
from runtime.trt.build import HARDWARE_LEVELS, BuildRequest
from runtime.trt.inspect import against
from runtime.trust import sign

if TYPE_CHECKING:
    from onnx import ModelProto

    from distill.corpus.store import Corpus

PRECISIONS = ("fp32", "fp16", "int8", AUTO)
GATE_THREADS = 1  # so that the gate gives the same figures on any number of cores
TOOLS = ("signedge", "onnx", "onnxruntime", "numpy")
AMPERE = 8.0  # compute capability
LONGER = 1.5  # times the longest clip: what a plan is built for at most


@dataclass(frozen=True)
class Order:
    """What is asked of one compilation."""

    target: str = "x86-cpu"  # a name of `signedge devices list`, with @software where not its first
    precision: str = "int8"  # of PRECISIONS
    max_wer_rise: float = 0.5  # WER points over FP32 that the engine may lose
    int8: Int8Plan = field(default_factory=Int8Plan)
    minutes: float = 10.0  # that a search (auto) may take
    frames: int = 0  # the only length of clip that the engine takes; 0: any, with `dla` the window of the contract
    dla: bool = False  # on the deep learning accelerator of Jetson modules that have one
    device: str = ""  # user@host[:port] of the machine that builds it over SSH; "": this one, if it is the target
    onnxruntime: str = ""  # a libonnxruntime.so of the target, which its bundle takes along for the CPU
    asked: Mapping[str, Any] = field(default_factory=dict)  # what else is asked of TensorRT: fields of a BuildRequest

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise BadInput(f"no precision '{self.precision}'; there are: {', '.join(PRECISIONS)}")
        if not 0 <= self.max_wer_rise < 100:
            raise BadInput(f"--max-wer-rise is in WER points, 0 or more; {self.max_wer_rise} makes no sense")
        if self.dla and self.precision == AUTO:
            raise Refused("auto chooses by time, and of DLA no times are known: --precision fp16 or int8")
        if not 0 < self.minutes < 10_000:
            raise BadInput(f"--budget-minutes is the time that a search may take; {self.minutes} makes no sense")


@dataclass(frozen=True)
class Job:
    """An order that can be carried out: the model read, the target resolved, the graph as its dialect reads it."""

    order: Order
    model: Path
    source: ModelProto  # what `model` holds
    contract: Contract
    target: Resolved
    elsewhere: str  # why its engine is not made on this machine; "" where it is
    corpus: Corpus | None
    lowering: Lowering
    calibration: Calibration | None
    warnings: tuple[str, ...]

    @property
    def plan(self) -> Int8Plan:
        """The INT8 options as this target carries them out."""
        return fitted(self.order.int8, self.target)

    @property
    def lacks(self) -> str:
        """The Python module that is all that this target, at hand, lacks; its system's Python may have it."""
        here = backend(self.target.software.runtime).available(self.target.profile)
        return here.lacks if self.target.at_hand else ""

    def cut(self) -> Cut:
        """The graph in the precision that was ordered (not auto)."""
        return in_precision(self.lowering.graph, self.order.precision, self.calibration, self.target, self.plan)

    def request(self, flags: dict[str, Any]) -> BuildRequest | None:
        """What a compiling runtime is asked for; None for one that reads the graph as it is."""
        return request_for(self.target, self.contract, self.corpus, {**flags, **self.order.asked})


def start(model: str | Path, order: Order, corpus: Corpus | None) -> Job:
    """Read, resolve, check and lower. Raises `BadInput` (broken model, unfit corpus), `Refused` (target, precision)."""
    model = Path(model)
    source, contract = read_exported(model)
    if any(node.op_type == "QuantizeLinear" for node in source.graph.node):
        raise BadInput(f"{model} is quantised already: give the file that `signedge export` wrote")
    target = _resolved(order)
    elsewhere = _elsewhere(order, target)
    if order.dla and target.profile.dla is None:
        raise Refused(f"{target.profile.name} has no DLA: leave out --dla")
    _require_plan(order.asked, target)
    _require_clips(order, contract, corpus, "" if elsewhere else target.software.runtime)
    graph, said = source, [*target.said, *([target.software.note] if target.software.note else [])]
    if corpus is not None:
        said += _other_corpus(contract, corpus)
    if order.precision == "int8" and fitted(order.int8, target).weight_bits == 7:
        said.append("built for a CPU without VNNI: weights keep 7 bits, and INT8 gains less than with VNNI")
    if order.frames or order.dla or contract.padding.frames:
        graph, contract, difference = of_one_length(source, contract, order.frames or window(contract))
        said.append(_one_length(contract, difference))
    lowering = lowered(graph, contract, target, order.precision)
    if order.dla:
        said.append(lowering.facts["dla"])
    calibrated = corpus is not None and order.precision in NEEDS_CLIPS
    calibration = Calibration(contract, corpus, order.int8) if corpus is not None and calibrated else None
    return Job(order, model, source, contract, target, elsewhere, corpus, lowering, calibration, tuple(said))


def _require_clips(order: Order, contract: Contract, corpus: Corpus | None, runtime: str) -> None:
    """Raise `BadInput` for a corpus that does not fit, or for none where something has to be read.

    runtime: what the engine runs in, where it is made here; a bundle asks for its clips itself.
    """
    if corpus is not None:
        check_corpus(contract, corpus)
        check_split(corpus)
    elif order.precision in NEEDS_CLIPS:
        needs = "training clips to calibrate on, and a development split for the WER gate"
        raise BadInput(f"{order.precision} needs --corpus: {needs}")
    elif order.frames or order.dla:
        raise BadInput("an engine of one length needs --corpus: what its windows cost shows in the WER alone")
    elif runtime and runtime != DEFAULT_RUNTIME:
        needs = "nothing but the clips of its gate tells what that runtime makes of the graph"
        raise BadInput(f"an engine of {runtime} needs --corpus, in fp32, too: {needs}")


def _resolved(order: Order) -> Resolved:
    """The target, as the machine that builds it is: this one, or the device."""
    if not order.device:
        return resolve(order.target)._replace(dla=order.dla)
    from export.ship import looked_at

    with looked_at(order.device) as root:
        return resolve(order.target, root)._replace(at_hand=False, dla=order.dla)


def _require_plan(asked: Mapping[str, Any], target: Resolved) -> None:
    """Raise `BadInput` or `Refused` where the target's software makes no such plan."""
    if not asked:
        return
    software, plans = target.software, dialect_of(target).plans
    if software.runtime not in TENSORRT:
        raise BadInput(f"{', '.join(asked)}: that is asked of TensorRT, and {software.runtime} builds no plans")
    if asked.get("version_compatible") and not plans.version_compatible:
        raise Refused(f"{software.name} makes no version-compatible plans: {plans.says}")
    level, capability = asked.get("hardware_compatible", ""), target.profile.compute_capability
    if level and level not in HARDWARE_LEVELS:
        raise BadInput(f"no hardware level '{level}'; there are: {', '.join(HARDWARE_LEVELS)}")
    if level and level not in plans.hardware_compatible:
        raise Refused(f"{software.name} makes no plans of hardware level '{level}': {plans.says}")
    if level == "ampere_plus" and (target.profile.soc or float(capability) < AMPERE):
        raise Refused(f"no plans of hardware level '{level}' for {target.profile.name} ({capability}): {plans.says}")


def _elsewhere(order: Order, target: Resolved) -> str:
    if order.device:
        return f"it is built on {order.device}"
    if not target.at_hand:
        return f"this machine is no {target.profile.name} with {target.software.name}"
    return backend(target.software.runtime).available(target.profile).why_not


def build(
    model: str | Path,
    target: str,
    precision: str,
    corpus: Corpus | None,
    out: str | Path,
    max_wer_rise: float = 0.5,
    plan: Int8Plan | None = None,
) -> dict[str, Any]:
    """Compile `model` (as `signedge export` writes it) for `target`, which this machine must be; return the manifest.

    fp16 and int8 are planned on training clips of `corpus`; the engine is kept only if its WER on the development
    split is at most `max_wer_rise` points above that of the exported graph in ONNX Runtime. fp32 in ONNX Runtime needs
    no corpus: its graphs were shown to equal the checkpoint. Raises `BadInput` (broken model, corpus that does not
    fit), `Refused` (target or precision that cannot be built here), `CriterionFailed` (gate); in every case nothing is
    left at `out`.
    """
    order = Order(target, precision, max_wer_rise, plan or Int8Plan())
    return build_here(start(model, order, corpus), Path(out))


def build_here(job: Job, out: Path, cut: Cut | None = None, runtime: str = "") -> dict[str, Any]:
    """Carry out a job on this machine; see `build`. `cut` and `runtime` are what a search has found."""
    if job.elsewhere:
        why = job.elsewhere
        raise Refused(f"an engine passes its WER gate on the machine that it is for: {why}; build a bundle for it")
    runtime = runtime or job.target.software.runtime
    engines = backend(runtime)
    with atomic_folder(out) as folder:
        cut = cut or job.cut()
        request = job.request(cut.flags)
        built = engines.build(cut.graph, job.contract, folder, request)
        result = _gate(engines.load(folder, GATE_THREADS, request), job, cut, runtime)
        warnings = list(job.warnings)
        if result is None:
            warnings.append("no WER gate: without --corpus there was nothing to read")
        else:
            require(result, f"'{job.contract.name}' in {job.order.precision} for {job.target.profile.name}")
            warnings += doubts(result.clips, result.baseline_wer)
        if cut.facts.get("decisions"):
            (folder / report.FILE).write_text(report.page(job.contract.name, cut.facts), encoding="utf-8")
        files = {path.name: sha256_file(path) for path in sorted(folder.iterdir())}
        manifest = sign({
            "format": MANIFEST_FORMAT,
            "name": job.contract.name,
            **described(job, runtime),
            "files": files,
            "chain": {**origins(job, cut), "engine": files[built.files[0]]},
            "parity": parity(job),
            "gate": None if result is None else result.described(),
            **job.lowering.facts,
            **cut.facts,
            **built.facts,
            **_inside(cut, built.facts, job.target.dla),
            "host": detect().described(),
            "versions": {"python": platform.python_version(), **versions(TOOLS), **built.versions},
            "warnings": warnings,
        })  # fmt: skip
        text = json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False)
        (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
        Engine.open(folder, GATE_THREADS, trust=True)  # it must open as any user will open it; ours, even if unsigned
    return manifest


def _inside(cut: Cut, facts: Mapping[str, Any], dla: bool) -> dict[str, Any]:
    """What the layers of a plan compute in, and where that is not what was decided; nothing where there are none."""
    if "layers" not in facts:
        return {}
    return {"inside": against(cut.facts.get("decisions", []), facts["layers"], dla)}


def described(job: Job, runtime: str) -> dict[str, Any]:
    """What the engine is for: the target as it was named, the machine and software that it stands for, its length."""
    return {
        "target": job.order.target.partition("@")[0],
        "machine": job.target.profile.name,
        "software": job.target.software.key,
        "precision": job.order.precision,
        "runtime": runtime,
        **({"frames": job.contract.padding.frames} if job.contract.padding.frames else {}),
    }


def origins(job: Job, cut: Cut) -> dict[str, str]:
    """Hashes of everything that the engine is made from, from the corpus on."""
    return {
        **{name: job.contract.sources.get(name, "") for name in ("corpus", "recipe", "checkpoint")},
        "onnx": sha256_file(job.model),
        "calibration": cut.facts["calibration"]["hash"] if "calibration" in cut.facts else "",
        "gate_corpus": job.corpus.fingerprint() if job.corpus else "",
    }


def parity(job: Job) -> Any:
    """How near the graph is to its checkpoint, as its export showed it."""
    return json.loads(metadata(job.source)[PARITY_KEY])


def request_for(
    target: Resolved, contract: Contract, corpus: Corpus | None, flags: dict[str, Any]
) -> BuildRequest | None:
    """What the target's runtime is asked for, if it compiles; see `Job.request`."""
    if target.software.runtime not in TENSORRT:
        return None
    rtx = target.software.runtime == "tensorrt-rtx"
    return BuildRequest(
        profiles=length_profiles(contract, corpus),
        compute_capabilities=(target.profile.compute_capability,) if rtx else (),
        dla_core=0 if target.dla else None,
        **flags,
    )


def length_profiles(contract: Contract, corpus: Corpus | None) -> tuple[dict[str, int], ...]:
    """Optimisation profiles by length, in padded frames: one for every length, then one for each half of the clips.

    The first alone serves a runtime that knows one only; a graph of one length has none. The clips are those that
    ranges are taken on and those of the gate, all of which must fit. Without a corpus, the window of the contract
    stands for the longest clip.
    """
    padding = contract.padding
    if padding.frames:
        return ()
    lengths = sorted(row.frames for row in corpus.rows if row.split in (TRAIN, SPLIT)) if corpus is not None else []
    lengths = lengths or [contract.chunk // 2 or 64, contract.chunk or 256]
    shortest, usual = padding.total(1), padding.total(int(np.median(lengths)))
    longest, most = padding.total(lengths[-1]), padding.total(int(lengths[-1] * LONGER))
    every = {"min": shortest, "opt": usual, "max": most}
    halves = [{"min": shortest, "opt": usual, "max": usual}, {"min": usual, "opt": longest, "max": most}]
    return (every, *(halves if shortest < usual < longest else []))


def read_exported(path: Path) -> tuple[ModelProto, Contract]:
    """An exported ONNX file and its contract. Raises `BadInput` if either is broken or parity was never shown."""
    graph = read_model(path)
    texts = metadata(graph)
    if METADATA_KEY not in texts:
        raise BadInput(f"{path} has no contract (metadata '{METADATA_KEY}'); make it with: signedge export")
    contract = Contract.from_json(texts[METADATA_KEY])
    try:
        shown = [float(item["difference"]) for item in json.loads(texts.get(PARITY_KEY, ""))["lengths"]]
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} carries no parity with its checkpoint; make it with: signedge export") from error
    if len(shown) < 3 or not max(shown) <= TOLERANCE:
        raise BadInput(f"{path} does not equal its checkpoint (parity {max(shown, default=0):.1e}); export it again")
    return graph, contract


def _gate(engine: Engine, job: Job, cut: Cut, runtime: str) -> GateResult | None:
    """The gate's result; None without a corpus, as `start` lets only graphs of ONNX Runtime in fp32 be."""
    if job.corpus is None:
        return None
    unchanged = cut.graph is job.source and runtime == DEFAULT_RUNTIME
    baseline = engine if unchanged else Engine.from_onnx(job.model, GATE_THREADS)
    return judge(engine, baseline, job.corpus, job.order.max_wer_rise)


def _one_length(contract: Contract, difference: float) -> str:
    padded = "shorter ones are filled up with their last frame, longer ones read through windows"
    apart = f"; at that length it differs from the exported graph by {difference:.0e} at most" if difference else ""
    return f"made for clips of {contract.padding.frames} frames: {padded}{apart}"


def _other_corpus(contract: Contract, corpus: Corpus) -> list[str]:
    trained_on = contract.sources.get("corpus", "")
    if not trained_on or corpus.fingerprint() == trained_on:
        return []
    return [f"corpus {corpus.folder.name} is not the one that the model was trained on (its hash differs)"]
