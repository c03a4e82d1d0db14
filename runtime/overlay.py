"""A copy of a video with captions drawn over it: pillow writes them, PyAV encodes."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, Iterable, List, Optional, Sequence, Tuple

import numpy as np

from runtime.captions import Cue, check_format
from runtime.errors import BadInput, MissingExtra

FORMATS = {".mp4": "mp4", ".mkv": "matroska", ".mov": "mov"}
_CODECS = ("libx264", "libopenh264", "h264_v4l2m2m", "mpeg4")  # the first one that this build of FFmpeg has
_TIME_BASE = Fraction(1, 60000)  # whole for 24, 25, 30, 50, 60 and 29.97 frames a second; MPEG-4 allows no finer
_FONTS = ("NotoSansCJK-Regular.ttc", "NotoSans-Regular.ttf", "DejaVuSans.ttf")  # the most scripts first
_ROWS_A_LINE = 14  # lines of text that a picture is high
_FEWEST_PIXELS = 12  # of the letters


def check(path: Path, font: Optional[Path]) -> None:
    """Raise what `draw_captions` would, before the work: a suffix that names no format, no font, no pillow."""
    check_format(path, FORMATS)
    _font(font, _FEWEST_PIXELS)


def draw_captions(
    frames: Iterable[Tuple[int, np.ndarray]],
    rate: float,
    shown: Sequence[Cue],
    target: Path,
    form: str,
    font: Optional[Path],
) -> None:
    """Encode frames (ns, (H,W,3) uint8 RGB) with their cues to `target`, a file of format `form`; without sound.

    `rate` is what the file says of itself, frames a second; each frame keeps its own time.
    """
    av = _module("av")
    stream: Any = None
    with av.open(str(target), "w", format=form) as container:
        for time_ns, pixels in frames:
            if stream is None:
                stream = _stream(av, container, pixels, rate)
            drawn = _drawn(pixels, _text_at(shown, time_ns * 1e-9), font)
            frame = av.VideoFrame.from_ndarray(drawn, format="rgb24")
            frame = frame.reformat(width=stream.width, height=stream.height, format="yuv420p")
            frame.pts, frame.time_base = round(time_ns * 1e-9 / _TIME_BASE), _TIME_BASE
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode())


def _stream(av: Any, container: Any, pixels: np.ndarray, rate: float) -> Any:
    """A video stream of the frames' size, made even: chroma is stored for pairs of pixels."""
    known = [name for name in _CODECS if name in av.codecs_available]
    if not known:
        raise BadInput(f"this build of FFmpeg encodes none of {', '.join(_CODECS)}")
    stream = container.add_stream(known[0], rate=Fraction(rate).limit_denominator(1001))
    stream.height, stream.width, stream.pix_fmt = *(side + side % 2 for side in pixels.shape[:2]), "yuv420p"
    stream.codec_context.time_base = _TIME_BASE
    return stream


def _text_at(shown: Sequence[Cue], seconds: float) -> str:
    return next((cue.text for cue in shown if cue.start <= seconds < cue.end), "")


def _drawn(pixels: np.ndarray, text: str, font: Optional[Path]) -> np.ndarray:
    if not text:
        return pixels
    image = _module("PIL.Image", "pillow").fromarray(pixels)
    letters = _letters(text, image.width, image.height, font)
    image.paste(letters, (0, image.height - letters.height), letters)
    return np.asarray(image)


@lru_cache(maxsize=1)  # a cue is the same in each of its frames
def _letters(text: str, width: int, height: int, font: Optional[Path]) -> Any:
    """White letters on a dark band, as high as they need and as wide as the picture."""
    size = max(_FEWEST_PIXELS, height // _ROWS_A_LINE)
    letters = _font(font, size)
    lines = _lines(text.split(" "), letters, width - size)
    band = _module("PIL.Image", "pillow").new(
        "RGBA", (width, min(height, round(1.3 * size * len(lines)))), (0, 0, 0, 144)
    )
    draw = _module("PIL.ImageDraw", "pillow").Draw(band)
    for number, line in enumerate(lines):
        draw.text((width / 2, (number + 0.5) * 1.3 * size), line, font=letters, fill="white", anchor="mm")
    return band


def _lines(words: List[str], letters: Any, width: int) -> List[str]:
    lines = [words[0]]
    for word in words[1:]:
        longer = f"{lines[-1]} {word}"
        if letters.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _font(path: Optional[Path], size: int) -> Any:
    fonts = _module("PIL.ImageFont", "pillow")
    for name in [str(path)] if path else _FONTS:
        try:
            return fonts.truetype(name, size)
        except OSError:
            continue
    if path:
        raise BadInput(f"{path} is not a font that can be read")
    return fonts.load_default(size)


def _module(name: str, package: str = "av") -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtra(package, "run") from error
