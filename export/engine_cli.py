"""`signedge engine`: ONNX file -> engine folder that has passed the WER gate; for another machine, the way to one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runtime.errors import BadInput

if TYPE_CHECKING:
    from export.bundle import Bundle
    from export.engine import Job

app = typer.Typer(help="Compile an ONNX file to an engine that has passed the WER gate.")


@app.command()
def engine(
    model: Annotated[Path, typer.Argument(help="ONNX file, as `signedge export` wrote it")],
    out: Annotated[Path, typer.Option(help="engine folder to write; a bundle, where the target is another machine")],
    target: Annotated[str, typer.Option(help="of `signedge devices list`; NAME@SOFTWARE chooses software")] = "x86-cpu",
    precision: Annotated[str, typer.Option(help="fp32, fp16, int8, or auto: the fastest within the budget")] = "int8",
    corpus: Annotated[Path | None, typer.Option(help="corpus folder: calibration clips, development split")] = None,
    max_wer_rise: Annotated[float, typer.Option(help="WER points that the engine may lose against fp32")] = 0.5,
    calibration_clips: Annotated[int, typer.Option(help="training clips to calibrate on")] = 48,
    calibration_method: Annotated[str, typer.Option(help="minmax, percentile or mse")] = "minmax",
    seed: Annotated[int, typer.Option(min=0, help="draws the calibration clips")] = 0,
    budget_minutes: Annotated[float, typer.Option(help="auto: how long to search; what was tried is kept")] = 10.0,
    frames: Annotated[int, typer.Option(min=0, help="for clips of this length alone; windows over longer ones")] = 0,
    dla: Annotated[bool, typer.Option("--dla", help="for a Jetson's DLA; no --frames: the model's window")] = False,
    workspace_mb: Annotated[int, typer.Option(min=0, help="TensorRT: most scratch memory, MiB; 0: its own")] = 0,
    version_compatible: Annotated[bool, typer.Option("--version-compatible", help="TensorRT: also for newer")] = False,
    hardware_compatible: Annotated[str, typer.Option(help="TensorRT: ampere_plus or same_compute_capability")] = "",
    device: Annotated[str, typer.Option(help="user@host[:port] of the target: build and judge there, over SSH")] = "",
    onnxruntime: Annotated[str, typer.Option(help="libonnxruntime.so of the target, for its bundle")] = "",
    tar: Annotated[bool, typer.Option("--tar", help="leave a bundle, and pack it into OUT.tar, too")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the manifest")] = False,
) -> None:
    """Compile MODEL for TARGET. An engine whose WER rises beyond the budget is not kept (exit status 1).

    Where the target is another machine, what is left is a bundle: it becomes an engine there by one command, or, with
    --device, at once over SSH. On the target itself, where only signedge's own Python lacks TensorRT, the system's
    Python builds and judges the engine; --tar leaves the bundle there, too.
    """
    from distill.corpus.store import Corpus
    from export.engine import Order, start
    from export.precision import Int8Plan
    from runtime.atomic import check_free

    check_free(out)
    if tar and Path(f"{out}.tar").exists():
        raise BadInput(f"{out}.tar already exists; choose another place or remove it first")
    plan = Int8Plan(clips=calibration_clips, method=calibration_method, seed=seed)
    asked = {
        "workspace_mb": workspace_mb, "version_compatible": version_compatible,
        "hardware_compatible": hardware_compatible,
    }  # fmt: skip
    wanted = {name: value for name, value in asked.items() if value}
    order = Order(target, precision, max_wer_rise, plan, budget_minutes, frames, dla, device, onnxruntime, wanted)
    job = start(model, order, Corpus(corpus) if corpus else None)
    if onnxruntime and (not job.elsewhere or (job.lacks and not tar)):
        raise BadInput("--onnxruntime goes into a bundle, and an engine is made at once: leave it out")
    if tar and (device or not job.elsewhere):
        raise BadInput("--tar packs a bundle, and an engine is made at once: leave it out")
    for warning in job.warnings:
        _tell(warning)
    manifest, lines = _made(job, out, tar)
    if as_json:
        print(json.dumps(manifest, indent=2, ensure_ascii=False))
        return
    for line in lines:
        print(line)


def _made(job: Job, out: Path, tar: bool) -> tuple[dict[str, Any], list[str]]:
    """Carry out a job: the manifest of what lies at `out` then, and lines for people."""
    cut, runtime, search = None, "", dict[str, Any]()
    if job.order.precision == "auto":
        from export.search.auto import find

        found = find(job, out.with_name(f".{out.name}.search"), _tell)  # hidden, so that `engines/*` is engines alone
        cut, runtime, search = found.cut, found.runtime, found.record
    if not job.elsewhere:
        from export.engine import build_here

        manifest = build_here(job, out, cut, runtime)
        for warning in manifest["warnings"][len(job.warnings) :]:
            _tell(warning)
        return manifest, _engine_lines(manifest, out)
    if job.order.device or (job.lacks and not tar):
        from export.elsewhere import build_by_bundle

        outcome = build_by_bundle(job, out, _tell, cut)
        place = f"on {job.order.device}" if job.order.device else "here by the system's Python"
        told, made = f"{out}: built and judged {place}; logs and records in {outcome.logs}", outcome.manifest
        return made, [told, *_inside_lines(made), *_search_lines(search), *_gate_lines(made)]
    from export.elsewhere import bundle_for

    bundle = bundle_for(job, out, tar, cut)
    for line in bundle.said:
        _tell(line)
    return bundle.manifest, [*_bundle_lines(job, bundle), *_search_lines(search)]


def _tell(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _engine_lines(manifest: dict[str, Any], out: Path) -> list[str]:
    size = sum((out / name).stat().st_size for name in manifest["files"]) / 1024
    lines = [f"{out}: {manifest['name']}, {manifest['precision']} for {manifest['target']}, {size:.0f} KiB"]
    if "lowered" in manifest:
        lines.append(f"{len(manifest['lowered']['steps'])} changes made it fit {manifest['lowered']['dialect']}")
    if "decisions" in manifest:
        kinds = [item["precision"] for item in manifest["decisions"]]
        narrow = [f"{kinds.count(kind)} in {kind}" for kind in ("int8", "fp16") if kind in kinds]
        told = ", ".join(narrow) or "none is narrow"
        clips = len(manifest["calibration"]["clips"])
        lines.append(f"of {len(kinds)} nodes that a rule speaks of: {told}; ranges from {clips} clips")
    return lines + _inside_lines(manifest) + _search_lines(manifest.get("search", {})) + _gate_lines(manifest)


def _inside_lines(manifest: dict[str, Any]) -> list[str]:
    from runtime.trt.inspect import told

    return [told(manifest["inside"])] if "inside" in manifest else []


def _search_lines(search: dict[str, Any]) -> list[str]:
    if not search:
        return []
    state = "searched to the end" if search["complete"] else "the time ran out; run it again to go on"
    lines = [
        f"auto chose '{search['chosen']}' in {search['runtime']}: {search['ms']:.2f} ms a clip; {search['times']}",
        f"{len(search['trials'])} assignments tried in {search['seconds']:.0f} s, {state}",
    ]
    for name, found in search["against"].items():
        within = f" ({found['low']:.3f} to {found['high']:.3f})" if found["low"] < found["high"] else ""
        lines.append(f"  {name} takes {found['value']:.3f} times its time{within}")
    return lines + [f"  {words}" for words in search["left_out"]]


def _gate_lines(manifest: dict[str, Any]) -> list[str]:
    gate = manifest["gate"]
    if not gate:
        return []
    read = f"{gate['wer']:.2f} % on {gate['clips']} {gate['split']} clips"
    if manifest["precision"] == "fp32" and not gate["changed"]:
        return [f"WER {read}"]
    interval = f"{gate['low']:+.2f} to {gate['high']:+.2f}"
    rise = f"rise {gate['rise']:+.2f} points ({interval}), {gate['budget']:.2f} allowed"
    return [f"WER gate passed: {read}, fp32 {gate['baseline_wer']:.2f} %, {rise}"]


def _bundle_lines(job: Job, bundle: Bundle) -> list[str]:
    software, manifest, folder = job.target.software, bundle.manifest, bundle.folder
    there = f"sh {folder}/build.sh"
    if not job.target.at_hand:
        there = f"copy {folder.name} to the device, then: sh {folder.name}/build.sh        (or give --device user@host)"
    archive = [f"{bundle.archive}: the same, packed"] if bundle.archive else []
    return [
        f"{folder}: a bundle, not yet an engine: {manifest['name']}, {manifest['precision']}",
        *archive,
        f"for {job.target.profile.name} ({software.name}, {software.runtime} {software.version}): {job.elsewhere}",
        f"its graph passed the gate here, through {manifest['gate']['through']}:",
        *[f"  {line}" for line in _gate_lines(manifest)],
        "the engine's own gate runs there:",
        f"  {there}",
    ]
