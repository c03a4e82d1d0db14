"""The contract: everything a runtime must know to feed a model and read its output, carried inside the ONNX file.

Training writes it, the exporter embeds it (ONNX metadata key `signedge.contract`, JSON), and bench, gate and runtime
read nothing else, so training and deployment cannot drift apart.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional, Tuple

from runtime.errors import BadInput

CONTRACT_VERSION = 1
METADATA_KEY = "signedge.contract"
BLANK = "<blank>"  # class 0 of every model
FRAME_STRIDE = 4  # frames an output step, of every network here


@dataclass(frozen=True)
class Padding:
    """How a clip of T frames becomes the T' frames that the network sees: edge frames are repeated.

    `left` copies of the first frame, then copies of the last until the count without edges is a multiple of
    `multiple`, then `right` more. Convolutions without padding then give exactly ceil(T / multiple) outputs.
    """

    left: int = 0
    right: int = 0
    multiple: int = FRAME_STRIDE

    def total(self, frames: int) -> int:
        """Padded length T' for a clip of `frames` frames."""
        return self.left + -(-frames // self.multiple) * self.multiple + self.right


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
    (-1: the whole clip). `fps` is the frame rate it was trained at. `glosses[0]` is the blank. `sources` maps what it
    was made from (corpus, checkpoint, recipe) to hashes.
    """

    name: str
    input: Any  # RgbInput or KeypointInput
    glosses: Tuple[str, ...]
    fps: float
    frame_stride: int = FRAME_STRIDE
    lookahead: int = -1
    padding: Padding = field(default_factory=Padding)
    sources: Mapping[str, str] = field(default_factory=dict)
    version: int = CONTRACT_VERSION

    def __post_init__(self) -> None:
        if len(self.glosses) < 2 or self.glosses[0] != BLANK:
            raise BadInput(
                f"contract of '{self.name}': the gloss table must start with {BLANK} and name one gloss at least"
            )
        if len(set(self.glosses)) != len(self.glosses):
            raise BadInput(f"contract of '{self.name}': the gloss table names a gloss twice")
        if self.frame_stride < 1 or self.fps <= 0:
            raise BadInput(f"contract of '{self.name}': frame_stride and fps must be positive")
        if self.padding.multiple < 1 or min(self.padding.left, self.padding.right) < 0:
            raise BadInput(f"contract of '{self.name}': padding cannot be negative, nor to a multiple below 1")
        if isinstance(self.input, RgbInput) and min(self.input.height, self.input.width) < 1:
            raise BadInput(f"contract of '{self.name}': frames must have a height and a width")
        if isinstance(self.input, KeypointInput):
            known = set(self.input.layout)
            named = (*self.input.joints, *self.input.roots, *self.input.origin, *self.input.scale)
            missing = sorted({joint for joint in named if joint not in known})
            if missing:
                raise BadInput(f"contract of '{self.name}': joints not in the layout: {', '.join(missing)}")
            if len(self.input.joints) != len(self.input.roots) or len(self.input.scale) not in (0, 2):
                raise BadInput(f"contract of '{self.name}': one root a joint and none or two scale joints are needed")

    @property
    def modality(self) -> str:
        """`rgb` or `keypoints`."""
        return self.input.kind

    def steps(self, frames: int) -> int:
        """Number of output steps N for a clip of `frames` frames."""
        return -(-frames // self.frame_stride)

    def to_json(self) -> str:
        """Canonical JSON: the same contract always gives the same text."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, ensure_ascii=False, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> Contract:
        """Parse and validate; raises `BadInput` that says what is wrong."""
        try:
            raw = json.loads(text)
        except ValueError as error:
            raise BadInput(f"the contract is not JSON: {error}") from error
        return Contract.from_dict(raw)

    @staticmethod
    def from_dict(raw: Dict[str, Any]) -> Contract:
        """Build from plain data (JSON or YAML)."""
        try:
            version = raw.get("version", CONTRACT_VERSION)
            if version != CONTRACT_VERSION:
                raise BadInput(f"contract version {version} is not known here (this is version {CONTRACT_VERSION})")
            plain: Dict[str, Any] = dict(raw["input"])
            kind = plain.pop("kind")
            if kind == "rgb":
                source: Any = RgbInput(**plain)
            elif kind == "keypoints":
                source = KeypointInput(**{key: tuple(value) for key, value in plain.items()}, kind=kind)
            else:
                raise BadInput(f"contract: input kind '{kind}' is neither rgb nor keypoints")
            rest = {key: value for key, value in raw.items() if key not in ("input", "glosses", "padding")}
            return Contract(
                input=source, glosses=tuple(raw["glosses"]), padding=Padding(**raw.get("padding", {})), **rest
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadInput(f"the contract is incomplete or has an unknown field: {error}") from error


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
