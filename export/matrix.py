"""Every network for every target in every precision: fits, lowerings, refusals, and builds where a builder is here."""

from __future__ import annotations

import dataclasses
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from devices import profile as profiles
from devices.profile import Resolved
from export.backends.base import backend
from export.check import check
from export.engine import read_exported, request_for
from export.parity import plausible_clip
from export.precision import Int8Plan
from export.precision.plan import PRECISIONS
from export.tailor import TENSORRT, Calibration, Cut, Lowering, dialect_of, fitted, flavour_of, in_precision, lowered
from runtime.contract import BLANK, Contract, body_and_hands_layout
from runtime.errors import MissingExtra, Refused, SignedgeError

if TYPE_CHECKING:
    from onnx import ModelProto

NETWORKS = ("demo/teacher", "demo/stgt", "demo/stgcn", "demo/lrinet")  # recipes whose networks are the project's
CLASSES = 60  # of a network with random weights
RTX = "tensorrt-rtx"
READ_AT = (16, 61, 120)  # frames at which what was built is run, where it can be
FITS, LOWERED, REFUSED, FAILED = "fits", "fits after lowering", "refused", "FAILED"


@dataclass(frozen=True)
class Network:
    """One network of the matrix."""

    name: str
    model: ModelProto
    contract: Contract
    weights: str  # where they come from: "random", or the file


@dataclass(frozen=True)
class Row:
    """One network on one target in one precision."""

    network: str
    weights: str
    target: str
    software: str
    dialect: str
    precision: str
    verdict: str  # of FITS, LOWERED, REFUSED, FAILED
    lowerings: dict[str, int]  # pass -> nodes
    why: str  # of a refusal or failure: node, rule, what would help
    built: str  # by what and with which result; "" where nothing was built
    not_built: str  # why not, where it fits and was not built
    layers: dict[str, Any]  # read back from what was built: products a precision, fallbacks


class MadeUp:
    """Stands for a corpus where none is given: plausible clips that nobody signed."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract

    def inputs(self) -> Iterator[np.ndarray]:
        """Network inputs (1,T',...) float32 of several lengths."""
        for seed, frames in enumerate(np.linspace(24, 120, 6, dtype=int)):
            yield plausible_clip(self._contract, int(frames), seed)

    def described(self) -> dict[str, Any]:
        """For a manifest."""
        return {"split": "made up", "clips": [], "hash": ""}


def random_networks(recipes: Sequence[str] = NETWORKS) -> Iterator[Network]:
    """The project's networks in the sizes of their demo recipes, exported with random weights.

    What can be judged with them is whether a graph fits and builds, not what it reads.
    """
    import torch

    from distill.models import build
    from distill.recipe import input_spec, load_recipe
    from export.onnx_graph import export_onnx

    glosses = (BLANK, *(f"GLOSS{number}" for number in range(1, CLASSES)))
    with tempfile.TemporaryDirectory(prefix="signedge.") as work:
        for recipe in map(load_recipe, recipes):
            torch.manual_seed(recipe.seed)
            spec = input_spec(recipe.input, body_and_hands_layout())
            network = build(recipe.model, CLASSES, spec)
            contract = Contract(recipe.name, spec, glosses, 25.0, lookahead=network.lookahead, padding=network.padding)
            path = Path(work) / f"{recipe.name}.onnx"
            export_onnx(network.inference(), contract, path)
            model, _ = read_exported(path)
            yield Network(recipe.name, model, contract, "random")


def exported_network(path: Path) -> Network:
    """An ONNX file that `signedge export` wrote."""
    model, contract = read_exported(path)
    return Network(contract.name, model, contract, path.name)


def targets(names: Sequence[str] = ()) -> list[Resolved]:
    """The targets named, or all profiles: each with its first software, and with TensorRT-RTX where it has that."""
    if names:
        return [profiles.resolve(name) for name in names]
    found = []
    for name in profiles.profile_names():
        rows = [row.key for row in profiles.load(name).software]
        found += [profiles.resolve(f"{name}@{key}") for key in dict.fromkeys([rows[0], *(k for k in rows if k == RTX)])]
    return found


class Matrix:
    """Carries out the cells; what several of them share (lowering, precision, a build) is done once."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self.networks = networks
        self._cuts: dict[tuple[str, ...], Cut | SignedgeError] = {}
        self._builds: dict[tuple[str, ...], tuple[str, str, dict[str, Any]]] = {}

    def rows(
        self, wanted: Sequence[Resolved], tell: Callable[[int, int, str], None] = lambda done, total, what: None
    ) -> list[Row]:
        """All rows, networks outermost. `tell(done, total, what)` is told of each."""
        total = len(self.networks) * len(wanted) * len(PRECISIONS)
        found: list[Row] = []
        for network in self.networks:
            for target in wanted:
                for precision in PRECISIONS:
                    tell(len(found), total, f"{network.name} for {target.profile.name} in {precision}")
                    found.append(self.row(network, target, precision))
        return found

    def row(self, network: Network, target: Resolved, precision: str) -> Row:
        """One cell. What goes wrong without a rule that says so is a failure, told with its error."""
        dialect = dialect_of(target)
        verdict = check(network.model, target.profile, dialect, precision)
        lowerings = dict(Counter(item.pass_name for item in verdict.lowered))
        name, why, built, not_built, layers = REFUSED, "", "", "", dict[str, Any]()
        if verdict.fits:
            name = LOWERED if lowerings else FITS
            try:
                built, not_built, layers = self._build(network, target, precision)
            except Refused as error:
                name, why = REFUSED, str(error)
            except Exception as error:  # the matrix tells of it and goes on
                name, why = FAILED, f"{type(error).__name__}: {' '.join(str(error).split())}"
        else:
            more = len(verdict.refusals) - 1
            why = f"{verdict.refusals[0].rule}: {verdict.reason}{f' (+{more} more)' if more else ''}"
        return Row(
            network.name, network.weights, target.profile.name, target.software.name, dialect.name, precision,
            name, lowerings, why, built, not_built, layers,
        )  # fmt: skip

    def _build(self, network: Network, target: Resolved, precision: str) -> tuple[str, str, dict[str, Any]]:
        """(by what it was built and with which result, why it was not, layers read back)."""
        cut = self._cut(network, target, precision)
        runtime = target.software.runtime
        place = target.profile.compute_capability if runtime == RTX else target.profile.name
        key = (network.name, precision, runtime, place)
        if key not in self._builds:
            self._builds[key] = _built(network, cut, target, precision)
        return self._builds[key]

    def _cut(self, network: Network, target: Resolved, precision: str) -> Cut:
        plan = fitted(Int8Plan(), target)
        key = (network.name, precision, dialect_of(target).name, flavour_of(target), str(plan.weight_bits))
        if key not in self._cuts:
            try:
                lowering: Lowering = lowered(network.model, network.contract, target, precision)
                clips: Any = MadeUp(network.contract)
                calibration: Calibration = clips
                self._cuts[key] = in_precision(lowering.graph, precision, calibration, target, plan)
            except SignedgeError as error:
                self._cuts[key] = error
        found = self._cuts[key]
        if isinstance(found, SignedgeError):
            raise found
        return found


def _built(network: Network, cut: Cut, target: Resolved, precision: str) -> tuple[str, str, dict[str, Any]]:
    runtime = target.software.runtime
    engines = backend(runtime)
    able = engines.available(target.profile)
    if not able.builds:
        return "", able.why_not, {}
    request = request_for(target, network.contract, None, cut.flags)
    with tempfile.TemporaryDirectory(prefix="signedge.") as work:
        try:
            made = engines.build(cut.graph, network.contract, Path(work), request)
        except MissingExtra as error:
            return "", str(error), {}
        size = sum((Path(work) / name).stat().st_size for name in made.files) / 1024
        version = " ".join(f"{name} {number}" for name, number in made.versions.items())
        said = f"{version}: {size:.0f} KiB"
        if runtime in TENSORRT:
            from runtime.trt.inspect import summary

            return said, "", summary(made.facts["layers"])
        if not able.runs:
            return "", f"the graph is written; {able.why_not}", {}
        engine = engines.load(Path(work), 1)
        for frames in READ_AT:
            found = engine.log_probs(plausible_clip(network.contract, frames, seed=0))
            if not np.isfinite(found).all():
                raise ArithmeticError(f"values that are not finite at {frames} frames")
        return f"{said}, ran at {', '.join(map(str, READ_AT))} frames", "", {}


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Plain data."""
    return [dataclasses.asdict(row) for row in rows]


def as_markdown(rows: Sequence[Row]) -> str:
    """A page: counts, one table a network, and the reasons of refusals below."""
    counts = Counter(row.verdict for row in rows)
    built = sum(bool(row.built) for row in rows)
    random = sorted({row.network for row in rows if row.weights == "random"})
    lines = ["# Networks, targets, precisions", ""]
    told = [f"{counts[name]} {name}" for name in (FITS, LOWERED, REFUSED, FAILED)]
    lines.append("; ".join([*told, f"{built} built here."]))
    if random:
        lines.append(f"Weights are random ({', '.join(random)}): this tells what fits and builds, not what it reads.")
    reasons: dict[str, str] = {}
    for network in dict.fromkeys(row.network for row in rows):
        lines += ["", f"## {network}", "", "| target | software | " + " | ".join(PRECISIONS) + " |"]
        lines.append("|---" * (2 + len(PRECISIONS)) + "|")
        mine = [row for row in rows if row.network == network]
        for place in dict.fromkeys((row.target, row.software) for row in mine):
            cells = {row.precision: row for row in mine if (row.target, row.software) == place}
            told = [_cell(cells[precision], reasons) for precision in PRECISIONS]
            lines.append(f"| {place[0]} | {place[1]} | " + " | ".join(told) + " |")
    if reasons:
        lines += ["", "## Reasons", ""]
        lines += [f"{mark}. {why}" for why, mark in reasons.items()]
    return "\n".join(lines) + "\n"


def _cell(row: Row, reasons: dict[str, str]) -> str:
    if row.verdict in (REFUSED, FAILED):
        mark = reasons.setdefault(f"{row.why}", str(len(reasons) + 1))
        return f"{row.verdict} ({mark})"
    told = row.verdict
    if row.lowerings:
        told += ": " + ", ".join(f"{name} x{count}" for name, count in row.lowerings.items())
    products = row.layers.get("products", {})
    inside = ", ".join(f"{count} {kind}" for kind, count in sorted(products.items()))
    if row.built:
        return f"{told}; built{f' ({inside} products)' if inside else ''}"
    mark = reasons.setdefault(f"not built: {row.not_built}", str(len(reasons) + 1))
    return f"{told}; not built ({mark})"
