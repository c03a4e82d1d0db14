"""`signedge engine`: ONNX file -> engine folder that has passed the WER gate."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Compile an ONNX file to an engine that has passed the WER gate.")


@app.command()
def engine(
    model: Annotated[Path, typer.Argument(help="ONNX file, as `signedge export` wrote it")],
    out: Annotated[Path, typer.Option(help="engine folder to write")],
    target: Annotated[str, typer.Option(help="a name of `signedge devices list`")] = "x86-cpu",
    precision: Annotated[str, typer.Option(help="fp32 or int8")] = "int8",
    corpus: Annotated[Path | None, typer.Option(help="corpus folder: calibration clips, development split")] = None,
    max_wer_rise: Annotated[float, typer.Option(help="WER points that int8 may lose against fp32")] = 0.5,
    calibration_clips: Annotated[int, typer.Option(help="training clips to calibrate on")] = 48,
    calibration_method: Annotated[str, typer.Option(help="minmax, percentile or mse")] = "minmax",
    seed: Annotated[int, typer.Option(min=0, help="draws the calibration clips")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="print the manifest")] = False,
) -> None:
    """Compile MODEL for TARGET. An int8 engine whose WER rises beyond the budget is not kept (exit status 1)."""
    from distill.corpus.store import Corpus
    from export.engine import build
    from export.precision import Int8Plan
    from runtime.engine import ENGINE_FILE

    plan = Int8Plan(clips=calibration_clips, method=calibration_method, seed=seed)
    opened = Corpus(corpus) if corpus else None
    manifest = build(model, target, precision, opened, out, max_wer_rise, plan)
    for warning in manifest["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    if as_json:
        print(json.dumps(manifest, indent=2, ensure_ascii=False))
        return
    size = (out / ENGINE_FILE).stat().st_size / 1024
    print(f"{out}: {manifest['name']}, {precision} for {target}, {size:.0f} KiB")
    if "decisions" in manifest:
        chosen = [item["precision"] for item in manifest["decisions"]].count("int8")
        clips = len(manifest["calibration"]["clips"])
        print(f"{chosen} of {len(manifest['decisions'])} nodes in int8, ranges from {clips} clips")
    gate = manifest["gate"]
    if gate and precision == "fp32":
        print(f"WER {gate['wer']:.2f} % on {gate['clips']} {gate['split']} clips")
    elif gate:
        interval = f"{gate['low']:+.2f} to {gate['high']:+.2f}"
        rise = f"rise {gate['rise']:+.2f} points ({interval}), {gate['budget']:.2f} allowed"
        print(
            f"WER gate passed: {gate['wer']:.2f} % on {gate['clips']} {gate['split']} clips, "
            f"fp32 {gate['baseline_wer']:.2f} %, {rise}"
        )
