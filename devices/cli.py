"""`signedge devices`: list and show targets, recognise the machine at hand."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, List, Sequence

import typer

from devices import jetson, nvidia
from devices import profile as profiles
from devices.host import detect
from devices.schema import UNVERIFIED, Figure, Profile, Software
from runtime.errors import Refused

app = typer.Typer(help="List and show targets, recognise the machine at hand.", no_args_is_help=True)
ROOT = Path("/")  # where /proc, /sys and /etc of the machine lie
NO_VNNI = "this CPU has no VNNI: INT8 engines work here, but gain less, and their weights keep 7 bits"
GROUPS = {  # family of a profile -> heading, in the order of the list
    "jetson": "NVIDIA Jetson modules",
    "x86-cpu": "x86-64 CPUs",
    "raspberry-pi": "Raspberry Pi",
    "datacentre": "NVIDIA data centre GPUs",
    "geforce": "NVIDIA GeForce GPUs",
}
_json = typer.Option(False, "--json", help="machine-readable output")


@app.command("list")
def list_targets(as_json: bool = _json) -> None:
    """One line a target, by group: name, precisions, memory and dense peaks, software (the first is the default)."""
    known = [profiles.load(name) for name in profiles.profile_names()]
    if as_json:
        families = [item.model_dump() for item in profiles.families().values()]
        print(json.dumps({"families": families, "targets": [item.model_dump() for item in known]}, indent=2))
        return
    print("families: the member at hand, else the default")
    for family in profiles.families().values():
        print(f"  {family.name:<26} {family.description}; elsewhere {family.default}")
    for group, heading in GROUPS.items():
        print(f"\n{heading}\n{_row('', ('GB', 'GB/s', 'fp32', 'fp16', 'int8'))}  software")
        for item in sorted((item for item in known if item.family == group), key=_by_peak):
            words = [*(row.key for row in item.software), *(f"(no {name})" for name in item.lacks)]
            cells = [_short(item, name) for name in ("memory", "bandwidth", "fp32_peak", "fp16_peak", "int8_peak")]
            print(f"{_row(item.name, cells)}  {' '.join(words)}")
    print("\npeaks: dense, TFLOPS and TOPS; -: not known or not fixed. Sources: signedge devices show NAME")
    print("software: JetPack, or what runs engines; the first is taken, NAME@SOFTWARE takes another: jetson@7.2")


@app.command()
def show(target: str = typer.Argument(help="name of the target, or name@software"), as_json: bool = _json) -> None:
    """Everything known of TARGET: each figure with its unit and source, marked where derived or unverified."""
    profile, software, said, at_hand, _ = profiles.resolve(target, ROOT)
    for line in said:
        print(line, file=sys.stderr)
    if as_json:
        doubts = {name: profile.doubts(name) for name in profile.figures if profile.doubts(name)}
        chosen = {"software": software.key, "at_hand": at_hand, "said": said}
        print(json.dumps({**profile.model_dump(), "doubts": doubts, "chosen": chosen}, indent=2))
        return
    print("\n".join(_described(profile, software)))


@app.command("detect")
def detect_host(as_json: bool = _json) -> None:
    """Processor, instruction sets, memory, Jetson module with its JetPack, NVIDIA GPUs, and the targets they are."""
    host, board, gpus = detect(ROOT), jetson.read(ROOT), nvidia.gpus()
    targets = [item.name for item in profiles.here(ROOT)]
    jetpack = profiles.jetpack(board.l4t) if board else ""
    if as_json:
        found: Dict[str, Any] = {"jetson": board._asdict() if board else None, "jetpack": jetpack}
        found["gpus"] = [gpu._asdict() for gpu in gpus]
        print(json.dumps({**asdict(host), **found, "targets": targets}, indent=2))
        return
    lines = {**host.described(), "board": host.board}
    if board:
        lines["module"] = _module(board)
        lines["jetpack"] = f"{jetpack or 'unknown'} (L4T {board.l4t or 'not told'})"
    for number, gpu in enumerate(gpus):
        more = f"compute capability {gpu.compute_capability}, {gpu.memory_mb} MiB, driver {gpu.driver}"
        lines[f"gpu {number}"] = f"{gpu.name}, {more}"
    lines["targets"] = ", ".join(targets) or "none known"
    print("\n".join(_table(lines)))
    if "x86-avx2" in targets and "x86-vnni" not in targets:
        print(f"note: {NO_VNNI}")


def _module(board: jetson.Jetson) -> str:
    try:
        found, said = profiles.module(board)
    except Refused as error:
        return str(error)
    return "; ".join([found.name, *said])


def _by_peak(item: Profile) -> float:
    peak = item.peak("fp16") or item.peak("fp32")
    return peak.value if peak else 0.0


def _short(item: Profile, name: str) -> str:
    figure = item.figures.get(name)
    return f"{figure.value:.3g}" if figure and figure.value < 1000 else f"{figure.value:.0f}" if figure else "-"


def _row(name: str, cells: Sequence[str]) -> str:
    return f"  {name:<26} {cells[0]:>4} " + " ".join(f"{cell:>6}" for cell in cells[1:])


class _Sources:
    """Sources told once, below, and referred to by number."""

    def __init__(self) -> None:
        self.texts: List[str] = []

    def mark(self, source: str) -> str:
        """The number of `source`, with the warning that it deserves."""
        if not source:
            return ""
        if source not in self.texts:
            self.texts.append(source)
        doubt = "UNVERIFIED " if source.startswith(UNVERIFIED) else "PARTLY UNVERIFIED " * (UNVERIFIED in source)
        return f"{doubt}[{self.texts.index(source) + 1}]"

    def lines(self) -> List[str]:
        return [f"[{number}] {text}" for number, text in enumerate(self.texts, 1)]


def _described(item: Profile, chosen: Software) -> List[str]:
    sources = _Sources()
    head = {
        "name": item.name,
        "description": item.description,
        "family": item.family,
        "machine": ", ".join(item.machines),
        "recognised by": ", ".join([*item.known_as, *item.host_flags]),
        "precisions": ", ".join(item.precisions),
        **{f"no {name}": f"{lack.reason}; instead: {lack.instead}" for name, lack in item.lacks.items()},
        "int8": f"{item.int8_flavour}, weights of {8 if item.int8_exact else 7} bits" * ("int8" in item.precisions),
        "compute capability": f"{item.compute_capability}  {sources.mark(item.chip_source)}" if item.sms else "",
        "SMs": f"{item.sms}  {sources.mark(item.chip_source)}" if item.sms else "",
        "engines": f"signedge engine MODEL --target {item.name}: made on such a machine, elsewhere a bundle for it",
    }
    lines = [*_table(head), "", "figures (peaks are dense, of GPU or CPU alone)"]
    lines += _table({f"  {name}": _figure(figure, item.doubts(name), sources) for name, figure in item.figures.items()})
    if item.dla:
        doubts = ("dla_clock",) if item.dla.clock.unverified else ()
        told = {"dla_clock": _figure(item.dla.clock, (), sources), "dla_int8": _figure(item.dla.int8, doubts, sources)}
        lines += ["", f"{item.dla.count} DLA, each ({', '.join(item.dla.precisions)})"]
        lines += _table({f"  {name}": text for name, text in told.items()})
    if item.power_modes:
        lines += ["", f"power modes  {sources.mark(item.power_source)}", *_modes(item)]
    lines += ["", "software (* is taken)"]
    for row in item.software:
        parts = [f"{row.name}: {row.runtime} {row.version}", f"dialect {row.dialect}"]
        parts += [f"CUDA {row.cuda}"] * bool(row.cuda) + [f"Python {row.python}"] * bool(row.python)
        lines.append(f"{'*' if row == chosen else ' '} {row.key:<14} {', '.join(parts)}  {sources.mark(row.source)}")
        lines += [f"{'':<17}{row.note}"] * bool(row.note)
    return [*lines, *(f"note: {note}" for note in item.notes), "", *sources.lines()]


def _figure(figure: Figure, doubts: Sequence[str], sources: _Sources) -> str:
    """Value, unit, then the source's number or the formula, and what in it is unverified."""
    words = [f"{figure.value:g} {figure.unit}"]
    words += [f"derived: {figure.formula}"] * figure.derived + [sources.mark(figure.source)] * bool(figure.source)
    inherited = [] if figure.unverified else doubts
    words += [f"UNVERIFIED in {', '.join(inherited)}"] * bool(inherited)
    return "  ".join(words)


def _modes(item: Profile) -> List[str]:
    heads = ("id", "name", "W", "SMs", "GPU MHz", "cores", "CPU MHz", "memory MHz", "DLA MHz")
    rows = [heads, *(tuple(map(_cell, mode.model_dump().values())) for mode in item.power_modes)]
    columns = [[row[number] for row in rows] for number in range(len(heads))]
    told = [column for column in columns if set(column[1:]) != {"-"}]
    padded = [[f"{cell:<{max(map(len, column))}}" for cell in column] for column in told]
    return ["  " + "  ".join(column[number] for column in padded).rstrip() for number in range(len(rows))]


def _cell(value: object) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _table(values: Dict[str, str]) -> List[str]:
    told = {key: value for key, value in values.items() if value}
    width = max(map(len, told), default=0)
    return [f"{key:<{width}}  {value}" for key, value in told.items()]
