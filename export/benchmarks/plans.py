"""Plans of TensorRT-RTX for networks, precisions and targets: which kernels each got, as the builder's log tells.

    python -m export.benchmarks.plans MODEL.onnx... --corpus DIR [--targets 7.5 8.0 8.6 8.9 12.0] [--clips 16]

MODELs are as `signedge export` wrote them. Each is written in fp16 and int8 (symmetric Q/DQ, the rest fp16) and built
for each target in a process of its own; no GPU is needed, and none runs. A row counts the layers that multiply by the
type that they compute in; `fallbacks` are products that the graph has in a narrower type than the plan.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from distill.corpus.store import Corpus
from export.engine import read_exported
from export.precision import Int8Plan, make_precision
from export.precision.placement import PRODUCTS
from export.tailor import Calibration
from runtime.errors import SignedgeError
from runtime.trt.apart import build_apart
from runtime.trt.build import BuildRequest
from runtime.trt.inspect import summary


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--targets", nargs="+", default=["7.5", "8.0", "8.6", "8.9", "12.0"])
    parser.add_argument("--clips", type=int, default=16)
    asked = parser.parse_args()
    print("| network | precision | target | plan KiB | build s | products | others | fallbacks |")
    print("|---|---|---|---|---|---|---|---|")
    for path in asked.models:
        model, contract = read_exported(path)
        inputs = list(Calibration(contract, Corpus(asked.corpus), Int8Plan(clips=asked.clips)).inputs())
        for precision in ("fp16", "int8"):
            made = make_precision(model, precision, inputs, "s8s8", rest="fp16")
            ops = {node.name: node.op_type for node in made.model.graph.node}
            wanted = {name: kind for name, kind in made.plan.assignment.items() if ops.get(name) in PRODUCTS}
            for target in asked.targets:
                print(row_of(path.stem, precision, target, made.to_bytes(), wanted, inputs), flush=True)
    return 0


def row_of(
    name: str, precision: str, target: str, graph: bytes, wanted: dict[str, str], inputs: list[np.ndarray]
) -> str:
    """One row of the table."""
    frames = sorted(clip.shape[1] for clip in inputs)
    profile = {"min": frames[0], "opt": frames[len(frames) // 2], "max": frames[-1]}
    begun = time.monotonic()
    try:
        built = build_apart("tensorrt_rtx", graph, BuildRequest((profile,), compute_capabilities=(target,)))
    except SignedgeError as error:
        return f"| {name} | {precision} | {target} | | | refused: {error} | | |"
    found = summary(built.layers, wanted)
    products, others = (
        ", ".join(f"{kind} {count}" for kind, count in sorted(found[part].items())) for part in ("products", "others")
    )
    fallen = "; ".join(f"{item['node']} {item['wanted']} to {item['got']}" for item in found["fallbacks"]) or "none"
    size, took = len(built.plan) >> 10, time.monotonic() - begun
    return f"| {name} | {precision} | {target} | {size} | {took:.1f} | {products} | {others} | {fallen} |"


if __name__ == "__main__":
    raise SystemExit(main())
