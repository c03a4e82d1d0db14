"""The contract: survives JSON unchanged, refuses what no model can keep, counts frames and steps."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from runtime.contract import (
    BLANK,
    Contract,
    KeypointInput,
    Padding,
    RgbInput,
    body_and_hands_layout,
    hand_root,
)
from runtime.errors import BadInput

LAYOUT = body_and_hands_layout()
POINTS = KeypointInput(
    layout=LAYOUT,
    joints=("nose", "left_hand_index4"),
    roots=("nose", "left_hand_root"),
    origin=("left_shoulder", "right_shoulder"),
    scale=("left_shoulder", "right_shoulder"),
)
CONTRACT = Contract(
    name="net",
    input=RgbInput(64, 48),
    glosses=(BLANK, "RAIN", "WIND", "SÜD"),
    fps=12.5,
    lookahead=8,
    chunk=64,
    shift=16,
    padding=Padding(6, 6, 4),
    sources={"corpus": "c0", "checkpoint": "ab"},
)


ONE_LENGTH = replace(CONTRACT, padding=Padding(6, 6, 4, 64))


@pytest.mark.parametrize(
    "contract", [CONTRACT, replace(CONTRACT, input=POINTS), replace(CONTRACT, sources={}), ONE_LENGTH]
)
def test_round_trip(contract: Contract) -> None:
    text = contract.to_json()
    assert Contract.from_json(text) == contract
    assert Contract.from_json(text).to_json() == text
    assert "\n" not in text and "SÜD" in text


def test_defaults_may_be_left_out() -> None:
    contract = Contract.from_dict(
        {"name": "net", "input": {"kind": "rgb", "height": 8, "width": 8}, "glosses": [BLANK, "RAIN"], "fps": 25}
    )
    assert (contract.frame_stride, contract.lookahead, contract.padding) == (4, -1, Padding(0, 0, 4))
    assert (contract.chunk, contract.shift) == (0, 0)
    assert contract.modality == "rgb" and replace(CONTRACT, input=POINTS).modality == "keypoints"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"glosses": (BLANK,)}, "name one gloss at least"),
        ({"glosses": ("RAIN", BLANK)}, f"must start with {BLANK}"),
        ({"glosses": ()}, f"must start with {BLANK}"),
        ({"glosses": (BLANK, "RAIN", "RAIN")}, "names a gloss twice"),
        ({"frame_stride": 0}, "frame_stride is 0; it must be from 1"),
        ({"fps": 0.0}, "fps is 0.0; it must be above 0"),
        ({"padding": Padding(0, 0, 0)}, "padding"),
        ({"padding": Padding(-1, 0, 4)}, "padding"),
        ({"input": RgbInput(0, 8)}, "height is 0; it must be from 1"),
        ({"input": replace(POINTS, joints=("nose", "left_hand_index9"))}, "not in the layout: left_hand_index9"),
        ({"input": replace(POINTS, origin=("tail",))}, "not in the layout: tail"),
        ({"input": replace(POINTS, roots=("nose", "tail"))}, "not in the layout: tail"),
        ({"input": replace(POINTS, scale=("nose", "tail"))}, "not in the layout: tail"),
        ({"input": replace(POINTS, roots=("nose",))}, "one root a joint"),
        ({"input": replace(POINTS, scale=("nose",))}, "none or two scale joints"),
        ({"input": replace(POINTS, layout=(*LAYOUT, "nose"))}, "names a joint twice"),
        ({"input": replace(POINTS, origin=())}, "a joint of origin"),
        ({"chunk": 10}, r"chunk \(10\) and shift \(16\) must be multiples of frame_stride \(4\)"),
        ({"chunk": 16, "shift": 6}, "multiples of frame_stride"),
        ({"chunk": 16, "shift": 20}, "shift at most chunk"),
        ({"chunk": 0}, "shift at most chunk"),
        ({"chunk": -4}, "chunk is -4; it must be from 0"),
        ({"padding": Padding(6, 6, 4, 60)}, r"padding.frames \(60\) must be .* equal to chunk \(64\)"),
        ({"padding": Padding(6, 6, 24, 64)}, "multiple of frame_stride"),
        ({"padding": Padding(6, 6, 4, 64), "lookahead": 61}, r"a step longer than lookahead \(61\)"),
        ({"padding": Padding(6, 6, 4, -4)}, "padding.frames is -4; it must be from 0"),
    ],
)
def test_what_no_model_can_keep_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        replace(CONTRACT, **changes)
    assert "'net'" in str(caught.value)


def plain(**changes: Any) -> dict[str, Any]:
    return {**json.loads(CONTRACT.to_json()), **changes}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("", "not JSON"),
        ("[]", "incomplete"),
        ("null", "incomplete"),
        ("{}", "incomplete.*input"),
        (json.dumps(plain(version=2)), "version 2 is not known"),
        (json.dumps(plain(input={"kind": "audio"})), "'audio' is neither rgb nor keypoints"),
        (json.dumps(plain(input={"height": 3, "width": 3})), "kind"),
        (json.dumps(plain(input="rgb")), "incomplete"),
        (json.dumps(plain(input={"kind": "rgb", "height": 3})), "width"),
        (json.dumps(plain(input={"kind": "rgb", "height": 3, "width": "3"})), "incomplete"),
        (json.dumps(plain(colour="red")), "unknown field.*colour"),
        (json.dumps(plain(padding={"top": 3})), "top"),
        (json.dumps(plain(padding=3)), "incomplete"),
        (json.dumps(plain(glosses=3)), "incomplete"),
        (json.dumps(plain(glosses="RAIN")), "incomplete.*glosses must be texts in a list"),
        (json.dumps(plain(fps="fast")), "incomplete"),
        (json.dumps(plain(name="two\nlines")), "name must be of 1 to 256 bytes on one line"),
        (json.dumps({**plain(), "a\nb": 1}), r"unknown field 'a\\nb'"),
        ("[" * 100000, "not JSON"),
        ('{"name": "a", "name": "b"}', "names a member twice"),
        ('{"fps": NaN}', "NaN is no number of JSON"),
    ],
)
def test_broken_text_is_told_in_one_line(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        Contract.from_json(text)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("padding", [Padding(0, 0, 4), Padding(6, 6, 4), Padding(3, 1, 1), Padding(0, 2, 8)])
def test_padded_lengths(padding: Padding) -> None:
    for frames in range(1, 40):
        inner = padding.total(frames) - padding.left - padding.right
        assert inner % padding.multiple == 0 and 0 <= inner - frames < padding.multiple


def test_a_network_of_one_length_pads_up_to_it_and_gives_more_steps() -> None:
    assert {ONE_LENGTH.padding.total(frames) for frames in (1, 30, 64)} == {76}
    assert (ONE_LENGTH.steps(30), ONE_LENGTH.steps_run(30)) == (8, 16)
    assert (CONTRACT.steps(30), CONTRACT.steps_run(30)) == (8, 8)


def test_readers_that_know_no_single_length_read_contracts_of_any() -> None:
    assert "frames" not in json.loads(CONTRACT.to_json())["padding"]
    assert json.loads(ONE_LENGTH.to_json())["padding"]["frames"] == 64


def test_steps_are_what_two_unpadded_convolutions_with_pooling_leave() -> None:
    """K5, P2, K5, P2 on a clip padded by (6, 6, 4): ceil(T / 4) steps, as promised."""
    for frames in range(1, 60):
        length = Padding(6, 6, 4).total(frames)
        assert ((length - 4) // 2 - 4) // 2 == CONTRACT.steps(frames) == -(-frames // 4)


def test_the_layout_of_body_and_hands() -> None:
    assert len(LAYOUT) == len(set(LAYOUT)) == 49
    assert LAYOUT[7] == "left_hand_root" and LAYOUT[28] == "right_hand_root" and LAYOUT[48] == "right_hand_little4"
    assert hand_root("left_hand_index4") == "left_hand_root" and hand_root("right_hand_root") == "right_hand_root"
    assert hand_root("left_wrist") is None
