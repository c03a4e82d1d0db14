"""The contract: everything a runtime must know to feed a model and read its output, carried inside the ONNX file.

Training writes it, the exporter embeds it (ONNX metadata key `signedge.contract`, JSON), and bench, gate and runtime
read nothing else, so training and deployment cannot drift apart. The runtime's C++ reads it too (src/contract.cpp), by
the same rules and limits.
"""

from __future__ import annotations

import dataclasses
import json
import re
import reprlib
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Tuple

from runtime.errors import BadInput

CONTRACT_VERSION = 1
METADATA_KEY = "signedge.contract"
BLANK = "<blank>"  # class 0 of every model
FRAME_STRIDE = 4  # frames an output step, of every network here

# What a contract may ask for at most: a file from a stranger shall not make a device ask for all of its memory.
LONGEST_TEXT = 16 << 20  # bytes of JSON
LONGEST_NAME = 256  # bytes
MOST_PIXELS = 4096  # of a side of the network's frames
MOST_GLOSSES = 65536  # with the blank
MOST_JOINTS = 4096
MOST_FRAMES = 65536  # of a window, its hop, the future, an edge
MOST_FRAMES_A_STEP = 1024
MOST_FRAMES_A_SECOND = 1000


@dataclass(frozen=True)
class Padding:
    """How a clip of T frames becomes the T' frames that the network sees: edge frames are repeated.

    `left` copies of the first frame, then copies of the last until the count without edges is a multiple of
    `multiple`, then `right` more. Convolutions without padding then give exactly ceil(T / multiple) outputs.

    With `frames`, the network takes one length only: copies of the last frame go on until there are so many, and
    the outputs beyond the clip's own are dropped. Longer clips are read through windows (runtime/windows.py).
    """

    left: int = 0
    right: int = 0
    multiple: int = FRAME_STRIDE
    frames: int = 0  # 0: any length

    def total(self, frames: int) -> int:
        """Padded length T' for a clip (or window) of `frames` frames."""
        return self.left + (self.frames or -(-frames // self.multiple) * self.multiple) + self.right


@dataclass(frozen=True)
class RgbInput:
    """Frames (T,H,W,3) uint8 RGB -> (T',3,height,width) float32: antialiased area resize, then value / 127.5 - 1."""

    height: int
    width: int
    kind: str = "rgb"


@dataclass(frozen=True)
class KeypointInput:
    """Keypoints (T,V,3) float32 (x, y in units of frame width, confidence) -> (T',len(joints),5) float32.

    The channels of a joint are: x, y relative to the mean of the `origin` joints, x, y relative to its `roots`
    joint, and the confidence. All four distances are divided by the distance between the two `scale` joints, if any
    are named. A joint of confidence 0 is all zeros. `roots[i]` names the root of `joints[i]`.

    A reference joint at exactly (0, 0) was not seen, whatever its confidence. While any that it takes is not seen, an
    origin, a root or a scale stays as last seen; before it is first seen, as then. Where it never is, the origin is
    (0.5, 0.5), the distances to the root are 0, and the scale is 1.
    """

    layout: Tuple[str, ...]
    joints: Tuple[str, ...]
    roots: Tuple[str, ...]
    origin: Tuple[str, ...]
    scale: Tuple[str, ...] = ()
    kind: str = "keypoints"


@dataclass(frozen=True)
class Contract:
    """Input, time and output of one recogniser.

    `frame_stride` frames make one output step. `lookahead` is the number of future frames an output step depends on
    (-1: the whole clip). A stream is read through a window of `chunk` frames that moves on by `shift` frames (0: not
    said; `chunk` is `padding.frames` where the network takes one length only). `fps` is the frame rate it was trained
    at. `glosses[0]` is the blank. `sources` maps what it was made from (corpus, checkpoint, recipe) to hashes. A field
    of another type raises `TypeError`, another value `BadInput`.
    """

    name: str
    input: Any  # RgbInput or KeypointInput
    glosses: Tuple[str, ...]
    fps: float
    frame_stride: int = FRAME_STRIDE
    lookahead: int = -1
    chunk: int = 0
    shift: int = 0
    padding: Padding = field(default_factory=Padding)
    sources: Mapping[str, str] = field(default_factory=dict)
    version: int = CONTRACT_VERSION

    def __post_init__(self) -> None:
        where = f"contract of {reprlib.repr(self.name)}"
        _check_names(where, "name", (self.name,), 1)
        _check_input(where, self.input)
        _check_names(where, "glosses", self.glosses, MOST_GLOSSES)
        if len(self.glosses) < 2 or self.glosses[0] != BLANK:
            raise BadInput(f"{where}: the gloss table must start with {BLANK} and name one gloss at least")
        if len(set(self.glosses)) != len(self.glosses):
            raise BadInput(f"{where}: the gloss table names a gloss twice")
        if isinstance(self.fps, bool) or not isinstance(self.fps, (int, float)):
            raise TypeError(f"fps must be a number, not {reprlib.repr(self.fps)}")
        if not 0 < self.fps <= MOST_FRAMES_A_SECOND:
            raise BadInput(
                f"{where}: fps is {reprlib.repr(self.fps)}; it must be above 0 and at most {MOST_FRAMES_A_SECOND}"
            )
        _check_whole(where, "frame_stride", self.frame_stride, 1, MOST_FRAMES_A_STEP)
        _check_whole(where, "lookahead", self.lookahead, -1, MOST_FRAMES)
        _check_whole(where, "chunk", self.chunk, 0, MOST_FRAMES)
        _check_whole(where, "shift", self.shift, 0, MOST_FRAMES)
        if self.chunk % self.frame_stride or self.shift % self.frame_stride or self.shift > self.chunk:
            raise BadInput(
                f"{where}: chunk ({self.chunk}) and shift ({self.shift}) must be multiples of frame_stride "
                f"({self.frame_stride}), shift at most chunk"
            )
        _check_whole(where, "padding.left", self.padding.left, 0, MOST_FRAMES)
        _check_whole(where, "padding.right", self.padding.right, 0, MOST_FRAMES)
        _check_whole(where, "padding.multiple", self.padding.multiple, 1, MOST_FRAMES)
        _check_whole(where, "padding.frames", self.padding.frames, 0, MOST_FRAMES)
        one, least = self.padding.frames, (self.steps(max(self.lookahead, 0)) + 1) * self.frame_stride
        if one and (one % self.frame_stride or one % self.padding.multiple or one != self.chunk or one < least):
            raise BadInput(
                f"{where}: padding.frames ({one}) must be a multiple of frame_stride ({self.frame_stride}) and of "
                f"padding.multiple ({self.padding.multiple}), equal to chunk ({self.chunk}), and a step longer than "
                f"lookahead ({self.lookahead})"
            )
        for name, value in self.sources.items():
            if not isinstance(value, str):
                raise TypeError(f"source {reprlib.repr(name)} must be a text, not {reprlib.repr(value)}")
            (name + value).encode()  # half a surrogate pair is no text

    @property
    def modality(self) -> str:
        """`rgb` or `keypoints`."""
        return self.input.kind

    def steps(self, frames: int) -> int:
        """Number of output steps N for a clip of `frames` frames."""
        return -(-frames // self.frame_stride)

    def steps_run(self, frames: int) -> int:
        """Steps that the network gives for such a clip or window: more than N where it takes one length only."""
        return self.steps(self.padding.frames or frames)

    def to_json(self) -> str:
        """Canonical JSON: the same contract always gives the same text.

        Where any length will do, nothing is said of it: readers that know only such contracts read it, too.
        """
        raw = dataclasses.asdict(self)
        if not self.padding.frames:
            del raw["padding"]["frames"]
        return json.dumps(raw, sort_keys=True, ensure_ascii=False, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> Contract:
        """Parse and validate; raises `BadInput` that says what is wrong."""
        try:
            if len(text.encode()) > LONGEST_TEXT:
                raise BadInput(f"the contract has more than {LONGEST_TEXT} bytes")
            raw = json.loads(text, object_pairs_hook=_distinct, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"the contract is not JSON: {error}") from error
        return Contract.from_dict(raw)

    @staticmethod
    def from_dict(raw: Dict[str, Any]) -> Contract:
        """Build from plain data (JSON or YAML)."""
        try:
            version = raw.get("version", CONTRACT_VERSION)
            if type(version) is not int or version != CONTRACT_VERSION:
                raise BadInput(
                    f"contract version {reprlib.repr(version)} is not known here (this is version {CONTRACT_VERSION})"
                )
            kind = raw["input"]["kind"]
            if kind not in ("rgb", "keypoints"):
                raise BadInput(f"contract: input kind {reprlib.repr(kind)} is neither rgb nor keypoints")
            source: Any = RgbInput if kind == "rgb" else KeypointInput
            fields = _fields(raw, Contract, "the contract")
            fields["input"] = source(**_fields(raw["input"], source, "the contract's input"))
            fields["padding"] = Padding(**_fields(raw.get("padding", {}), Padding, "the contract's padding"))
            return Contract(**fields)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadInput(f"the contract is incomplete or has a field of another type: {error}") from error


def _distinct(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object names a member twice")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def _fields(raw: Any, kind: type, where: str) -> Dict[str, Any]:
    """The members of an object as arguments of the dataclass `kind`: all are its fields, lists are tuples."""
    if not isinstance(raw, Mapping):
        raise TypeError(f"{where} must be an object, not {reprlib.repr(raw)}")
    known = {item.name for item in dataclasses.fields(kind)}
    for name in raw:
        if name not in known:
            raise BadInput(f"{where} has an unknown field {reprlib.repr(name)}")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()}


def _check_whole(where: str, name: str, value: Any, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, not {reprlib.repr(value)}")
    if not least <= value <= most:
        raise BadInput(f"{where}: {name} is {reprlib.repr(value)}; it must be from {least} to {most}")


_NO_NAME = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # control, line breaks, halves of surrogates


def _check_names(where: str, what: str, names: Any, most: int) -> None:
    """Names must fit captions, tables and C strings."""
    if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{what} must be texts in a list, not {reprlib.repr(names)}")
    if len(names) > most:
        raise BadInput(f"{where}: {what} has {len(names)} names, more than {most}")
    for name in names:
        if _NO_NAME.search(name) or not 1 <= len(name.encode()) <= LONGEST_NAME:
            raise BadInput(
                f"{where}: {what} must be of 1 to {LONGEST_NAME} bytes on one line; {reprlib.repr(name)} is not"
            )


def _check_input(where: str, spec: Any) -> None:
    if isinstance(spec, RgbInput):
        _check_whole(where, "height", spec.height, 1, MOST_PIXELS)
        _check_whole(where, "width", spec.width, 1, MOST_PIXELS)
        return
    for what in ("layout", "joints", "roots", "origin", "scale"):
        _check_names(where, what, getattr(spec, what), MOST_JOINTS)
    known = set(spec.layout)
    if len(known) != len(spec.layout):
        raise BadInput(f"{where}: the layout names a joint twice")
    missing = sorted({*spec.joints, *spec.roots, *spec.origin, *spec.scale} - known)
    if missing:
        raise BadInput(f"{where}: joints not in the layout: {', '.join(missing[:10])}")
    if not spec.joints or len(spec.joints) != len(spec.roots) or not spec.origin or len(spec.scale) not in (0, 2):
        raise BadInput(f"{where}: a joint, one root a joint, a joint of origin and none or two scale joints are needed")


def body_and_hands_layout() -> Tuple[str, ...]:
    """The 49 joints of this project's skeletons: 7 of the body, then 21 a hand in MediaPipe's order."""
    body = ("nose", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist")
    parts = ["root"] + [
        f"{finger}{i}" for finger in ("thumb", "index", "middle", "ring", "little") for i in range(1, 5)
    ]
    return body + tuple(f"{side}_hand_{part}" for side in ("left", "right") for part in parts)


def hand_root(joint: str) -> Optional[str]:
    """The wrist-side root of a hand joint (`left_hand_index4` -> `left_hand_root`), None for a joint of the body."""
    side, _, part = joint.partition("_hand_")
    return f"{side}_hand_root" if part else None
