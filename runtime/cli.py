"""`signedge run`: the glosses of a video or a camera, live, as caption files, or drawn over the video."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Dict, List, Optional, Sequence

import typer

from runtime import captions, overlay
from runtime.atomic import atomic_file, check_writable
from runtime.binding import BLOCK, WHOLE_CLIP, Decoding, LanguageModel, Model
from runtime.contract import Contract
from runtime.display import display
from runtime.engine import refuse_bundle, verify_opened
from runtime.errors import BadInput
from runtime.live import recognise
from runtime.source import Readable, camera_device, clocked, open_source, until

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_BEAM_WIDTH = 10  # where a language model or hot words ask for beam search
_SAME_RATE = 0.01  # relative difference of frame rates that is none


@app.command(help=__doc__)
def run(
    engine: Annotated[Path, typer.Argument(help="engine folder, or a bare ONNX file with a contract")],
    source: Annotated[
        str,
        typer.Argument(
            help="a video, camera, camera:N, /dev/videoN, a folder of images or an .npy of frames; for an engine of "
            "keypoints an .npy or .npz of them"
        ),
    ],
    out: Annotated[
        Optional[List[Path]],
        typer.Option(metavar="FILE", help="write captions: .vtt, .srt or .json; may be given several times"),
    ] = None,
    video: Annotated[
        Optional[Path],
        typer.Option(metavar="FILE", help="write the video with captions drawn over it, no sound: .mp4, .mkv or .mov"),
    ] = None,
    font: Annotated[Optional[Path], typer.Option(help="font file of those captions")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object a gloss")] = False,
    whole: Annotated[bool, typer.Option("--whole", help="recognise once, at the end, as gate and bench do")] = False,
    chunk: Annotated[
        int, typer.Option(min=0, help="frames that the network sees at once, a multiple of 4; 0: the engine's, or 256")
    ] = 0,
    shift: Annotated[
        int, typer.Option(min=0, help="new frames from run to run, a multiple of 4; 0: the engine's, or 16")
    ] = 0,
    beam_width: Annotated[int, typer.Option(min=0, help="beam search with so many prefixes; 0: greedy")] = 0,
    lm: Annotated[
        Optional[Path], typer.Option(metavar="ARPA", help="language model over glosses, for beam search")
    ] = None,
    lm_weight: Annotated[float, typer.Option(min=0, help="weight of the language model; 0: 0.25")] = 0.0,
    gloss_bonus: Annotated[
        float, typer.Option(help="added (log) for each gloss in beam search; 0: 1 with a language model, else none")
    ] = 0.0,
    hot: Annotated[
        Optional[List[str]],
        typer.Option(
            metavar="GLOSS=BOOST", help="favour a gloss in beam search by BOOST (log); may be given several times"
        ),
    ] = None,
    resample: Annotated[
        Optional[bool],
        typer.Option(
            "--resample/--every-frame", help="frames at the engine's rate, or each; default: each, if the rates agree"
        ),
    ] = None,
    fps: Annotated[Optional[float], typer.Option(help="frame rate of a source that does not say it")] = None,
    seconds: Annotated[Optional[float], typer.Option(min=0, help="stop after so much of the source")] = None,
    backend: Annotated[
        Optional[str], typer.Option(help="library that runs the engine; default: what it was made for")
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="threads inside one run; 0: every core")] = 0,
    trust: Annotated[bool, typer.Option("--trust", help="run a plan (code) that is not signed with your key")] = False,
) -> None:
    if fps is not None and not 0 < fps <= 1000:
        raise BadInput(f"--fps {fps:g}: give frames a second, above 0 and up to 1000")
    if whole and (chunk or shift):
        raise BadInput("--whole recognises once, at the end: leave out --chunk and --shift")
    _check_targets(source, out or [], video, font)
    decoding = _decoding(beam_width, lm, hot or [])._replace(lm_weight=lm_weight, gloss_bonus=gloss_bonus)
    refuse_bundle(engine)
    model = Model(engine, threads=threads, backend=backend, trust=trust)
    signed = verify_opened(engine, Contract.from_json(model.contract))
    if signed.changed:
        typer.echo(f"warning: {engine}: {signed.why}", err=True)
    given = open_source(source, model.modality, model.layout, fps)
    if video and model.modality == "keypoints":
        raise BadInput("--video draws over frames; this engine reads keypoints: leave it out")
    rate = given.rate or model.info.fps
    resampled = abs(rate - model.info.fps) > _SAME_RATE * model.info.fps if resample is None else resample
    stream = model.stream(WHOLE_CLIP if whole else chunk, shift, 0, 0, BLOCK, resampled, given.joints, decoding)
    with display(as_json) as screen:
        found = recognise(stream, given, rate, seconds, screen.show)
    about = {
        "engine": str(engine),
        "source": given.name,
        "complete": found.fault is None,
        "seconds": round(found.seconds, 3),
        "fps": round(rate, 3),
        "resampled_to": model.info.fps if resampled else None,
        "statistics": {**stream.statistics(), "frames_lost": found.lost},
    }
    for path in out or []:
        with atomic_file(path) as temporary:
            temporary.write_text(captions.rendered(path, found.glosses, about), encoding="utf-8")
    if video:
        again = Readable(clocked(open_source(source, model.modality, model.layout, fps).items, rate))
        with atomic_file(video) as temporary:
            shown = captions.cues(found.glosses)
            form = overlay.FORMATS[video.suffix.lower()]
            overlay.draw_captions(until(again, seconds), rate, shown, temporary, form, font)
    _summarise(about, len(found.glosses))
    if found.fault:
        raise BadInput(f"{found.fault}; what comes before was recognised")


def _check_targets(source: str, out: Sequence[Path], video: Optional[Path], font: Optional[Path]) -> None:
    """Whether the files can be written: now, not after an hour of video."""
    for path in out:
        captions.check_format(path)
    if video:
        overlay.check(video, font)
        if camera_device(source):
            raise BadInput("--video reads the video a second time, and a camera cannot be: record it first")
        if video.resolve() == Path(source).resolve():
            raise BadInput(f"--video would write over the source {source}: name another file")
    for path in [*out, *([video] if video else [])]:
        check_writable(path)


def _decoding(beam_width: int, lm: Optional[Path], hot: Sequence[str]) -> Decoding:
    boosts: Dict[str, float] = {}
    for item in hot:
        gloss, _, boost = item.rpartition("=")
        try:
            boosts[gloss] = float(boost)
        except ValueError:
            gloss = ""
        if not gloss:
            raise BadInput(f"--hot {item}: give a gloss and what to add to its log-probability, such as REGEN=2")
    if (lm or boosts) and not beam_width:
        beam_width = _BEAM_WIDTH
    return Decoding(beam_width=beam_width, lm=LanguageModel(lm) if lm else None, hot_words=boosts)


def _summarise(about: Dict[str, Any], glosses: int) -> None:
    counts = about["statistics"]
    words = f"{about['seconds']:.1f} s, {glosses} glosses, {_two_digits(counts['real_time_factor'])} of real time"
    if about["resampled_to"]:
        words += (
            f"; {about['fps']:g} frames/s taken as the engine's {about['resampled_to']:g}: "
            f"{counts['frames_skipped']} left out, {counts['frames_repeated']} repeated"
        )
    if counts["frames_lost"]:
        words += f"; {counts['frames_lost']} frames of the camera were lost: this machine is too slow for the engine"
    typer.echo(words, err=True)


def _two_digits(value: float) -> str:
    """Two significant digits and never an exponent: 0.0042, 0.35, 1.2, 12, 120."""
    if value <= 0:
        return "0"
    rounded = float(f"{value:.1e}")
    return f"{rounded:.{max(0, 1 - math.floor(math.log10(rounded)))}f}"
