"""`signedge devices`: list and show targets, recognise the machine at hand."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Dict

import typer

from devices import profile as profiles
from devices.host import Host, detect

app = typer.Typer(help="List and show targets, recognise the machine at hand.", no_args_is_help=True)
_json = typer.Option(False, "--json", help="machine-readable output")


@app.command("list")
def list_targets(as_json: bool = _json) -> None:
    """One line a target: name, whether engines can be built for it, what it is."""
    known = [profiles.load(name) for name in profiles.names()]
    if as_json:
        print(json.dumps([dataclasses.asdict(item) for item in known], indent=2))
        return
    for item in known:
        state = "builds " + ", ".join(item.precisions) if item.buildable else "not built by this version"
        print(f"{item.name:<12} {state:<28} {item.description}")


@app.command()
def show(target: str = typer.Argument(help="name of the target"), as_json: bool = _json) -> None:
    """Everything the profile of TARGET says."""
    values = dataclasses.asdict(profiles.load(target))
    _print(values, as_json)


@app.command("detect")
def detect_host(as_json: bool = _json) -> None:
    """Processor, cores, instruction sets and memory of this machine, and the targets it can run."""
    host = detect()
    fitting = fitting_targets(host)
    if as_json:
        print(json.dumps({**dataclasses.asdict(host), "targets": fitting}, indent=2))
        return
    _print({**host.described(), "targets": ", ".join(fitting) or "none known"}, False)
    for name in fitting:
        if lacks_int8(host, profiles.load(name)):
            print(f"note: {name}: this CPU has no VNNI; INT8 engines work but gain less, with weights reduced to 7 bits")


def fitting_targets(host: Host) -> "list[str]":
    """Names of the CPU targets whose architecture this machine has."""
    known = (profiles.load(name) for name in profiles.names())
    return [item.name for item in known if item.kind == "cpu" and host.machine in item.machines]


def lacks_int8(host: Host, target: profiles.Profile) -> bool:
    """Whether the machine lacks the instructions that make INT8 exact and fast on `target`."""
    return bool(target.int8_flags) and not set(target.int8_flags) & set(host.flags)


def _print(values: Dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(values, indent=2))
        return
    width = max(map(len, values))
    for key, value in values.items():
        text = ", ".join(value) if isinstance(value, (list, tuple)) else str(value)
        print(f"{key:<{width}}  {text}")
