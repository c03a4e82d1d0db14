"""ONNX file -> engine folder: precision, WER gate, and the manifest that chains it to all it was made from."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from devices import profile as profiles
from devices.host import detect
from export.calibration import choose_clips, fingerprint
from export.gate import GateResult, check_corpus, judge, require
from export.onnx_graph import PARITY_KEY, metadata, read_model, versions
from export.parity import TOLERANCE
from export.precision import Int8Plan, make_precision
from runtime.atomic import atomic_folder
from runtime.contract import METADATA_KEY, Contract, RgbInput
from runtime.engine import ENGINE_FILE, MANIFEST, MANIFEST_FORMAT, Engine
from runtime.errors import BadInput, Refused
from runtime.hashing import sha256_file
from runtime.preprocess import prepare

if TYPE_CHECKING:
    from onnx import ModelProto

    from distill.corpus.schema import ClipRow
    from distill.corpus.store import Corpus

TRAIN = "train"
GATE_THREADS = 1  # so that the gate gives the same figures on any number of cores
TOOLS = ("signedge", "onnx", "onnxruntime", "numpy")


def build(
    model: str | Path,
    target: str,
    precision: str,
    corpus: Corpus | None,
    out: str | Path,
    max_wer_rise: float = 0.5,
    plan: Int8Plan | None = None,
) -> dict[str, Any]:
    """Compile `model` (as `signedge export` writes it) for `target` into the engine folder `out`; return its manifest.

    int8 is calibrated on training clips of `corpus` and kept only if its WER on the development split is at most
    `max_wer_rise` points above that of the FP32 graph in the same runtime. fp32 needs no corpus; with one its WER is
    recorded. Raises `BadInput` (broken model, corpus that does not fit), `Refused` (target or precision that cannot be
    built), `CriterionFailed` (gate); in every case nothing is left at `out`.
    """
    profile, warnings = check_request(target, precision)
    model, out = Path(model), Path(out)
    graph, contract = read_exported(model)
    if not 0 <= max_wer_rise < 100:
        raise BadInput(f"--max-wer-rise is in WER points, 0 or more; {max_wer_rise} makes no sense")
    if precision == "int8" and corpus is None:
        raise BadInput("int8 needs --corpus: training clips to calibrate on, and a development split for the WER gate")
    plan = fitted(plan or Int8Plan(), profile)
    if corpus is not None:
        check_corpus(contract, corpus)
        warnings += _other_corpus(contract, corpus)

    with atomic_folder(out) as folder:
        file = folder / ENGINE_FILE
        made: dict[str, Any] = {}
        if precision == "int8":
            assert corpus is not None
            made = _write_int8(graph, contract, file, corpus, plan)
        else:
            file.write_bytes(model.read_bytes())
        result = _gate(file, model, precision, corpus, max_wer_rise)
        if result is not None:
            require(result, f"'{contract.name}' in {precision} for {target}")
            warnings += result.doubts()
        chain = _chain(contract, model, file, corpus, made)
        manifest = {
            "format": MANIFEST_FORMAT,
            "name": contract.name,
            "target": target,
            "precision": precision,
            "runtime": profile.runtime,
            "files": {ENGINE_FILE: chain["engine"]},
            "chain": chain,
            "parity": json.loads(metadata(graph)[PARITY_KEY]),
            "gate": None if result is None else {**dataclasses.asdict(result), "passed": result.passed},
            **made,
            "host": detect().described(),
            "versions": {"python": platform.python_version(), **versions(TOOLS)},
            "warnings": warnings,
        }
        text = json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False)
        (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
        Engine.open(folder, GATE_THREADS)  # what was written must open as any user will open it
    return manifest


def fitted(plan: Int8Plan, profile: profiles.Profile) -> Int8Plan:
    """The plan as it is carried out on this machine: 7 bits for weights where products of 8 bits saturate."""
    return plan if profile.int8_is_exact(detect()) else dataclasses.replace(plan, weight_bits=7)


def check_request(target: str, precision: str) -> tuple[profiles.Profile, list[str]]:
    """The target's profile and warnings. Raises `BadInput` for unknown names, `Refused` for what cannot be built."""
    profile = profiles.load(target)
    if not profile.buildable:
        raise Refused(f"target {target}: {profile.why_not}; build for x86-cpu, or keep the ONNX file for the device")
    if precision not in profile.precisions:
        built = ", ".join(profile.precisions)
        if any(precision in profiles.load(name).precisions for name in profiles.names()):
            raise Refused(f"target {target} has no {precision}; it has: {built}")
        raise BadInput(f"no precision '{precision}'; target {target} has: {built}")
    host = detect()
    if not profile.runs_on(host):
        raise Refused(f"an engine for {target} passes its WER gate on such a machine; this one is {host.machine}")
    if precision == "int8" and not profile.int8_is_exact(host):
        return profile, ["built on a CPU without VNNI: weights keep 7 bits, and INT8 gains less than with VNNI"]
    return profile, []


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


def _write_int8(graph: ModelProto, contract: Contract, file: Path, corpus: Corpus, plan: Int8Plan) -> dict[str, Any]:
    clips = choose_clips(corpus.split(TRAIN), plan.clips, plan.seed)
    inputs = _prepared(contract, corpus, clips)
    precision = make_precision(graph, "int8", inputs, options=plan)
    file.write_bytes(precision.to_bytes())
    lengths = [row.frames for row in clips]
    return {
        "plan": dataclasses.asdict(plan),
        "calibration": {
            "split": TRAIN,
            "clips": [row.id for row in clips],
            "frames": {"shortest": min(lengths), "median": float(np.median(lengths)), "longest": max(lengths)},
            "signers": sorted({row.signer for row in clips}),
            "hash": fingerprint(clips),
        },
        "decisions": [dataclasses.asdict(item) for item in precision.plan.decisions],
        "ranges": {name: [round(low, 6), round(high, 6)] for name, (low, high) in precision.plan.ranges.items()},
        "precision_plan": precision.report,
    }


def _prepared(contract: Contract, corpus: Corpus, rows: list[ClipRow]) -> Iterator[np.ndarray]:
    rgb = isinstance(contract.input, RgbInput)
    for row in rows:
        clip = corpus.load(row, frames=rgb, keypoints=not rgb)
        yield prepare(contract, clip.frames, clip.keypoints)


def _gate(file: Path, model: Path, precision: str, corpus: Corpus | None, budget: float) -> GateResult | None:
    """The gate's result; None for fp32 without a corpus, whose parity with the checkpoint was shown already."""
    if corpus is None:
        return None
    baseline = Engine.from_onnx(model, GATE_THREADS)
    engine = baseline if precision == "fp32" else Engine.from_onnx(file, GATE_THREADS)
    return judge(engine, baseline, corpus, budget)


def _chain(contract: Contract, model: Path, file: Path, corpus: Corpus | None, made: dict[str, Any]) -> dict[str, str]:
    """Hashes of everything the engine was made from, from the corpus on."""
    return {
        **{name: contract.sources.get(name, "") for name in ("corpus", "recipe", "checkpoint")},
        "onnx": sha256_file(model),
        "calibration": made["calibration"]["hash"] if made else "",
        "gate_corpus": corpus.fingerprint() if corpus else "",
        "engine": sha256_file(file),
    }


def _other_corpus(contract: Contract, corpus: Corpus) -> list[str]:
    trained_on = contract.sources.get("corpus", "")
    if not trained_on or corpus.fingerprint() == trained_on:
        return []
    return [f"corpus {corpus.folder.name} is not the one that the model was trained on (its hash differs)"]
