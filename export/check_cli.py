"""`signedge check`: does a model fit a target, and if not, what would make it fit. Needs no device."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runtime.errors import BadInput, Refused

if TYPE_CHECKING:
    from onnx import ModelProto

    from devices.dialect import Dialect
    from runtime.contract import Contract

app = typer.Typer(help="Tell whether a model fits a target, and what would make it fit.")

LOWERING_KEY = "signedge.lowering"


@app.command()
def check(
    model: Annotated[Path, typer.Argument(help="ONNX file, ours or any other")],
    target: Annotated[str, typer.Option(help="a name of `signedge devices list`; name@software chooses the software")],
    precision: Annotated[str, typer.Option(help="fp32, fp16 or int8")] = "fp32",
    dla: Annotated[bool, typer.Option("--dla", help="for the deep learning accelerator")] = False,
    frames: Annotated[int, typer.Option(min=0, help="for clips of this length alone")] = 0,
    out: Annotated[Path | None, typer.Option(help="write the lowered graph, proved equal, to this file")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable output")] = False,
) -> None:
    """Judge MODEL for a target without any device. Exit status 0: it fits, lowered if need be; 3: refused, with why."""
    from devices import dialect as dialects
    from devices import profile as profiles
    from export.check import check as judge
    from export.check import summary
    from export.length import of_one_length, window, with_length
    from export.onnx_graph import read_model

    if out is not None and out.is_dir():
        raise BadInput(f"{out} is a folder; --out names a file")
    graph = read_model(model)
    contract, missing = _contract(graph)
    resolved = profiles.resolve(target)
    dialect = dialects.load(resolved.software.dialect)
    if dla and not frames and contract is not None:
        frames = window(contract)
    if frames and contract is not None:
        graph, contract, _ = of_one_length(graph, contract, frames)
    elif frames:
        graph = with_length(graph, frames)
    verdict = judge(graph, resolved.profile, dialect, precision, dla)
    written = _write(graph, dialect, contract, out) if out and verdict.fits else None
    software = resolved.software
    if as_json:
        facts: dict[str, Any] = {
            "model": str(model), "contract": contract.name if contract else None, "software": software.name,
            "runtime": f"{software.runtime} {software.version}", "frames": frames,
            **dataclasses.asdict(verdict),
        }  # fmt: skip
        print(json.dumps({**facts, "said": list(resolved.said), "written": written}, indent=2, ensure_ascii=False))
    else:
        for line in resolved.said:
            print(line)
        where = f"{verdict.target} ({software.name}, {software.runtime} {software.version})"
        state = "does not fit" if not verdict.fits else "fits after lowering" if verdict.lowered else "fits as it is"
        length = f", {frames} frames a clip" if frames else ""
        print(f"{model.name} for {where} in {precision}{length}: {state}")
        for line in [*summary(verdict), *missing, *([written["says"]] if written else [])]:
            print(f"  {line}")
    if not verdict.fits:
        raise typer.Exit(Refused.exit_status)


def _contract(graph: ModelProto) -> tuple[Contract | None, list[str]]:
    """The contract in a model's metadata, and what to say where there is none."""
    from export.onnx_graph import metadata
    from runtime.contract import METADATA_KEY, Contract

    text = metadata(graph).get(METADATA_KEY)
    if text is None:
        return None, ["note: the file has no contract, so no engine can be made of it: see `signedge export --model`"]
    return Contract.from_json(text), []


def _write(graph: ModelProto, dialect: Dialect, contract: Contract | None, out: Path) -> dict[str, Any]:
    """Write the lowered graph once it is proved to compute the same; return what was written and how near it is."""
    from export.lowering import lower, prove
    from runtime.atomic import atomic_file

    lowered, done = lower(graph, dialect)
    differences = prove(graph, lowered, contract)
    worst = max(item.difference for item in differences)
    record = {
        "dialect": dialect.name,
        "changes": [dataclasses.asdict(item) for item in done],
        "lengths": [dataclasses.asdict(item) for item in differences],
    }
    kept = [entry for entry in lowered.metadata_props if entry.key != LOWERING_KEY]
    del lowered.metadata_props[:]
    lowered.metadata_props.extend(kept)
    entry = lowered.metadata_props.add()
    entry.key, entry.value = LOWERING_KEY, json.dumps(record, sort_keys=True)
    with atomic_file(out) as temporary:
        temporary.write_bytes(lowered.SerializeToString(deterministic=True))
    lengths = ", ".join(str(item.frames) for item in differences)
    says = f"{out}: written; at {lengths} frames it is {worst:.1e} off at most, measured in ONNX Runtime"
    return {"path": str(out), "worst": worst, "says": says}
