"""A source through a stream, to its end or until a fault, a limit or an interrupt: push, step, poll."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import Any, Callable, Iterator, List, NamedTuple, Optional

import numpy as np

from runtime.abi import RGB
from runtime.binding import Gloss, Stream
from runtime.errors import BadInput
from runtime.preprocess import centre_square
from runtime.source import Latest, Readable, Source, clocked, until

_CAMERA_FRAMES = 25  # that may wait while the network runs

Show = Callable[[float, List[Gloss], List[Gloss]], None]  # seconds, what became final, what may change


class Recognition(NamedTuple):
    """What was recognised in so many seconds; `fault` ended it early, `lost` frames of a camera came too fast."""

    glosses: List[Gloss]
    seconds: float
    lost: int
    fault: Optional[BadInput]


def recognise(stream: Stream, source: Source, rate: float, seconds: Optional[float], show: Show) -> Recognition:
    """Recognise `source` (all, or its first `seconds`); items without times come at `rate`. `show` is called for each.

    What could be read before a fault is recognised. SIGINT and SIGTERM end a camera as its last frame would.
    """
    camera = Latest(source.items, _CAMERA_FRAMES) if source.live else None
    items = Readable(camera or source.items)
    glosses: List[Gloss] = []
    first = now = None
    with _ended_by_signals(camera):
        for time_ns, item in until(clocked(items, rate), seconds):
            push(stream, item, time_ns)
            stream.step()
            now = time_ns * 1e-9
            first = now if first is None else first
            _take(stream, glosses, now, show)
    if now is None and camera is None:
        raise BadInput(f"{source.name} has nothing to recognise")
    stream.finish()
    stream.step()
    _take(stream, glosses, now or 0.0, show)
    lasted = 0.0 if now is None or first is None else now - first + 1 / rate
    return Recognition(glosses, lasted, camera.lost if camera else 0, items.fault)


@contextlib.contextmanager
def _ended_by_signals(camera: Optional[Latest]) -> Iterator[None]:
    """The first signal ends the camera, a second one the command, as it ends the reading of a file at once."""
    if camera is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def end(number: int, frame: Any) -> None:
        camera.stop()
        restore()

    try:
        for number in before:
            signal.signal(number, end)
        yield
    finally:
        restore()


def push(stream: Stream, item: np.ndarray, time_ns: int) -> None:
    """Give keypoints (V,3), or the centre square of a frame (H,W,3) uint8 RGB, which is what corpora keep of it."""
    if stream.model.modality == "keypoints":
        stream.push(item, time_ns)
        return
    height, width = item.shape[:2]
    top, left, side = centre_square(height, width)
    stream.push_planes([item], width, height, time_ns, RGB, crop=(left, top, side, side))


def _take(stream: Stream, glosses: List[Gloss], now: float, show: Show) -> None:
    polled = stream.poll()
    fresh = [gloss for gloss in polled if gloss.final]
    glosses += fresh
    show(now, fresh, [gloss for gloss in polled if not gloss.final])
