"""`signedge devices`: list and show targets, recognise the machine at hand."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Dict

import typer

from devices import profile as profiles
from devices.host import detect

app = typer.Typer(help="List and show targets, recognise the machine at hand.", no_args_is_help=True)
NO_VNNI = "this CPU has no VNNI: INT8 engines work here, but gain less, and their weights keep 7 bits"
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
    known = [profiles.load(name) for name in profiles.names()]
    fitting = [item for item in known if item.runs_on(host)]
    names = [item.name for item in fitting]
    if as_json:
        print(json.dumps({**dataclasses.asdict(host), "targets": names}, indent=2))
        return
    _print({**host.described(), "targets": ", ".join(names) or "none known"}, False)
    for item in fitting:
        if not item.int8_is_exact(host):
            print(f"note: {item.name}: {NO_VNNI}")


def _print(values: Dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(values, indent=2))
        return
    width = max(map(len, values))
    for key, value in values.items():
        text = ", ".join(value) if isinstance(value, (list, tuple)) else str(value)
        print(f"{key:<{width}}  {text}")
