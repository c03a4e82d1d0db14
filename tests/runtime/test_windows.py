"""Windows over clips that are longer than the one length of a network: where they lie, and what of each counts."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from runtime.contract import BLANK, Contract, Padding, RgbInput
from runtime.preprocess import prepare
from runtime.windows import hop, joined, windows


def contract(frames: int, lookahead: int) -> Contract:
    padding = Padding(2, 2, 4, frames)
    return Contract("net", RgbInput(4, 4), (BLANK, "RED"), 25.0, lookahead=lookahead, chunk=frames, padding=padding)


@pytest.mark.parametrize(("frames", "lookahead"), [*product((16, 24, 64), (-1, 0, 6, 10)), (64, 40), (16, 12)])
def test_every_step_sees_what_it_needs_and_comes_once(frames: int, lookahead: int) -> None:
    net = contract(frames, lookahead)
    ahead, shift = hop(net)
    assert ahead % 4 == 0 == shift % 4 and shift >= 4 and ahead + shift <= frames and ahead >= lookahead
    for length in range(1, 4 * frames):
        spans = windows(net, length)
        assert spans[0][0] == 0 and spans[-1][1] == length
        assert all(begin % 4 == 0 and end - begin <= frames for begin, end in spans)
        marked = np.array([
            [[begin, end, begin // 4 + step] for step in range(net.steps_run(end - begin))] for begin, end in spans
        ])  # fmt: skip
        found = joined(net, marked, length)
        np.testing.assert_array_equal(found[:, 2], np.arange(net.steps(length)))
        for begin, end, step in found:
            assert end == length or end - 4 * (step + 1) >= ahead
            assert begin == 0 or 4 * step - begin >= min(ahead, (frames - ahead) // 2 - 4)


def test_a_network_of_any_length_has_one_window() -> None:
    net = contract(0, 6)
    assert windows(net, 500) == [(0, 500)]
    assert joined(net, np.zeros((1, 125, 2)), 500).shape == (125, 2)


def test_a_clip_becomes_padded_windows() -> None:
    net = contract(16, -1)
    clip = np.arange(41, dtype=np.uint8)[:, None, None, None].repeat(4, 1).repeat(4, 2).repeat(3, 3)
    x = prepare(net, clip, None)
    spans = windows(net, 41)
    assert x.shape == (len(spans), 20, 3, 4, 4)
    for window, (begin, end) in zip(x, spans, strict=True):
        values = np.rint((window[:, 0, 0, 0] + 1) * 127.5)
        inner = [*range(begin, end), *[end - 1] * (16 - end + begin)]
        np.testing.assert_array_equal(values, [begin, begin, *inner, end - 1, end - 1])
