"""Placements of INT8 compared on one network: ours, ONNX Runtime's default, ModelOpt's: size, speed, WER of each.

    python -m export.benchmarks.placements MODEL.onnx --corpus DIR [--modelopt PYTHON] [--clips 48] [--rounds 60]

MODEL is as `signedge export` wrote it. All are calibrated on the same training clips and run in ONNX Runtime on this
CPU, one thread. Times: the development clip of median length, batch 1, the files taking turns, so that whatever else
the machine does falls on all alike; `faster` is the median over the turns of fp32's time over this one's. WER: greedy
decoding of the development split; `rise` with its 95 % interval (paired bootstrap). PYTHON is the interpreter of an
environment with nvidia-modelopt[onnx], which wants other versions of onnx than this project.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from devices.host import detect
from distill.corpus.store import Corpus
from export.engine import read_exported
from export.gate import SPLIT, GateResult, judge
from export.graph import GraphView
from export.onnx_graph import quiet, read_model
from export.precision import Int8Plan, make_precision, write
from export.precision.int8 import decide, plan_for
from export.precision.placement import PRODUCTS
from export.tailor import Calibration
from runtime.engine import INPUT, Engine, open_session
from runtime.errors import SignedgeError
from runtime.preprocess import prepare

MODELOPT = """
import sys, numpy, modelopt.onnx.quantization as quantization
model, clips, out, kind = sys.argv[1:]
stored = numpy.load(clips)
class Reader:
    def __init__(self): self.names = iter(stored.files)
    def get_next(self):
        name = next(self.names, None)
        return None if name is None else {"input": stored[name]}
    def rewind(self): self.names = iter(stored.files)
    def get_first(self): return {"input": stored[stored.files[0]]}
quantization.quantize(model, "int8", calibration_data_reader=Reader(), calibration_eps=["cpu"], output_path=out,
                      high_precision_dtype=kind, log_level="ERROR")
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--modelopt", metavar="PYTHON", help="interpreter of an environment with nvidia-modelopt[onnx]")
    parser.add_argument("--clips", type=int, default=48, help="calibration clips")
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="signedge.") as work:
            _compare(options, Path(work))
    except SignedgeError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _compare(options: argparse.Namespace, work: Path) -> None:
    graph, contract = read_exported(options.model)
    corpus = Corpus(options.corpus)
    inputs = list(Calibration(contract, corpus, Int8Plan(clips=options.clips)).inputs())
    files = {"fp32": options.model}
    for name, make in _placements(options, graph, inputs, work).items():
        try:
            with quiet():
                files[name] = make(work / f"{name.replace(' ', '-')}.onnx")
        except Exception as error:  # whatever another tool raises: it is told, and the others are compared
            print(f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:200]}", file=sys.stderr)
    rows = sorted(corpus.split(SPLIT), key=lambda row: row.frames)
    clip = corpus.load(rows[len(rows) // 2])
    x = prepare(contract, clip.frames, clip.keypoints)
    times = _times(files, x, options.rounds)
    cpu = detect().described()["cpu"]
    print(f"{contract.name}: {x.shape[1]} frames, {cpu}, one thread; {len(inputs)} calibration clips")
    print(f"{'placement':<24}{'int8':>6}{'Q':>5}{'DQ':>5}{'KiB':>8}{'ms':>9}{'faster':>8}{'WER':>8}  rise")
    baseline = Engine.from_onnx(options.model, 1)
    for name, file in files.items():
        view = GraphView(read_model(file))
        ops = [node.op_type for node in view.graph.node]
        result = judge(baseline if name == "fp32" else Engine.from_onnx(file, 1), baseline, corpus, 0.5)
        faster = np.median(times["fp32"] / times[name])
        print(
            f"{name:<24}{_eight(view):>6}{ops.count('QuantizeLinear'):>5}{ops.count('DequantizeLinear'):>5}"
            f"{file.stat().st_size / 1024:>8.0f}{np.median(times[name]):>9.3f}{faster:>8.2f}{_wer(result)}",
            flush=True,
        )


def _placements(
    options: argparse.Namespace, graph: onnx.ModelProto, inputs: list[np.ndarray], work: Path
) -> dict[str, Callable[[Path], Path]]:
    """name -> what writes that placement's file."""

    def ours(out: Path) -> Path:
        out.write_bytes(make_precision(graph, "int8", inputs).to_bytes())
        return out

    def products(out: Path) -> Path:
        layers = {item.node for item in decide(graph) if item.precision == "int8" and item.op in PRODUCTS}
        chosen = [item for item in decide(graph) if item.node in layers or item.op == "Relu"]
        plan = plan_for(graph, chosen, inputs, Int8Plan())
        out.write_bytes(write(graph, plan, "u8s8").SerializeToString(deterministic=True))
        return out

    def default(out: Path) -> Path:
        return _onnxruntime(options.model, inputs, out)

    def default_for_x86(out: Path) -> Path:
        from onnxruntime.quantization import QuantType

        return _onnxruntime(options.model, inputs, out, activation_type=QuantType.QUInt8, per_channel=True)

    def modelopt(out: Path) -> Path:
        stored = work / "clips.npz"
        np.savez(stored, *inputs)
        command = [options.modelopt, "-c", MODELOPT, str(options.model), str(stored), str(out), "fp32"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not out.is_file():
            raise RuntimeError((done.stderr or done.stdout).strip()[-200:])
        return _with_metadata(out, graph)

    made: dict[str, Callable[[Path], Path]] = {
        "ours": ours, "ours, products only": products, "ORT default": default, "ORT u8s8 per channel": default_for_x86,
    }  # fmt: skip
    return {**made, "ModelOpt": modelopt} if options.modelopt else made


def _onnxruntime(model: Path, inputs: list[np.ndarray], out: Path, **types: Any) -> Path:
    """quantize_static as it comes: every operator that it knows."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rest = iter(inputs)

        def get_next(self) -> dict[str, np.ndarray] | None:
            x = next(self.rest, None)
            return None if x is None else {INPUT: x}

    quantize_static(model, out, Reader(), **types)
    return _with_metadata(out, read_model(model))


def _with_metadata(file: Path, graph: onnx.ModelProto) -> Path:
    made = onnx.load(str(file))
    del made.metadata_props[:]
    made.metadata_props.extend(graph.metadata_props)
    file.write_bytes(made.SerializeToString())
    return file


def _eight(view: GraphView) -> int:
    """Nodes that read a dequantised tensor or integers of eight bits: those that may run in INT8."""
    eight = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    found = 0
    for node in view.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            continue
        makers = [view.maker[name].op_type for name in node.input if name in view.maker and not view.is_constant(name)]
        found += "DequantizeLinear" in makers or any(view.dtype(name) in eight for name in node.input if name)
    return found


def _times(files: dict[str, Path], x: np.ndarray, rounds: int) -> dict[str, np.ndarray]:
    """name -> ms of every round; in each round every file runs once outside the clock, then three times in it."""
    sessions = {name: open_session(file, threads=1) for name, file in files.items()}
    times: dict[str, list[float]] = {name: [] for name in files}
    for _ in range(rounds):
        for name, session in sessions.items():
            session.run(None, {INPUT: x})
            taken = []
            for _ in range(3):
                start = time.perf_counter()
                session.run(None, {INPUT: x})
                taken.append(time.perf_counter() - start)
            times[name].append(min(taken) * 1e3)
    return {name: np.array(values) for name, values in times.items()}


def _wer(result: GateResult) -> str:
    if result.rise == 0 == result.changed:
        return f"{result.wer:>8.2f}"
    return f"{result.wer:>8.2f}  {result.rise:+.2f} ({result.low:+.2f} to {result.high:+.2f})"


if __name__ == "__main__":
    sys.exit(main())
