"""The contract's two readers, Python and C++: they accept the same texts, understand the same, refuse the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_contract import CONTRACT, LAYOUT, POINTS

from runtime.contract import (
    BLANK,
    LONGEST_NAME,
    LONGEST_TEXT,
    MOST_FRAMES,
    MOST_FRAMES_A_SECOND,
    MOST_FRAMES_A_STEP,
    MOST_GLOSSES,
    MOST_JOINTS,
    MOST_PIXELS,
    Contract,
)
from runtime.errors import BadInput

Ask = Callable[[Sequence[str]], list[str]]
BLOCKS = (0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 127, 128, 129, 1000, 2**20, 2**20 + 61)
RGB = {"kind": "rgb", "height": 8, "width": 8}


def rgb(**changes: Any) -> str:
    """A small contract of frames as JSON; `changes` replace its fields."""
    return json.dumps({"name": "net", "input": RGB, "glosses": [BLANK, "RAIN"], "fps": 25, **changes})


def keypoints(**changes: Any) -> str:
    """A small contract of keypoints as JSON; `changes` replace fields of its input."""
    spec = {"kind": "keypoints", "layout": ["a", "b"], "joints": ["a"], "roots": ["b"], "origin": ["a"]}
    return rgb(input={**spec, **changes})


def without(text: str, *path: str) -> str:
    """A contract without one field."""
    raw = json.loads(text)
    inner = raw
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return json.dumps(raw)


def glosses(count: int) -> list[str]:
    return [BLANK, *(str(i) for i in range(1, count))]


GOOD = {
    "all fields": CONTRACT.to_json(),
    "keypoints": replace(CONTRACT, input=POINTS).to_json(),
    "no scale": replace(CONTRACT, input=replace(POINTS, scale=())).to_json(),
    "defaults": rgb(),
    "keypoints, defaults": keypoints(),
    "white space": " \r\n\t" + json.dumps(json.loads(CONTRACT.to_json()), indent=2) + "\n",
    "escapes": rgb(glosses=[BLANK, 'A"\\/B', "S\u00dcD", "\U0001f91f"]),
    "escaped names": rgb().replace("fps", "\\u0066ps"),
    "no escapes": json.dumps(json.loads(rgb(glosses=[BLANK, "\U0001f91f", "\u20ac"])), ensure_ascii=False),
    "most frames": rgb(lookahead=MOST_FRAMES, chunk=MOST_FRAMES, shift=MOST_FRAMES),
    "most padding": rgb(padding={"left": MOST_FRAMES, "right": MOST_FRAMES, "multiple": MOST_FRAMES}),
    "one length, of a step beyond the lookahead": rgb(chunk=48, lookahead=44, padding={"frames": 48}),
    "one length": rgb(chunk=48, padding={"left": 2, "multiple": 12, "frames": 48}),
    "most pixels": rgb(input={**RGB, "height": MOST_PIXELS, "width": MOST_PIXELS}),
    "longest step": rgb(frame_stride=MOST_FRAMES_A_STEP),
    "highest rate": rgb(fps=MOST_FRAMES_A_SECOND),
    "lowest rate": rgb(fps=1e-300),
    "exact rate": rgb(fps=23.976023976023978),
    "most glosses": rgb(glosses=glosses(MOST_GLOSSES)),
    "most joints": keypoints(layout=[str(i) for i in range(MOST_JOINTS)], joints=["0"], roots=["0"], origin=["1"]),
    "longest name": rgb(name="\u00fc" * (LONGEST_NAME // 2)),
    "chunk alone": rgb(chunk=64),
    "window of another step": rgb(frame_stride=3, chunk=9, shift=6),
    "lookahead of the whole clip": rgb(lookahead=-1),
    "empty padding": rgb(padding={}),
    "empty sources": rgb(sources={}),
    "no escape needed in a source": rgb(sources={"corpus": "two\nlines"}),
    "minus zero": rgb(shift=0).replace('"shift": 0', '"shift": -0'),
}

BAD = {
    "empty": "",
    "space": " \n",
    "not an object": "[]",
    "null": "null",
    "a text": '"contract"',
    "cut": CONTRACT.to_json()[:-1],
    "followed": rgb() + "x",
    "twice": rgb() + rgb(),
    "byte order mark": "\ufeff" + rgb(),
    "trailing comma": rgb()[:-1] + ",}",
    "comment": rgb() + "// really",
    "single quotes": rgb().replace('"', "'"),
    "name without quotes": rgb().replace('"fps"', "fps"),
    "no colon": rgb().replace('"fps":', '"fps"'),
    "named twice": rgb()[:-1] + ', "fps": 25}',
    "named twice, escaped": rgb()[:-1] + ', "\\u0066ps": 25}',
    "input field named twice": rgb().replace('"height": 8', '"height": 8, "height": 8'),
    "deep": "[" * 100_000,
    "deep and closed": "[" * 2000 + "]" * 2000,
    "deep field": rgb(name="x").replace('"x"', '{"a":' * 500 + "1" + "}" * 500),
    "control character": rgb(name="a b").replace("a b", "a\tb"),
    "zero byte": rgb(name="a b").replace("a b", "a\0b"),
    "unknown escape": rgb(name="a b").replace("a b", "a\\xb"),
    "short escape": rgb(name="a b").replace("a b", "\\u12"),
    "escape of no digits": rgb(name="a b").replace("a b", "\\u12g4"),
    "escape with a sign": rgb(name="a b").replace("a b", "\\u-123"),
    "half a pair": rgb(glosses=[BLANK, "\ud800"]),
    "second half of a pair": rgb(glosses=[BLANK, "\udc00"]),
    "half a pair, then a letter": rgb(glosses=[BLANK, "\ud800A"]),
    "two first halves": rgb(glosses=[BLANK, "\ud800\ud800"]),
    "half a pair in a source": rgb(sources={"corpus": "\ud800"}),
    "half a pair as the name of a source": rgb(sources={"\ud800": "a"}),
    "half a pair as a field": rgb(**{"\ud800": 1}),
    "a line break as a field": rgb(**{"a\nb": 1}),
    "not a number": rgb().replace("25", "NaN"),
    "infinite": rgb().replace("25", "Infinity"),
    "minus infinite": rgb().replace("25", "-Infinity"),
    "hexadecimal": rgb().replace("25", "0x19"),
    "leading zero": rgb().replace("25", "025"),
    "plus": rgb().replace("25", "+25"),
    "bare point": rgb().replace("25", "25."),
    "no whole part": rgb().replace("25", ".25"),
    "bare exponent": rgb().replace("25", "25e"),
    "bare minus": rgb().replace("25", "-"),
    "capital literal": rgb().replace("25", "True"),
    "cut literal": rgb().replace("25", "nul"),
    "underscore": rgb().replace("25", "2_5"),
    "other digits": rgb().replace("25", "\u0662\u0665"),
    "too long": rgb() + " " * LONGEST_TEXT,
    "later version": rgb(version=2),
    "version of another type": rgb(version="1"),
    "version that is true": rgb(version=True),
    "version with a point": rgb(version=1.0),
    "no version": rgb(version=None),
    "unknown field": rgb(colour="red"),
    "unknown field of input": rgb(input={**RGB, "depth": 3}),
    "unknown field of padding": rgb(padding={"top": 3}),
    "one length that is no window": rgb(chunk=48, padding={"frames": 52}),
    "one length without a window": rgb(padding={"frames": 48}),
    "one length that the padding cannot give": rgb(chunk=48, padding={"multiple": 36, "frames": 48}),
    "one length of no step beyond the lookahead": rgb(chunk=48, lookahead=45, padding={"frames": 48}),
    "one length of half a step": rgb(frame_stride=3, chunk=48, padding={"multiple": 5, "frames": 48}),
    "field of keypoints": rgb(input={**RGB, "layout": ["a"]}),
    "field of frames": keypoints(height=8),
    **{f"without {name}": without(rgb(), name) for name in ("name", "input", "glosses", "fps")},
    **{f"without {name}": without(rgb(), "input", name) for name in ("kind", "height", "width")},
    **{f"without {name}": without(keypoints(), "input", name) for name in ("layout", "joints", "roots", "origin")},
    "input that is a text": rgb(input="rgb"),
    "input in pairs": rgb(input=[["kind", "rgb"], ["height", 8], ["width", 8]]),
    "unknown input": rgb(input={"kind": "audio"}),
    "kind of another type": rgb(input={**RGB, "kind": ["rgb"]}),
    "kind that is null": rgb(input={**RGB, "kind": None}),
    "kind with a line break": rgb(input={**RGB, "kind": "a\nb"}),
    "name of another type": rgb(name=3),
    "empty name": rgb(name=""),
    "name of two lines": rgb(name="a\nb"),
    "name with a line separator": rgb(name="a\u2028b"),
    "name with a control character": rgb(name="a\u0085b"),
    "name with a zero": rgb(name="a\0b"),
    "long name": rgb(name="\u00fc" * (LONGEST_NAME // 2) + "x"),
    "glosses of another type": rgb(glosses=3),
    "glosses in a text": rgb(glosses=BLANK),
    "glosses in an object": rgb(glosses={BLANK: 1, "RAIN": 2}),
    "gloss of another type": rgb(glosses=[BLANK, 3]),
    "empty gloss": rgb(glosses=[BLANK, ""]),
    "gloss of two lines": rgb(glosses=[BLANK, "A\nB"]),
    "long gloss": rgb(glosses=[BLANK, "A" * 100_000]),
    "no gloss": rgb(glosses=[]),
    "blank alone": rgb(glosses=[BLANK]),
    "blank last": rgb(glosses=["RAIN", BLANK]),
    "gloss twice": rgb(glosses=[BLANK, "RAIN", "RAIN"]),
    "blank twice": rgb(glosses=[BLANK, "RAIN", BLANK]),
    "too many glosses": rgb(glosses=glosses(MOST_GLOSSES + 1)),
    **{f"fps {value!r}": rgb(fps=value) for value in (0, -25, 0.0, 1000.1, 1001, "25", None, True, [25], 10**300)},
    "fps beyond all numbers": rgb().replace("25", "1e999"),
    "fps below all numbers": rgb().replace("25", "1e-999"),
    "fps of many digits": rgb().replace("25", "9" * 5000),
    **{
        f"{name} {value!r}": rgb(**{name: value})
        for name, values in {
            "frame_stride": (0, -4, MOST_FRAMES_A_STEP + 1, 4.0, "4", True, None, 2**31, 2**64),
            "lookahead": (-2, MOST_FRAMES + 1, 1.5, "x", False, None, 2**63, -(2**63)),
            "chunk": (-4, 10, MOST_FRAMES + 4, 8.0, "8", True, None, 2**32, 2**64 + 8),
            "shift": (-4, 4, MOST_FRAMES + 4, 0.0, "4", False, None, 2**32),
            "padding": (3, [], None, "left"),
            "sources": (3, [], None, "corpus", {"corpus": 3}, {"corpus": None}, {"corpus": ["a"]}),
        }.items()
        for value in values
    },
    "shift of no steps": rgb(chunk=16, shift=6),
    "shift above chunk": rgb(chunk=16, shift=20),
    "chunk of no steps": rgb(frame_stride=3, chunk=16),
    **{
        f"padding {name} {value!r}": rgb(padding={name: value})
        for name, values in {
            "left": (-1, MOST_FRAMES + 1, 1.0, "1", True, None),
            "right": (-1, MOST_FRAMES + 1, 2**40),
            "multiple": (0, -4, MOST_FRAMES + 1),
            "frames": (-4, MOST_FRAMES + 1, 4.0, "4", True, None),
        }.items()
        for value in values
    },
    **{
        f"{name} {value!r}": rgb(input={**RGB, name: value})
        for name in ("height", "width")
        for value in (0, -8, MOST_PIXELS + 1, 8.0, "8", True, None, 2**32 + 8, 2**63 - 1, 2**80)
    },
    "joint that is not in the layout": keypoints(joints=["c"]),
    "root that is not in the layout": keypoints(roots=["c"]),
    "origin that is not in the layout": keypoints(origin=["c"]),
    "scale that is not in the layout": keypoints(scale=["a", "c"]),
    "layout that names a joint twice": keypoints(layout=["a", "b", "a"]),
    "layout of another type": keypoints(layout="ab"),
    "layout of numbers": keypoints(layout=["a", "b", 3]),
    "joint of two lines": keypoints(layout=["a", "b", "c\nd"]),
    "empty layout": keypoints(layout=[]),
    "joints of another type": keypoints(joints="a"),
    "no joint": keypoints(joints=[], roots=[]),
    "no origin": keypoints(origin=[]),
    "more roots than joints": keypoints(roots=["a", "b"]),
    "one scale joint": keypoints(scale=["a"]),
    "three scale joints": keypoints(scale=["a", "b", "a"]),
    "scale that is null": keypoints(scale=None),
    "too many joints": keypoints(joints=["a"] * (MOST_JOINTS + 1), roots=["a"] * (MOST_JOINTS + 1)),
    "too large a layout": keypoints(layout=["a", "b", *(str(i) for i in range(MOST_JOINTS))]),
}


def read(ask: Ask, folder: Path, texts: Sequence[bytes]) -> Iterator[tuple[int, str]]:
    """Status and words of the C++ reader for each text."""
    commands = []
    for number, text in enumerate(texts):
        (folder / str(number)).write_bytes(text)
        commands.append(f"contract {folder / str(number)}")
    for answer in ask(commands):
        status, words = answer.split(" ", 1)
        yield int(status), words


def understood(contract: Contract) -> dict[str, Any]:
    """What the C++ reader keeps of a contract, as plain data."""
    plain = asdict(contract)
    del plain["sources"], plain["version"]
    return json.loads(json.dumps(plain))


def test_both_accept_and_understand_the_same(read_natively: Ask, tmp_path: Path) -> None:
    answers = read(read_natively, tmp_path, [text.encode() for text in GOOD.values()])
    for (case, text), (status, words) in zip(GOOD.items(), answers, strict=True):
        assert status == 0, f"{case}: {words}"
        assert json.loads(words) == understood(Contract.from_json(text)), case


def test_both_refuse_the_same_in_one_line(read_natively: Ask, tmp_path: Path) -> None:
    answers = read(read_natively, tmp_path, [text.encode() for text in BAD.values()])
    for (case, text), (status, words) in zip(BAD.items(), answers, strict=True):
        assert status == 2 and "contract" in words and len(words) < 1000, f"{case}: {status} {words}"
        with pytest.raises(BadInput) as caught:
            Contract.from_json(text)
            pytest.fail(f"{case}: refused in C++ only ({words})")
        message = str(caught.value)
        assert len(message.splitlines()) == 1 and len(message.encode()) < 1000, case


def test_what_differs_by_one_byte_is_judged_alike(read_natively: Ask, tmp_path: Path) -> None:
    """Random damage to a good contract: whatever it is, the readers agree."""
    rng = np.random.default_rng(3)
    contract = replace(CONTRACT, input=replace(POINTS, layout=LAYOUT[:10], joints=("nose",), roots=("nose",)))
    whole = contract.to_json().encode()
    damaged = []
    for _ in range(3000):
        text = bytearray(whole)
        at = int(rng.integers(len(text)))
        kind = rng.integers(3)
        if kind == 0:
            text[at] = rng.integers(32, 127)
        elif kind == 1:
            del text[at]
        else:
            text[at:at] = bytes([text[rng.integers(len(text))]])
        damaged.append(bytes(text))
    for text, (status, words) in zip(damaged, read(read_natively, tmp_path, damaged), strict=True):
        assert (status == 0) == accepted(text), f"{text!r}: {words}"


def accepted(text: bytes) -> bool:
    """Whether the Python reader takes the text."""
    try:
        Contract.from_json(text.decode())
    except (BadInput, UnicodeDecodeError):
        return False
    return True


@pytest.mark.parametrize(
    "broken",
    [b"\xff", b"\x80", b"\xc3", b"\xc0\x80", b"\xe2\x82", b"\xed\xa0\x80", b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80"],
)
def test_what_is_not_utf8_is_refused(read_natively: Ask, tmp_path: Path, broken: bytes) -> None:
    text = rgb(name="here").encode().replace(b"here", broken)
    assert list(read(read_natively, tmp_path, [text])) == [(2, "the contract is not JSON: it is not UTF-8")]


def test_too_many_values_are_refused(read_natively: Ask, tmp_path: Path) -> None:
    text = b'{"name":[' + b"1," * (2**20) + b"1]}"
    status, words = next(read(read_natively, tmp_path, [text]))
    assert status == 2 and "too many values" in words


@pytest.mark.parametrize("at_once", [1, 7, 63, 64, 65, 1000, 2**21])
def test_sha256_is_hashlibs(read_natively: Ask, tmp_path: Path, at_once: int) -> None:
    rng = np.random.default_rng(1)
    lengths = [length for length in BLOCKS if length / at_once < 2**17] + [int(rng.integers(2000)) for _ in range(20)]
    commands, expected = [], []
    for length in lengths:
        content = rng.bytes(length)
        file = tmp_path / str(len(commands))
        file.write_bytes(content)
        commands.append(f"sha256 {file} {at_once}")
        expected.append(" ".join([hashlib.sha256(content).hexdigest()] * 2))
    assert read_natively(commands) == expected
