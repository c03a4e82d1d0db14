"""Dialects: what one version of a runtime reads, as data in `dialects/*.toml`, validated on load.

A dialect tells the operators it has and the limits of each. It knows nothing of graphs: a limit names a test of
`TESTS`, which `export/rules.py` asks of a node. A file may be `based_on` another and tell only what differs.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Dict, FrozenSet, List, Optional, Tuple

from runtime.errors import BadInput

FOLDER = Path(__file__).parent / "dialects"
TYPINGS = ("weak", "both", "strong")
FLAVOURS = ("u8s8", "s8s8")
BIASES = ("int32", "float")

# Tests that a limit may name, and the type of its `value`. Each says when a node breaks the limit.
TESTS: Dict[str, type] = {
    "always": bool,  # any use of the operator
    "attribute_only": dict,  # an attribute that is present has another value than the one given
    "attribute_one_of": dict,  # an attribute that is present is not in the list given
    "attribute_all_ones": str,  # the list attribute of this name holds something else than 1
    "attribute_largest": dict,  # a number of the list attribute is larger
    "attribute_matches": dict,  # the text of an attribute matches the pattern
    "input_constant": list,  # one of these inputs is there, but computed
    "input_absent": list,  # one of these inputs is there
    "input_present": list,  # one of these inputs is missing
    "input_at_most": dict,  # a constant number in this input (by index) is larger
    "input_type_only": dict,  # the element type of this input (by index) is known and not in the list
    "outputs_at_most": int,  # a later output than these is used
    "dynamic_shape": bool,  # an axis of the first input is not a number
    "rank_only": list,  # the rank of the first input is known and not in the list
    "einsum_operands_at_most": int,  # more operands
    "einsum_repeats": bool,  # an index appears twice in one operand (a diagonal)
    "einsum_broadcasts": bool,  # two operands have an index of different sizes, one of them 1
    "directions_differ": bool,  # a bidirectional recurrence with other activations forward than backward
    "zero_point_nonzero": bool,  # a zero point that is a constant other than 0, or computed
    "scales_per_axis_of_activation": bool,  # several scales for a tensor that is computed
    "squeezes_unnamed_axes": bool,  # no axes given, and the rank or a size of the input is unknown
}


@dataclass(frozen=True)
class Limit:
    """One thing that operators of a dialect cannot do."""

    rule: str  # its name in findings
    ops: Tuple[str, ...]
    test: str  # of TESTS
    value: Any  # what the test compares with
    says: str  # a plain sentence
    source: str  # where the fact is from
    remedy: str = ""  # the lowering that removes it; empty: none
    instead: str = ""  # what a person can do where no lowering helps


@dataclass(frozen=True)
class Quantisation:
    """How 8-bit integers are written for a dialect."""

    flavour: str  # of FLAVOURS: types of activations and weights
    bias: str  # of BIASES: what a quantised layer's bias is stored in
    says: str
    source: str
    explicit: bool = True  # Q/DQ in the graph is read at all


@dataclass(frozen=True)
class Plans:
    """Where a built plan may be run."""

    version_compatible: bool  # a flag makes a plan that newer versions of the same major version run
    hardware_compatible: Tuple[str, ...]  # levels that the version knows
    says: str
    source: str


@dataclass(frozen=True)
class Dla:
    """What the deep learning accelerator of some Jetson modules takes; the rest falls back to the GPU."""

    precisions: Tuple[str, ...]
    ops: FrozenSet[str]
    limits: Tuple[Limit, ...]
    devices: Tuple[str, ...]  # targets where the version drives it; empty: every one that has it
    typing: str  # weak: flags say what computes in FP16 there; strong: the graph's types
    says: str
    source: str


@dataclass(frozen=True)
class Gap:
    """What a runtime cannot do on GPUs of one compute capability only."""

    rule: str
    compute_capability: str
    ops: Tuple[str, ...]
    types: Tuple[str, ...]  # element types of the result, as ONNX names them
    says: str
    instead: str
    source: str


@dataclass(frozen=True)
class Dialect:
    """What one version of a runtime reads."""

    name: str
    runtime: str
    description: str
    min_opset: int
    max_opset: int
    opset_says: str  # what happens above the ceiling
    typing: str  # of TYPINGS: precision by builder flags, by the graph's types, or either
    precisions: Tuple[str, ...]
    types: FrozenSet[str]  # element types of tensors inside a graph, as ONNX names them
    end_types: FrozenSet[str]  # beside those, as inputs and outputs of the network
    narrows_int64: bool  # 64-bit integers become 32-bit ones
    domains: Tuple[str, ...]  # of operators beside ONNX's own
    all_ops: bool  # has every ONNX operator except `absent`
    ops: FrozenSet[str]
    absent: FrozenSet[str]
    quiet_precision: Dict[str, Tuple[str, ...]]  # operator -> precisions that it never runs in, without a word
    limits: Tuple[Limit, ...]
    gaps: Tuple[Gap, ...]
    qdq: Quantisation
    plans: Plans
    dla: Optional[Dla]
    sources: Tuple[str, ...]

    def has(self, op: str) -> bool:
        """Whether the dialect has an operator of ONNX's own domain, limits aside."""
        return op not in self.absent if self.all_ops else op in self.ops

    def limits_of(self, op: str) -> List[Limit]:
        """The limits that speak of an operator."""
        return [limit for limit in self.limits if op in limit.ops]


def names() -> List[str]:
    """Names of all known dialects."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str) -> Dialect:
    """The dialect `name`. Raises `BadInput` naming the known ones."""
    if name not in names():
        raise BadInput(f"no dialect '{name}'; known dialects: {', '.join(names())}")
    return parse(FOLDER / f"{name}.toml")


def parse(path: Path) -> Dialect:
    """Read and validate one dialect file and those it is based on. Raises `BadInput` naming file and field."""
    raw = _merged(path, ())
    try:
        dialect = _made(raw, path)
    except (TypeError, KeyError) as error:
        raise BadInput(f"dialect {path} is incomplete or has an unknown field: {error}") from error
    _check(dialect, path)
    return dialect


def _merged(path: Path, seen: Tuple[Path, ...]) -> Dict[str, Any]:
    """The file's fields laid over those of the dialect it is based on."""
    import tomllib

    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot read dialect {path}: {error}") from error
    if raw.get("name") != path.stem:
        raise BadInput(f"dialect {path} calls itself '{raw.get('name')}'; name and file must agree")
    base = raw.pop("based_on", "")
    if not base:
        return raw
    parent = path.parent / f"{base}.toml"
    if parent in (*seen, path):
        raise BadInput(f"dialect {path}: based_on goes in a circle")
    merged = _merged(parent, (*seen, path))
    merged["ops"] = sorted((set(merged.get("ops", [])) | set(raw.pop("ops", []))) - set(raw.pop("ops_gone", [])))
    merged["absent"] = sorted((set(merged.get("absent", [])) | set(raw.pop("absent", []))) - set(merged["ops"]))
    limits = dict(merged.get("limits", {}))
    for rule in raw.pop("limits_gone", []):
        if limits.pop(rule, None) is None:
            raise BadInput(f"dialect {path}: limits_gone names '{rule}', which {base} has not")
    limits.update(raw.pop("limits", {}))
    merged["limits"] = limits
    merged.update(raw)
    return merged


def _made(raw: Dict[str, Any], path: Path) -> Dialect:
    values = dict(raw)
    values["limits"] = _limits(values.get("limits", {}), path)
    values["gaps"] = tuple(_gap(rule, gap) for rule, gap in values.get("gaps", {}).items())
    values["qdq"] = Quantisation(**values["qdq"])
    plans = dict(values["plans"])
    plans["hardware_compatible"] = tuple(plans["hardware_compatible"])
    values["plans"] = Plans(**plans)
    dla = values.get("dla") or None
    if dla is not None:
        dla = Dla(
            precisions=tuple(dla["precisions"]), ops=frozenset(dla["ops"]), limits=_limits(dla["limits"], path),
            devices=tuple(dla["devices"]), typing=dla["typing"], says=dla["says"], source=dla["source"],
        )  # fmt: skip
    values["dla"] = dla
    for name in ("precisions", "domains", "sources"):
        values[name] = tuple(values.get(name, ()))
    for name in ("types", "end_types", "ops", "absent"):
        values[name] = frozenset(values.get(name, ()))
    values["quiet_precision"] = {op: tuple(kinds) for op, kinds in values.get("quiet_precision", {}).items()}
    values.setdefault("all_ops", False)
    return Dialect(**values)


def _gap(rule: str, raw: Dict[str, Any]) -> Gap:
    values = dict(raw)
    values["ops"], values["types"] = tuple(values["ops"]), tuple(values["types"])
    return Gap(rule=rule, **values)


def _limits(raw: Dict[str, Any], path: Path) -> Tuple[Limit, ...]:
    found = []
    for rule, fact in raw.items():
        values = {"value": True, **fact}
        values["ops"] = tuple(values.get("ops", ()))
        try:
            found.append(Limit(rule=rule, **values))
        except TypeError as error:
            raise BadInput(f"dialect {path}: limit {rule} is incomplete or has an unknown field: {error}") from error
    return tuple(found)


def _check(dialect: Dialect, path: Path) -> None:
    types: Dict[str, type] = {"str": str, "bool": bool, "int": int}
    for field in fields(Dialect):
        expected = types.get(str(field.type))
        value = getattr(dialect, field.name)
        if expected is not None and type(value) is not expected:
            raise BadInput(f"dialect {path}: {field.name} has the wrong type ({type(value).__name__})")
    if dialect.typing not in TYPINGS:
        raise BadInput(f"dialect {path}: typing '{dialect.typing}' is none of {', '.join(TYPINGS)}")
    if dialect.qdq.flavour not in FLAVOURS or dialect.qdq.bias not in BIASES:
        raise BadInput(f"dialect {path}: qdq needs a flavour of {FLAVOURS} and a bias of {BIASES}")
    if not 1 <= dialect.min_opset <= dialect.max_opset:
        raise BadInput(f"dialect {path}: opsets {dialect.min_opset} to {dialect.max_opset} make no range")
    if dialect.all_ops == bool(dialect.ops):
        raise BadInput(f"dialect {path}: either all_ops (with `absent`) or a list `ops`")
    if not dialect.sources:
        raise BadInput(f"dialect {path} names no source")
    for limit in (*dialect.limits, *(dialect.dla.limits if dialect.dla else ())):
        _check_limit(limit, path)
    for limit in dialect.limits:
        for op in limit.ops:
            if not dialect.has(op):
                raise BadInput(f"dialect {path}: limit {limit.rule} speaks of {op}, which the dialect has not")


def _check_limit(limit: Limit, path: Path) -> None:
    if limit.test not in TESTS:
        raise BadInput(f"dialect {path}: limit {limit.rule} names no known test ('{limit.test}')")
    if type(limit.value) is not TESTS[limit.test]:
        kind = TESTS[limit.test].__name__
        raise BadInput(f"dialect {path}: limit {limit.rule}: the test {limit.test} needs a value of type {kind}")
    for name in ("says", "source"):
        if not getattr(limit, name):
            raise BadInput(f"dialect {path}: limit {limit.rule} has no {name}")
    if not limit.ops:
        raise BadInput(f"dialect {path}: limit {limit.rule} speaks of no operator")
