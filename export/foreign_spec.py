"""The contract file of a network that is not ours: its fields, what they may be, and the contract they make."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from distill.explain import explain
from runtime.contract import BLANK, Contract, KeypointInput, Padding, RgbInput, body_and_hands_layout
from runtime.errors import BadInput

LARGEST = 1 << 20  # bytes of a contract file
RGB_LAYOUTS = ("BTCHW", "BCTHW", "BTHWC", "TCHW", "CTHW")
KEYPOINT_LAYOUTS = ("BTVC", "BCTV", "BTCV", "BCTVM", "BTF", "TVC")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class RgbPart(_Part):
    """Frames of the network, in pixels: what its loader made of a video before it normalised and cropped."""

    kind: Literal["rgb"]
    height: int = Field(ge=1)
    width: int = Field(ge=1)


class KeypointPart(_Part):
    """As `runtime.contract.KeypointInput`; the layout is that of this project's skeletons unless another is named."""

    kind: Literal["keypoints"]
    joints: Literal["all"] | Annotated[list[str], Field(min_length=1)]
    roots: list[str] = []  # none: the first joint of `origin` for all
    origin: list[str] = Field(min_length=1)
    scale: list[str] = []
    layout: list[str] = list(body_and_hands_layout())


class PaddingPart(_Part):
    """Repeated edge frames; see `runtime.contract.Padding`."""

    left: int = Field(default=0, ge=0)
    right: int = Field(default=0, ge=0)
    multiple: int = Field(default=4, ge=1)


class PixelPart(_Part):
    """A channel as the network wants it: (value / scale - mean) / std, values 0..255. The default is -1..1."""

    scale: float = Field(default=127.5, gt=0)
    mean: list[float] = Field(default=[1.0, 1.0, 1.0], min_length=3, max_length=3)
    std: list[Annotated[float, Field(gt=0)]] = Field(default=[1.0, 1.0, 1.0], min_length=3, max_length=3)
    order: Literal["RGB", "BGR"] = "RGB"  # mean and std are in this order, too
    crop: int = Field(default=0, ge=0)  # side of the centre square that the network sees; 0: all


class CallPart(_Part):
    """How the network is called and which of its results is meant."""

    frames: Literal["BTCHW", "BCTHW", "BTHWC", "TCHW", "CTHW", "BTVC", "BCTV", "BTCV", "BCTVM", "BTF", "TVC"]
    channels: list[Annotated[int, Field(ge=0, le=4)]] = []  # of keypoints' five; none: all
    lengths: bool | str = False  # true: second argument; a name: by this name
    arguments: dict[str, Any] = {}  # further ones by name, the same for every clip
    output: str | int | None = None  # key, attribute or position; none: the result itself
    axes: Literal["TBK", "BTK", "BKT", "TK"]
    scores: Literal["logits", "log_probs", "probs"] = "logits"
    skip: list[str] = []  # methods within the network that are not run, such as decoder.decode


class ForeignSpec(_Part):
    """The contract file of a network that is not ours."""

    name: str
    input: Annotated[RgbPart | KeypointPart, Field(discriminator="kind")]
    glosses: str | list[str]
    blank: int = Field(default=0, ge=0)
    fps: float = Field(gt=0)
    frame_stride: int = Field(default=4, ge=1)
    lookahead: int = Field(default=-1, ge=-1)
    chunk: int = Field(default=0, ge=0)
    shift: int = Field(default=0, ge=0)
    padding: PaddingPart = PaddingPart()
    pixels: PixelPart | None = None
    call: CallPart
    build: dict[str, Any] = {}  # arguments of the factory

    @field_validator("glosses", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> Any:
        strange = next((item for item in value if not isinstance(item, str)), None) if isinstance(value, list) else None
        if strange is not None:
            raise ValueError(f"{strange!r} is no text; put glosses such as NO, ON and numbers in quotes")
        if not isinstance(value, str | list):
            raise ValueError("a list of texts, or the name of a file: gloss_dict.npy, or one gloss a line")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> ForeignSpec:
        rgb = isinstance(self.input, RgbPart)
        allowed = RGB_LAYOUTS if rgb else KEYPOINT_LAYOUTS
        if self.call.frames not in allowed:
            raise ValueError(f"call.frames is {self.call.frames}; for {self.input.kind} it is {', '.join(allowed)}")
        if self.pixels and not rgb:
            raise ValueError("pixels: keypoints have none; leave it out")
        if self.call.channels and rgb:
            raise ValueError("call.channels: of keypoints only; the order of colours is pixels.order")
        if ("B" in self.call.frames) != ("B" in self.call.axes):
            raise ValueError("call.frames and call.axes: both have the axis B of clips, or neither")
        if isinstance(self.input, RgbPart) and self.pixels:
            side = self.pixels.crop
            if side > min(self.input.height, self.input.width):
                raise ValueError(f"pixels.crop is {side}; the frames are {self.input.height} x {self.input.width}")
        return self


def read_spec(path: Path) -> ForeignSpec:
    """The contract file. Raises `BadInput` naming each field that is missing, unknown or wrong, and what is allowed."""
    try:
        if path.is_file() and path.stat().st_size > LARGEST:
            raise BadInput(f"{path} is no contract: it has more than {LARGEST} bytes")
        return ForeignSpec.model_validate(yaml.load(path.read_text(encoding="utf-8"), _PlainData))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read {path}: {error}") from error
    except ValidationError as error:
        raise BadInput(f"{path}: {explain(error, ForeignSpec, 'contract')}") from error
    except (yaml.YAMLError, ValueError) as error:  # a date that is none is a ValueError
        raise BadInput(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise BadInput(f"{path} is no contract: it is nested too deeply") from error


class _PlainData(yaml.SafeLoader):
    """YAML of plain data in which no field is there twice: the second would silently take the place of the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names: set[str] = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            if name and name in names:
                raise yaml.constructor.ConstructorError(None, None, f"'{name}' is there twice", key.start_mark)
            names.add(name)
        return super().construct_mapping(node, deep)


def make_contract(spec: ForeignSpec, glosses: list[str], sources: Mapping[str, str], path: Path) -> Contract:
    """The contract that goes into the ONNX file; `path` is where `spec` was read. Raises `BadInput`."""
    if spec.blank > len(glosses):
        raise BadInput(f"{path}: blank is {spec.blank}; with {len(glosses)} glosses it is from 0 to {len(glosses)}")
    part = spec.input
    source: RgbInput | KeypointInput
    if isinstance(part, RgbPart):
        source = RgbInput(part.height, part.width)
    else:
        joints = part.layout if part.joints == "all" else part.joints
        roots = part.roots or [part.origin[0]] * len(joints)
        source = KeypointInput(tuple(part.layout), tuple(joints), tuple(roots), tuple(part.origin), tuple(part.scale))
    try:
        return Contract(
            spec.name, source, (BLANK, *glosses), spec.fps, spec.frame_stride, spec.lookahead, spec.chunk, spec.shift,
            Padding(**spec.padding.model_dump()), sources,
        )  # fmt: skip
    except (BadInput, TypeError) as error:
        raise BadInput(f"{path}: {error}") from error
