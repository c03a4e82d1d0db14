"""`signedge export`: a trained run -> one ONNX file that carries its contract."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Turn a trained run into one ONNX file that carries its contract.")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="run folder, as `signedge distill` wrote it")],
    out: Annotated[Path, typer.Option(help="the ONNX file to write")],
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable output")] = False,
) -> None:
    """Export the student (or teacher) of RUN in inference form, and prove that it computes the same."""
    from distill.run import load_run
    from export.onnx_graph import export_onnx, training_only

    trained = load_run(run)
    inference = trained.model.inference()
    report = export_onnx(inference, trained.contract, out, training_only(trained.model, inference))
    if as_json:
        print(json.dumps(dataclasses.asdict(report), indent=2))
        return
    worst = max(report.parity, key=lambda item: item.difference)
    lengths = ", ".join(str(item.frames) for item in report.parity if item.batch == 1)
    clips = "any number of clips" if report.dynamic_batch else "one clip at a time"
    print(f"{out}: {report.nodes} nodes, opset {report.opset}, {report.parameters.module:,} parameters, {clips}")
    if report.left_out:
        heads = sorted({name.split(".")[0] for name in report.left_out})
        print(f"left out, for training only: {', '.join(heads)} ({sum(report.left_out.values()):,} parameters)")
    print(f"parity with the checkpoint at {lengths} frames: {worst.difference:.1e} at most")
