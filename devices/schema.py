"""The form of the target data: profiles, figures, software rows, families; what must hold for them to be believed."""

from __future__ import annotations

import ast
import operator
from typing import Callable, Dict, Optional, Tuple

from pydantic import BaseModel, ConfigDict, Field, computed_field, model_validator

from devices.host import Host

PRECISIONS = ("fp32", "fp16", "int8")
UNVERIFIED = "unverified"
DERIVED_TOLERANCE = 0.01  # of a derived figure as written, against its formula: it is rounded
REQUIRED: Dict[str, Tuple[str, ...]] = {
    "gpu": ("gpu_clock", "fp32_peak", "fp16_peak", "memory", "memory_bus", "bandwidth"),
    "cpu": (),
}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Figure(_Part):
    """One number with its unit and where it comes from: a document, or a formula over the profile's other figures."""

    value: float = Field(gt=0)
    unit: str = Field(min_length=1)
    source: str = ""
    formula: str = ""  # over figures' names, `sms` and `dla_count`

    @model_validator(mode="after")
    def _has_an_origin(self) -> Figure:
        if not self.source and not self.formula:
            raise ValueError("a figure needs a source or a formula")
        return self

    @computed_field  # type: ignore[prop-decorator]
    @property
    def derived(self) -> bool:
        return bool(self.formula)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def unverified(self) -> bool:
        return UNVERIFIED in self.source

    @property
    def origin(self) -> str:
        """Where the number comes from, in words."""
        if not self.derived:
            return self.source
        return f"derived: {self.formula}" + (f" ({self.source})" if self.source else "")


class Dla(_Part):
    """The deep learning accelerators beside the GPU; figures are of one of them, INT8 is dense."""

    count: int = Field(ge=1)
    clock: Figure
    int8: Figure  # TOPS
    precisions: Tuple[str, ...] = ("fp16", "int8")


class PowerMode(_Part):
    """A row of nvpmodel: caps that a power budget puts on the clocks. None: no cap, or not told."""

    id: int
    name: str
    watts: Optional[float] = None
    sms: Optional[int] = None
    gpu_mhz: Optional[float] = None
    cpu_cores: Optional[int] = None
    cpu_mhz: Optional[float] = None
    memory_mhz: Optional[float] = None
    dla_mhz: Optional[float] = None


class Lack(_Part):
    """Why a precision is not to be had, and what to take instead."""

    reason: str = Field(min_length=1)
    instead: str = Field(min_length=1)


class Software(_Part):
    """What builds and runs engines on a machine: one release, one dialect."""

    key: str  # what follows the @ of `name@key`
    name: str
    runtime: str  # tensorrt, tensorrt-rtx, onnxruntime, openvino
    version: str  # of the runtime
    dialect: str  # name in `devices.dialect`
    cuda: str = ""
    python: str = ""  # the release's own interpreter; "": any that the runtime's wheels support
    releases: Dict[str, str] = {}  # L4T -> JetPack that it is part of
    source: str = Field(min_length=1)
    note: str = ""

    def release(self, l4t: str) -> str:
        """The name of the very release: "JetPack 6.2.1"."""
        return f"JetPack {self.releases[l4t]}" if l4t in self.releases else self.name


class Profile(_Part):
    """What a target is and what it can do; every figure with its source."""

    name: str
    description: str
    family: str  # jetson, x86-cpu, raspberry-pi, geforce, datacentre
    kind: str = Field(pattern="^(cpu|gpu)$")
    machines: Tuple[str, ...] = Field(min_length=1)  # of `platform.machine()`
    known_as: Tuple[str, ...] = ()  # device tree's numbers and names (Jetson), driver's names (GPU), board (Raspberry)
    soc: str = ""  # Jetson: its chip
    series: str = ""  # Jetson: words of the device tree's model that sisters share
    other_memory: Tuple[float, ...] = ()  # GB; modules of this kind with another memory than figures.memory
    host_flags: Tuple[str, ...] = ()  # CPU flags of which a machine of this kind has one
    compute_capability: str = ""
    sms: int = Field(default=0, ge=0)
    chip_source: str = ""  # of the two
    figures: Dict[str, Figure] = {}
    dla: Optional[Dla] = None
    power_modes: Tuple[PowerMode, ...] = ()
    power_source: str = ""
    precisions: Tuple[str, ...]  # what the hardware computes in
    lacks: Dict[str, Lack] = {}  # the others
    int8_flavour: str = Field(pattern="^(U8S8|S8S8)$")  # types of activations and weights in Q/DQ that are fast there
    int8_exact: bool = True  # false: sums of 8-bit products saturate, weights keep 7 bits
    software: Tuple[Software, ...] = Field(min_length=1)  # the first is taken where none is chosen or at hand
    notes: Tuple[str, ...] = ()

    def runs_on(self, host: Host) -> bool:
        """Whether `host` is a CPU of this kind. For GPUs ask `devices.profile.here`: a CPU does not tell them."""
        if self.kind != "cpu" or host.machine not in self.machines:
            return False
        fits = not self.host_flags or bool(set(self.host_flags) & set(host.flags))
        return fits and (not self.known_as or any(name in host.board for name in self.known_as))

    @model_validator(mode="after")
    def _is_consistent(self) -> Profile:
        for trouble in (_wrong_hardware(self), _wrong_precisions(self), _wrong_figures(self)):
            if trouble:
                raise ValueError(trouble)
        return self

    def doubts(self, name: str) -> Tuple[str, ...]:
        """What is unverified in figure `name`: itself, or the figures that it is derived from."""
        figure = self.figures[name]
        found = [name] if figure.unverified else []
        for used in names_in(figure.formula):
            if used == "sms":
                found += ["sms"] if UNVERIFIED in self.chip_source else []
            elif used in self.figures:
                found += self.doubts(used)
        return tuple(dict.fromkeys(found))

    def peak(self, precision: str) -> Optional[Figure]:
        """The dense peak in `precision` (TFLOPS or TOPS); None where none is known."""
        return self.figures.get(f"{precision}_peak")


class Family(_Part):
    """A name that stands for the member at hand."""

    name: str
    description: str
    default: str  # member taken where none is at hand
    machine: str  # what such a machine is called


def _wrong_hardware(profile: Profile) -> str:
    if profile.kind == "gpu" and not (profile.compute_capability and profile.sms and profile.chip_source):
        return "a GPU needs compute_capability, sms and chip_source"
    missing = [name for name in REQUIRED[profile.kind] if name not in profile.figures]
    if missing:
        return f"figures.{missing[0]} is missing"
    if profile.power_modes and not profile.power_source:
        return "power_modes need power_source"
    return ""


def _wrong_precisions(profile: Profile) -> str:
    if sorted([*profile.precisions, *profile.lacks]) != sorted(PRECISIONS):
        return f"each of {', '.join(PRECISIONS)} is either in precisions or, with the reason, in lacks"
    return ""


def _wrong_figures(profile: Profile) -> str:
    """A derived figure whose formula gives another value, or none."""
    figures = dict(profile.figures)
    if profile.dla:
        figures.update(dla_clock=profile.dla.clock, dla_int8=profile.dla.int8)
    known = {name: figure.value for name, figure in figures.items()}
    known.update(sms=profile.sms, dla_count=profile.dla.count if profile.dla else 0)
    for name, figure in figures.items():
        if figure.formula:
            try:
                value = calculate(figure.formula, known)
            except (ValueError, SyntaxError, ZeroDivisionError) as error:
                return f"figure {name}: formula '{figure.formula}': {error}"
            if abs(value - figure.value) > DERIVED_TOLERANCE * value:
                return f"figure {name} is {figure.value:g}, its formula {figure.formula} gives {value:.4g}"
    return ""


_OPERATORS: Dict[type, Callable[[float, float], float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip


def names_in(formula: str) -> Tuple[str, ...]:
    """Names of the figures that a formula is over."""
    nodes = ast.walk(ast.parse(formula, mode="eval")) if formula else ()
    return tuple(node.id for node in nodes if isinstance(node, ast.Name))


def calculate(formula: str, known: Dict[str, float]) -> float:
    """The value of sums and products over `known` names. Raises `ValueError` or `SyntaxError`."""

    def value(node: ast.AST) -> float:
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
            return float(node.value)
        if isinstance(node, ast.Name):
            if node.id not in known:
                raise ValueError(f"no figure '{node.id}'")
            return known[node.id]
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](value(node.left), value(node.right))
        raise ValueError("only names, numbers and + - * / may be used")

    return value(ast.parse(formula, mode="eval").body)
