"""`signedge export`: a trained run, or a network that is not ours -> one ONNX file that carries its contract."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.errors import BadInput

if TYPE_CHECKING:
    from export.onnx_graph import ExportReport

app = typer.Typer(help="Turn a trained run, or a network that is not ours, into one ONNX file with its contract.")


@app.command()
def export(
    out: Annotated[Path, typer.Option(help="the ONNX file to write")],
    run: Annotated[Path | None, typer.Argument(help="run folder, as `signedge distill` wrote it")] = None,
    model: Annotated[str, typer.Option(help="instead of RUN: package.module:factory of a network not ours")] = "",
    weights: Annotated[Path | None, typer.Option(help="of --model: its checkpoint (torch.save, safetensors)")] = None,
    contract: Annotated[Path | None, typer.Option(help="of --model: YAML with its input, glosses and call")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable output")] = False,
) -> None:
    """Export the student (or teacher) of RUN, or any other network, and prove that it computes the same."""
    lacking = [name for name, value in (("--weights", weights), ("--contract", contract)) if value is None]
    if (run is None) == (not model) or (run is not None and len(lacking) < 2):
        raise BadInput("give either RUN, or --model with --weights and --contract")
    if run is not None:
        report = _ours(run, out)
    elif weights is None or contract is None:
        raise BadInput(f"--model needs {' and '.join(lacking)}, too")
    else:
        report = _foreign(model, weights, contract, out)
    if as_json:
        print(json.dumps(dataclasses.asdict(report), indent=2))
        return
    worst = max(report.parity, key=lambda item: item.difference)
    lengths = ", ".join(str(item.frames) for item in report.parity if item.batch == 1)
    clips = "any number of clips" if report.dynamic_batch else "one clip at a time"
    print(f"{out}: {report.nodes} nodes, opset {report.opset}, {report.parameters.module:,} parameters, {clips}")
    if report.left_out:
        heads = sorted({_part(name) for name in report.left_out})
        print(f"left out, for training only: {', '.join(heads)} ({sum(report.left_out.values()):,} parameters)")
    print(f"parity with the checkpoint at {lengths} frames: {worst.difference:.1e} at most")


def _ours(run: Path, out: Path) -> ExportReport:
    from distill.run import load_run
    from export.onnx_graph import export_onnx, training_only

    trained = load_run(run)
    inference = trained.model.inference()
    return export_onnx(inference, trained.contract, out, training_only(trained.model, inference))


def _foreign(model: str, weights: Path, contract: Path, out: Path) -> ExportReport:
    from export.foreign import load_foreign
    from export.onnx_graph import export_onnx

    theirs = load_foreign(model, weights, contract)
    return export_onnx(theirs.module, theirs.contract, out, theirs.left_out, theirs.foldable)


def _part(parameter: str) -> str:
    """The part of a network that a parameter belongs to: of ours the head, of others the module."""
    inner = parameter.removeprefix("network.")
    return parameter.split(".")[0] if inner == parameter else inner.rpartition(".")[0]
