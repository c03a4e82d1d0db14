"""What is inside a plan: its layers, the type that each computes in, and what fell back to a wider one.

A machine with a driver asks the engine inspector. TensorRT-RTX builds without one; there the build log tells: at its
most verbose it lists every layer of the finished engine with types and tactic.
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from runtime.errors import Refused
from runtime.trt.module import Line, has, label, logger_of

# As inspectors and logs of the versions write a type -> as we do. The first that matches decides.
TYPES = (
    (r"\bint8\b", "int8"), (r"\bint4\b", "int4"), (r"\b(fp8|e4m3\w*)\b", "fp8"), (r"\b(fp4|e2m1\w*)\b", "fp4"),
    (r"\b(bf16|bfloat16)\b", "bf16"), (r"\b(fp16|half)\b", "fp16"), (r"\b(fp32|float)\b", "fp32"),
    (r"\bint64\b", "int64"), (r"\bint32\b", "int32"), (r"\bbool\b", "bool"), (r"\buint8\b", "uint8"),
)  # fmt: skip
WIDTHS = {"int4": 0, "fp4": 0, "int8": 1, "fp8": 1, "fp16": 2, "bf16": 2, "fp32": 4}  # bytes: what may fall back
# Layers that multiply: convolutions, matrix products and fusions of them. The rest moves data or works by element.
PRODUCTS = re.compile(r"conv|correlation|gemm|matmul|matrix|fullyconnected|\bfc\b|fusion|mha|attention|lstm|rnn", re.I)
NOT_PRODUCTS = re.compile(r"reformat|convert|\bcast\b", re.I)
TOLD = 5  # fallbacks named in one line
UNTOLD = re.compile(r"myelin|foreignnode", re.I)  # a block of many kernels, of which versions before 10 say nothing


def layers_from_plan(trt: Any, plan: bytes, dla_core: Optional[int] = None) -> List[Dict[str, Any]]:
    """Layers of a plan by the engine inspector: see `layer`. Needs the GPU that the plan is for; `Refused` without."""
    from runtime.trt import cuda

    cuda.require_driver()
    runtime = trt.Runtime(logger_of(trt))
    if dla_core is not None:
        runtime.DLA_core = dla_core
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise Refused(f"{label(trt)} does not read this plan back on this machine")
    return layers_of_engine(trt, engine)


def layers_of_engine(trt: Any, engine: Any) -> List[Dict[str, Any]]:
    """Layers of a deserialised engine, by its inspector."""
    if not has(trt, "EngineInspector"):
        return []
    return layers_from_json(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON))


def layers_from_json(text: str) -> List[Dict[str, Any]]:
    """Layers from the inspector's JSON, of tensorrt 8.2 on; also from what `trtexec --exportLayerInfo` writes."""
    found = json.loads(text)
    entries = found["Layers"] if isinstance(found, dict) else found
    return [_from_entry(entry) for entry in entries]


def layers_from_log(lines: Sequence[Line]) -> List[Dict[str, Any]]:
    """Layers as the most verbose log of TensorRT-RTX lists them after a build; none where it holds no list."""
    listings = [line.text for line in lines if line.text.startswith("Layers:\n")]
    if not listings:
        return []
    rows = listings[-1].split("\n\n")[0].split("\n")[1:]
    return [_from_entry(dict(_pairs(row)), "log") for row in rows if row.startswith("Name: ")]


def layer(
    name: str, kind: str, inputs: Sequence[str], constants: Sequence[str], outputs: Sequence[str], tactic: str,
    nodes: Sequence[str], source: str,
) -> Dict[str, Any]:  # fmt: skip
    """One layer, JSON-able: `inputs`, `constants`, `outputs` are types; `nodes` the ONNX nodes it came from.

    `precision` is the type it computes in: the narrowest floating or 8-bit type among its inputs, for sums that ride
    along with a product come in wider; of its constants where it has no such input; "none" where it has neither, and
    "unknown" where the version does not tell. `product`: whether it is a convolution or a matrix product.
    """
    told = [kind_ for kind_ in inputs if kind_ in WIDTHS] or [kind_ for kind_ in constants if kind_ in WIDTHS]
    precision = min(told, key=lambda kind_: WIDTHS[kind_]) if told else "none"
    if kind == "unknown" or UNTOLD.search(kind):
        precision = "unknown"
    return {
        "name": name, "kind": kind, "precision": precision,
        "product": bool(PRODUCTS.search(kind)) and not NOT_PRODUCTS.search(kind),
        "inputs": list(inputs), "constants": list(constants), "outputs": list(outputs),
        "tactic": tactic, "nodes": list(nodes), "source": source,
    }  # fmt: skip


def summary(
    layers: Sequence[Mapping[str, Any]], wanted: Optional[Mapping[str, str]] = None, dla: bool = False
) -> Dict[str, Any]:
    """Counts of layers a precision, and fallbacks; JSON-able.

    `products` counts the layers that multiply, which is where a precision pays; `others` the rest; `unknown` blocks
    that a version tells nothing of. `wanted` is a plan of precisions, {node: precision}: a node that its layers
    compute in a wider type is a fallback; with `dla`, so is every layer that was left to the GPU.
    """
    counts: Dict[str, Dict[str, int]] = {"products": {}, "others": {}}
    for item in layers:
        place = counts["products" if item["product"] else "others"]
        place[item["precision"]] = place.get(item["precision"], 0) + 1
    unknown = counts["others"].pop("unknown", 0) + counts["products"].pop("unknown", 0)
    fallbacks = list(_wider(layers, wanted or {}))
    if dla:
        left = [item["name"] for item in layers if "DLA" not in item["kind"].upper()]
        fallbacks += [{"node": name, "wanted": "DLA", "got": "GPU"} for name in left]
    return {**counts, "unknown": unknown, "fallbacks": fallbacks}


def against(
    decisions: Sequence[Mapping[str, Any]], layers: Sequence[Mapping[str, Any]], dla: bool = False
) -> Dict[str, Any]:
    """The `summary` of layers held against what a manifest says was decided of the nodes."""
    return summary(layers, {item["node"]: item["precision"] for item in decisions}, dla)


def told(counts: Mapping[str, Any]) -> str:
    """A `summary` as a sentence: what multiplies in which type, and what fell back."""
    if not counts["products"] and not counts["others"] and not counts["fallbacks"]:
        return "of its layers nothing is told, so neither of what fell back"
    products = [f"{count} in {kind}" for kind, count in sorted(counts["products"].items())]
    says = f"products: {', '.join(products) or 'none'}"
    if counts["unknown"]:
        says += f"; of {counts['unknown']} blocks nothing is told; of the rest"
    some = [f"{item['node']} ({item['wanted']}, got {item['got']})" for item in counts["fallbacks"]]
    if not some:
        return f"{says}{'' if counts['unknown'] else ';'} nothing fell back"
    more = f" and {len(some) - TOLD} more" if len(some) > TOLD else ""
    return f"{says}{'' if counts['unknown'] else ';'} fell back: {', '.join(some[:TOLD])}{more}"


def _wider(layers: Sequence[Mapping[str, Any]], wanted: Mapping[str, str]) -> Iterator[Dict[str, str]]:
    """The nodes of `wanted` that a layer computes in a wider type than was asked for."""
    for node, asked in wanted.items():
        made = [item for item in layers if node in item["nodes"] and item["precision"] in WIDTHS]
        deciding = [item for item in made if item["product"]] or made
        if asked in WIDTHS and deciding:
            got = min((item["precision"] for item in deciding), key=lambda kind: WIDTHS[kind])
            if WIDTHS[got] > WIDTHS[asked]:
                yield {"node": node, "wanted": asked, "got": got}


def _from_entry(entry: Any, source: str = "inspector") -> Dict[str, Any]:
    """One entry of the inspector's JSON, or of the log's list, which has the same keys."""
    if isinstance(entry, str):  # a plan built without detailed verbosity gives names alone
        return layer(entry, "unknown", (), (), (), "", _nodes(entry, ""), source)
    name = str(entry.get("Name", ""))
    constants = [*_types(entry.get("Constants", ())), *_weight_types(entry)]
    return layer(
        name, str(entry.get("LayerType", "unknown")), _types(entry.get("Inputs", ())), constants,
        _types(entry.get("Outputs", ())), str(entry.get("TacticName", "")),
        _nodes(name, str(entry.get("Metadata", ""))), source,
    )  # fmt: skip


def _types(tensors: Any) -> List[str]:
    if isinstance(tensors, str):  # the log: [ { Name: x, ..., Datatype: Half, Format: ... }]
        return [_type(found) for found in re.findall(r"Datatype: (\w+)", tensors)]
    return [_type(str(entry.get("Datatype") or entry.get("Format/Datatype", ""))) for entry in tensors]


def _weight_types(entry: Mapping[str, Any]) -> List[str]:
    """Types of weights, which older versions keep apart: Weights, ConvWeights {"Type": "Half"}."""
    found = [value for key, value in entry.items() if key.endswith("Weights") and isinstance(value, Mapping)]
    return [_type(str(value.get("Type", ""))) for value in found]


def _type(text: str) -> str:
    return next((ours for pattern, ours in TYPES if re.search(pattern, text, re.I)), text.lower() or "unknown")


def _nodes(name: str, metadata: str) -> List[str]:
    """ONNX nodes: of the metadata (8.6 on), else of the name, in which fused nodes are joined by ' + '."""
    told = re.findall(r"\[ONNX Layer: (.*?)\](?=[^\w.\]/]|$)", metadata)
    return list(dict.fromkeys(told)) if told else [part for part in name.split(" + ") if part]


def _pairs(row: str) -> Iterator[Tuple[str, str]]:
    """'Key: value, Key: [ {..}, {..} ], ...' -> its keys and values, split where no bracket is open."""
    depth = start = 0
    for at, character in enumerate(row):
        depth += (character in "[{") - (character in "]}")
        if depth == 0 and row.startswith(", ", at) and re.match(r", [A-Z]\w*: ?", row[at:]):
            yield _pair(row[start:at])
            start = at + 2
    yield _pair(row[start:])


def _pair(text: str) -> Tuple[str, str]:
    key, _, value = text.partition(":")
    return key, value.strip()
