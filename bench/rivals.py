"""An engine against what else would run its network: PyTorch eager and compiled, ONNX Runtime and OpenVINO from Python.

    python -m bench.rivals ENGINE --run RUN --corpus DIR [--threads 1] [--clips 5] [--seconds 60] [--json FILE]

All run the same weights on the same clips with the same number of threads, in turns, in one run. `ratio` is how many
times longer a rival takes than the engine: the median over pairs of calls on one clip in one round, with the bootstrap
interval of that median. PyTorch runs the inference form of RUN in FP32; the others read the engine's own graph.

The engine takes part twice, each opened for itself: where weights come to lie in memory makes a difference of some
tenths of a percent, and what the two differ by is what this run cannot tell apart. It must not be slower than any rival
of its own precision or of FP32: exit status 1 where the whole interval of a ratio lies below 1 by more than that, or
below 1 at all in a run that tells too little. Those of a precision that no gate has judged are shown and judge nothing:
OpenVINO left to itself takes bfloat16 where the CPU has it.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.measure import load_clips, pick_rows, spread
from bench.systems import EngineSystem
from devices.host import detect
from devices.load import OtherWork
from export.backends.race import Ratio, race, ratio
from runtime.engine import ENGINE_FILE, INPUT, OUTPUT, RUNTIMES, open_session
from runtime.errors import BadInput, CriterionFailed, MissingExtra, SignedgeError

Call = Callable[[np.ndarray], np.ndarray]
ENGINE, AGAIN = "engine", "the engine, opened again"
FULL = "fp32"
CLEAR = 0.02  # a run in which the engine differs from itself by more has to be made again before it acquits


@dataclass(frozen=True)
class Rival:
    """Something that runs the engine's network."""

    name: str
    call: Call  # (1,T',...) -> (1,N,K)
    precision: str
    through: str  # library and version


@dataclass(frozen=True)
class Row:
    """What came of one rival. Times in ms, over all clips."""

    name: str
    through: str
    precision: str
    judged: bool  # whether its precision is the engine's or full, so that it must not be faster
    median_ms: float
    least_ms: float
    ratio: Ratio
    apart: float  # largest difference of its log-probabilities from the engine's
    unclear: float  # ratios that differ from 1 by less say nothing

    @property
    def verdict(self) -> str:
        """What the ratio says of the engine."""
        if self.name == AGAIN:
            return "the measure of what is unclear"
        if not self.judged:
            return "not judged"
        if self.ratio.low > 1 + self.unclear:
            return "engine faster"
        return "engine SLOWER" if self.ratio.high < 1 - self.unclear else "a tie"


def compare(
    engine: EngineSystem, again: EngineSystem, rivals: Sequence[Rival], inputs: Sequence[np.ndarray], seconds: float
) -> list[Row]:
    """The rows of the engine, of itself opened again, and of its rivals. inputs: prepared clips (1,T',...) float32."""
    own, twin = (
        Rival(name, system.log_probs, system.precision, system.through)
        for name, system in ((ENGINE, engine), (AGAIN, again))
    )
    expected = [own.call(x) for x in inputs]
    apart = {
        rival.name: max(float(np.abs(rival.call(x) - y).max()) for x, y in zip(inputs, expected, strict=True))
        for rival in (own, twin, *rivals)
    }
    times = race({rival.name: rival.call for rival in (own, twin, *rivals)}, inputs, seconds)
    control = ratio(times[AGAIN], times[ENGINE])
    unclear = max(control.high - 1, 1 - control.low)
    return [
        Row(
            rival.name,
            rival.through,
            rival.precision,
            rival in rivals and rival.precision in (engine.precision, FULL),
            float(np.median(times[rival.name]) / 1e6),
            float(times[rival.name].min() / 1e6),
            ratio(times[rival.name], times[ENGINE]),
            apart[rival.name],
            unclear,
        )
        for rival in (own, twin, *rivals)
    ]


def pytorch_rivals(run: Path, checkpoint: str, threads: int, compiled: bool = True) -> list[Rival]:
    """The network of the run folder in eager mode and compiled, in both memory formats.

    checkpoint: hash of the weights in the engine. Raises `BadInput` where those of the run are others.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        raise MissingExtra("torch", "bench") from error
    from distill.run import load_run

    trained = load_run(run)
    if trained.checkpoint_hash != checkpoint:
        raise BadInput(f"{run} has other weights than the engine: its checkpoint's hash is not the one in the contract")
    torch.set_num_threads(threads)
    network = trained.model.inference().eval()
    last: Any = copy.deepcopy(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    forms = {"": network}
    if any(weights.dim() == 4 for weights in network.parameters()):  # elsewhere the two formats are one
        forms[", channels last"] = last

    def call(module: Any) -> Call:
        def run_once(x: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                found: np.ndarray = module(torch.from_numpy(x)).numpy()
                return found

        return run_once

    through = f"torch {torch.__version__}"
    found = [Rival(f"PyTorch eager{form}", call(module), FULL, through) for form, module in forms.items()]
    if compiled:
        torch._dynamo.config.recompile_limit = 64  # one for each length of clip
        for form, module in forms.items():
            fast = torch.compile(copy.deepcopy(module), dynamic=False)
            found.append(Rival(f"torch.compile{form}", call(fast), FULL, through))
    return found


def onnxruntime_rival(file: Path, precision: str, threads: int) -> Rival:
    """The graph in ONNX Runtime's Python package."""
    session = open_session(file, threads)
    import onnxruntime

    return Rival(
        "ONNX Runtime", lambda x: session.run([OUTPUT], {INPUT: x})[0], precision,
        f"onnxruntime {onnxruntime.__version__}, Python",
    )  # fmt: skip


def openvino_rivals(file: Path, precision: str, threads: int) -> list[Rival]:
    """The graph in OpenVINO's Python package, told to keep to the graph's types and left to itself; none without it."""
    try:
        import openvino
    except ImportError:
        return []
    core = openvino.Core()
    settings = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": threads}

    def rival(name: str, **more: str) -> tuple[Rival, str]:
        compiled = core.compile_model(core.read_model(str(file)), "CPU", {**settings, **more})
        request = compiled.create_infer_request()
        type_name = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
        through = f"openvino {openvino.__version__.split('-')[0]}, Python"
        return Rival(name, lambda x: np.array(request.infer({INPUT: x})[OUTPUT]), precision, through), type_name

    told, _ = rival("OpenVINO, f32", INFERENCE_PRECISION_HINT="f32")
    left, takes = rival("OpenVINO, default")
    if takes != "f32":
        left = Rival(f"OpenVINO, default ({takes})", left.call, f"{precision} with {takes}", left.through)
    return [told, left]


def rivals_of(engine: EngineSystem, folder: Path, run: Path, threads: int) -> list[Rival]:
    """All of them. Raises `BadInput` for an engine that is not an ONNX graph."""
    if RUNTIMES.get(engine.runtime) != ENGINE_FILE:
        raise BadInput(f"{folder} is an engine for {engine.runtime}: its rivals on a CPU read ONNX graphs")
    file = folder if folder.suffix == ".onnx" else folder / ENGINE_FILE
    return [
        *pytorch_rivals(run, engine.hashes["checkpoint"], threads),
        onnxruntime_rival(file, engine.precision, threads),
        *openvino_rivals(file, engine.precision, threads),
    ]


def require(rows: Sequence[Row]) -> None:
    """Raise `CriterionFailed` naming the rivals that are judged and faster, beyond doubt or beyond what a run told."""
    ahead = [row for row in rows if row.judged and row.ratio.high < 1]
    slower = [row for row in ahead if row.verdict == "engine SLOWER"]
    names = ", ".join(f"{row.name} ({row.ratio.value:.3f})" for row in slower or ahead)
    if slower:
        raise CriterionFailed(f"the engine is slower than {names}")
    if ahead and ahead[0].unclear > CLEAR:
        raise CriterionFailed(
            f"not decided: the engine may be slower than {names}, and differs from itself by {ahead[0].unclear:.1%} in "
            "this run; measure longer, with less other work"
        )


def table(rows: Sequence[Row]) -> str:
    """For people."""
    lines = [f"{'':<30}{'precision':<16}{'median ms':>10}{'least':>9}{'ratio':>8}  {'95 %':<18}{'apart':>8}  verdict"]
    for row in rows:
        figures = f"{row.median_ms:10.3f}{row.least_ms:9.3f}"
        if row.name == ENGINE:
            lines.append(f"{row.name:<30}{row.precision:<16}{figures}{'':>8}  {'':<18}{'':>8}  {row.through}")
            continue
        interval = f"{row.ratio.low:.3f} to {row.ratio.high:.3f}"
        lines.append(
            f"{row.name:<30}{row.precision:<16}{figures}{row.ratio.value:8.3f}  {interval:<18}{row.apart:8.0e}  "
            f"{row.verdict}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.rivals", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("engine", type=Path, help="engine folder, or a bare ONNX file with a contract")
    parser.add_argument("--run", type=Path, required=True, help="run folder that the engine was made from")
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clips", type=int, default=5, help="spread over the lengths; each is compiled for apart")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args(arguments)
    try:
        _main(options)
    except SignedgeError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


def _main(options: argparse.Namespace) -> None:
    from distill.corpus.store import Corpus

    corpus = Corpus(options.corpus)
    engine, again = (EngineSystem(options.engine, options.threads) for _ in range(2))
    if engine.contract.padding.frames:
        raise BadInput(f"{options.engine} takes clips of one length; its rivals take any, so the two are not compared")
    clips = spread(pick_rows(corpus, options.split), options.clips)
    inputs = [engine.prepare(clip) for clip in load_clips([engine], corpus, clips)]
    rivals = rivals_of(engine, options.engine, options.run, options.threads)
    others = OtherWork()
    rows = compare(engine, again, rivals, inputs, options.seconds)
    busy, host = others.cores(), detect()
    frames, pairs = [clip.frames for clip in clips], rows[0].ratio.pairs
    print(f"{engine.name} on {host.cpu}, threads: {options.threads}, clips of {frames} frames, pairs: {pairs}")
    print(f"other processes meanwhile: {'unknown' if busy is None else f'{busy:.2f} of {host.cores} cores'}")
    print(table(rows))
    if not any(row.name.startswith("OpenVINO") for row in rows):
        print("not compared: OpenVINO, which is not installed (pip install 'signedge[openvino]')")
    if options.json:
        plain = [{**vars(row), "ratio": row.ratio._asdict(), "verdict": row.verdict} for row in rows]
        about: dict[str, Any] = {"engine": engine.name, "threads": options.threads, "frames": frames}
        text = json.dumps({**about, "other_work": busy, "host": host.described(), "rows": plain}, indent=2)
        options.json.write_text(text + "\n", encoding="utf-8")
    require(rows)


if __name__ == "__main__":
    sys.exit(main())
