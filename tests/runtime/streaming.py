"""Streams fed as a live program feeds them, frame by frame at 25 frames/s."""

from __future__ import annotations

import numpy as np
from test_engine import clip

from runtime.binding import Stream

PERIOD = 40_000_000  # ns


def sentence(count: int, seed: int) -> np.ndarray:
    """The clip of a random sentence: colours, each a step, with darkness now and then."""
    return clip(*(int(label) for label in np.random.default_rng(seed).integers(0, 4, count)))


def push(stream: Stream, video: np.ndarray, first: int = 0) -> None:
    """All frames at once; the first of them is frame `first` of the stream."""
    for number, frame in enumerate(video, start=first):
        stream.push(frame, number * PERIOD)


def words(stream: Stream) -> list[str]:
    """The glosses that became final."""
    return [gloss.text for gloss in stream.poll() if gloss.final]


def feed(stream: Stream, video: np.ndarray, first: int = 0) -> list[str]:
    """The final glosses of frames pushed and stepped one by one; the stream goes on."""
    found = []
    for number, frame in enumerate(video, start=first):
        stream.push(frame, number * PERIOD)
        stream.step()
        found += words(stream)
    return found


def end(stream: Stream) -> list[str]:
    """End the stream: the glosses that are left."""
    stream.finish()
    stream.step()
    return [gloss.text for gloss in stream.poll()]


def play(stream: Stream, video: np.ndarray) -> list[str]:
    """All glosses of a video, to its end."""
    return feed(stream, video) + end(stream)
