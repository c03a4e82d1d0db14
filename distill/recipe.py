"""Recipes: YAML that says what is trained on what input, from which teacher, with which losses and schedule."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from distill.corpus.schema import CorpusMetadata
from distill.explain import explain
from runtime.contract import KeypointInput, RgbInput, hand_root
from runtime.errors import BadInput
from runtime.hashing import sha256_bytes

RECIPES = Path(__file__).parent / "recipes"
FINGERS = ("thumb", "index", "middle", "ring", "little")
BODY = ("nose", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist")


def _hands(*parts: str) -> tuple[str, ...]:
    return tuple(f"{side}_hand_{part}" for side in ("left", "right") for part in parts)


# What a skeleton student may see; `all` is the whole layout of the corpus.
PRESETS: dict[str, tuple[str, ...]] = {
    "tips": BODY + _hands(*(f"{finger}4" for finger in FINGERS)),  # 17
    "fingers": BODY + _hands(*(f"{finger}{i}" for finger in FINGERS for i in (2, 4))),  # 27
    "hands": _hands("root", *(f"{finger}{i}" for finger in FINGERS for i in (2, 4))),  # 22
    "wrists_tips": _hands("root", *(f"{finger}4" for finger in FINGERS)),  # 12
}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RgbSource(_Part):
    """Square frames of `size` pixels."""

    kind: Literal["rgb"]
    size: int = Field(ge=8)


class KeypointSource(_Part):
    """Joints by preset name or one by one; `origin` and `scale` as `runtime.contract.KeypointInput` explains them."""

    kind: Literal["keypoints"]
    joints: Literal["all", "tips", "fingers", "hands", "wrists_tips"] | list[str] = "all"
    origin: list[str] = Field(default=["left_shoulder", "right_shoulder"], min_length=1)
    scale: list[str] = ["left_shoulder", "right_shoulder"]


class LogitTerm(_Part):
    """KL between clip posteriors (methods of VAC and SMKD: temperature 8, the blank dropped)."""

    weight: float = Field(ge=0)
    temperature: float = Field(default=8.0, gt=0)
    drop_blank: bool = True


class ContrastTerm(_Part):
    """Contrast of clip-level features (CRD in its InfoNCE form, with a queue of earlier features)."""

    weight: float = Field(ge=0)
    embed: int = Field(default=128, ge=8)
    queue: int = Field(default=0, ge=0)  # further negatives; stale while the heads still learn: see losses.contrast
    temperature: float = Field(default=0.07, gt=0)
    margin: int = Field(default=2, ge=0)  # steps of the same clip this near are no negatives


class RelationTerm(ContrastTerm):
    """Contrast of temporal relation graphs (TRKD): fixed prior, learned adjacency, or their sum."""

    adjacency: Literal["prior", "learned", "both"] = "both"
    hidden: int = Field(default=256, ge=8)
    layers: int = Field(default=1, ge=1)
    band: int = Field(default=2, ge=1)  # reach of the prior, in steps


class FeatureTerm(_Part):
    """Mean squared error of frame-level maps of equal size (CRKD)."""

    weight: float = Field(ge=0)


class Distillation(_Part):
    """Which knowledge is carried over, and how the frozen teacher is run.

    Live, the teacher sees the same moved view as the student. Cached (`cache_teacher`), it runs once over `cache_views`
    fixed views of every training clip: the clean clip, then moved ones; epochs take them in turn.
    """

    kd: LogitTerm | None = None
    crd: ContrastTerm | None = None
    relation: RelationTerm | None = None
    feature: FeatureTerm | None = None
    ramp_epochs: float = Field(default=0, ge=0)  # the contrastive terms grow from 0 to 1 over these
    pseudo_labels: bool = True  # steps of the anchor's gloss (forced alignment of the teacher) are no negatives
    cache_teacher: bool = False
    cache_views: int = Field(default=1, ge=1)


class Augmentation(_Part):
    """What changes from epoch to epoch. 0 switches a change off.

    `rescale` and `shift` change where and when things are, so the teacher sees the same; the rest is the student's.
    """

    rescale: float = Field(default=0, ge=0, lt=0.9)  # length changes by up to this share
    shift: float = Field(default=0, ge=0, lt=0.5)  # picture moves by up to this share of its side
    brightness: float = Field(default=0, ge=0, le=1)  # added, up to this share of the range
    contrast: float = Field(default=0, ge=0, lt=1)  # factor in 1 - c .. 1 + c
    colour: float = Field(default=0, ge=0, lt=1)  # the same, each channel by itself
    jitter: float = Field(default=0, ge=0)  # noise a joint and frame, in frame widths
    stretch: float = Field(default=0, ge=0, lt=1)  # factor in 1 - s .. 1 + s, x and y by themselves
    rotation: float = Field(default=0, ge=0)  # degrees
    hand_dropout: float = Field(default=0, ge=0, le=1)  # chance that a hand is lost for a stretch of the clip
    joint_dropout: float = Field(default=0, ge=0, lt=1)  # share of joint sightings that are lost


_GEOMETRY = ("rescale", "shift")
_RGB_ONLY = ("shift", "brightness", "contrast", "colour")
_KEYPOINTS_ONLY = ("jitter", "stretch", "rotation", "hand_dropout", "joint_dropout")


class Training(_Part):
    """Optimiser (AdamW), schedule, batches."""

    epochs: int = Field(ge=1)
    batch_size: int = Field(default=8, ge=1)  # clips
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    schedule: Literal["one-cycle", "cosine", "steps"] = "one-cycle"
    warmup: float = Field(default=0.1, ge=0, lt=1)  # share of all steps
    milestones: list[float] = [0.5, 0.75]  # of `steps`: shares of all steps
    decay: float = Field(default=0.2, gt=0, lt=1)  # of `steps`: factor at a milestone
    gradient_clip: float = Field(default=5.0, ge=0)  # norm; 0: none
    auxiliary_weight: float = Field(default=1.0, ge=0)  # of the auxiliary CTC heads
    curriculum: bool = False  # first epoch from short clips to long
    augment: Augmentation = Augmentation()
    evaluate_every: int = Field(default=5, ge=1)  # epochs between readings of the development split
    threads: int | None = Field(default=None, ge=1)  # CPU threads; none: torch's choice
    workers: int = Field(default=0, ge=0)  # processes that read and augment clips
    memory_gib: float = Field(default=3.0, gt=0)  # clips are kept in memory up to this much, else read when needed
    precision: Literal["32", "bf16", "auto"] = "32"  # auto: bf16 mixed with 32 where the processor has it, else 32
    devices: Annotated[int, Field(ge=1)] | Literal["auto"] = 1  # GPUs

    @field_validator("precision", mode="before")
    @classmethod
    def _written_as_a_number(cls, precision: Any) -> Any:
        return str(precision) if isinstance(precision, int) else precision


class Expectation(_Part):
    """The corpus that a recipe is meant for. It trains on another one, too, but then says so."""

    track: Literal["full", "hard"]  # keypoints of a composed corpus: `signedge corpus compose --track`


class Recipe(_Part):
    """One training run. `model` is checked by the model it names (`distill.models.build`)."""

    name: str = Field(min_length=1, pattern=r"^[\w.-]+$")
    description: str = ""
    seed: int = Field(default=0, ge=0)
    corpus: Expectation | None = None  # none: any
    model: dict[str, Any]
    input: Annotated[RgbSource | KeypointSource, Field(discriminator="kind")]
    teacher: str | None = None  # a run folder: a path, or the name of a folder beside this run's
    start_from: str | None = None  # a run folder, named like `teacher`: weights of equal name and shape are copied
    distillation: Distillation = Distillation()
    training: Training

    @field_validator("model")
    @classmethod
    def _named(cls, model: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(model.get("name"), str):
            raise ValueError("needs a name")
        return model

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        terms = [self.distillation.kd, self.distillation.crd, self.distillation.relation, self.distillation.feature]
        if any(terms) and self.teacher is None:
            raise ValueError("distillation needs a teacher; name one, or drop the distillation terms")
        if self.teacher is not None and not any(terms):
            raise ValueError("a teacher is named but no distillation term asks for it")
        other = _KEYPOINTS_ONLY if self.input.kind == "rgb" else _RGB_ONLY
        foreign = [key for key in other if getattr(self.training.augment, key)]
        if foreign:
            raise ValueError(f"training.augment.{foreign[0]} does not apply to {self.input.kind} input")
        if self.distillation.cache_teacher and self.distillation.cache_views == 1:
            moving = [key for key in _GEOMETRY if getattr(self.training.augment, key)]
            if moving:
                raise ValueError(
                    f"training.augment.{moving[0]} changes what the teacher should see, but it is cached: "
                    "set it to 0, raise distillation.cache_views, or set distillation.cache_teacher to false"
                )
        return self

    def text(self) -> str:
        """The whole recipe as YAML, defaults written out."""
        return _yaml(self.model_dump(mode="json"))

    def fingerprint(self) -> str:
        """Hash of all that shapes the training. What corpus was expected does not: a run without it is the same run."""
        return sha256_bytes(_yaml(self.model_dump(mode="json", exclude={"corpus"})).encode())

    def doubts(self, corpus: CorpusMetadata) -> list[str]:
        """Why `corpus` is not what this recipe is meant for; empty if it is."""
        if self.corpus is None or self.corpus.track == corpus.track:
            return []
        wanted, found = self.corpus.track, f"is of the {corpus.track} track" if corpus.track else "names no track"
        return [
            f"recipe '{self.name}' is meant for a corpus of the {wanted} track, corpus '{corpus.name}' {found}; "
            f"compose one with --track {wanted}, or read the figures accordingly"
        ]


def differences(old: Recipe, new: Recipe) -> list[str]:
    """Fields in which the trainings of two recipes differ, each as `training.epochs: 21 -> 30`, in the recipe's order.

    What a group lacks on one side is told as a whole: `distillation.kd: null -> {weight: 1.0, ...}`.
    """
    before, after = (recipe.model_dump(mode="json", exclude={"corpus"}) for recipe in (old, new))
    return _differences(before, after)


def _differences(old: dict[str, Any], new: dict[str, Any], path: str = "") -> list[str]:
    found = []
    for name in dict.fromkeys([*new, *old]):
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            found += _differences(before, after, f"{path}{name}.")
        elif before != after:
            found.append(f"{path}{name}: {_short(before)} -> {_short(after)}")
    return found


def _short(value: Any, most: int = 40) -> str:
    text = " ".join(yaml.safe_dump(value, default_flow_style=True, sort_keys=False).removesuffix("...\n").split())
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _yaml(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def load_recipe(recipe: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe by path, or by name under distill/recipes (`demo/teacher`), with `key=value` changes applied.

    A key may have dots (`training.epochs=3`); the value is YAML. Raises `BadInput` naming file and field.
    """
    path = find_recipe(recipe)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read recipe {path}: {error}") from error
    except yaml.YAMLError as error:
        raise BadInput(f"recipe {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise BadInput(f"recipe {path} must be a mapping with name, model, input and training")
    for change in changes:
        _apply(raw, change)
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        raise BadInput(f"recipe {path}: {explain(error, Recipe, 'recipe')}") from error


def find_recipe(recipe: str | Path) -> Path:
    """The file of a recipe given by path or name."""
    for path in (Path(recipe), RECIPES / f"{recipe}.yaml"):
        if path.is_file():
            return path
    raise BadInput(f"no recipe '{recipe}'; it is neither a file nor one of: {', '.join(names())}")


def names() -> list[str]:
    """The recipes that come with signedge."""
    return sorted(path.relative_to(RECIPES).with_suffix("").as_posix() for path in RECIPES.rglob("*.yaml"))


def _apply(raw: dict[str, Any], change: str) -> None:
    key, equals, value = change.partition("=")
    if not equals or not key:
        raise BadInput(f"--set {change}: write key=value, for example training.epochs=3")
    *path, last = key.split(".")
    place = raw
    for name in path:
        if place.get(name) is None:
            place[name] = {}
        place = place[name]
        if not isinstance(place, dict):
            raise BadInput(f"--set {change}: '{name}' is a value, not a group of values")
    try:
        place[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise BadInput(f"--set {change}: the value is not YAML") from error


def input_spec(source: RgbSource | KeypointSource, layout: Sequence[str]) -> RgbInput | KeypointInput:
    """The contract's input for a recipe's, given the corpus' keypoint layout.

    A hand's joint is seen relative to its hand's root, a joint of the body relative to the nose (where the layout has
    none, to the first origin joint).
    """
    if isinstance(source, RgbSource):
        return RgbInput(height=source.size, width=source.size)
    if not layout:
        raise BadInput("the recipe asks for keypoints; this corpus has none")
    joints = _joints(source, layout)
    if not joints:
        raise BadInput("recipe input.joints: name one joint at least, or a preset")
    body_root = "nose" if "nose" in layout else source.origin[0]
    roots = tuple(hand_root(joint) or body_root for joint in joints)
    missing = sorted({*joints, *roots, *source.origin, *source.scale} - set(layout))
    if missing:
        raise BadInput(f"recipe input: the corpus' keypoint layout has no {', '.join(missing)}")
    if len(source.scale) not in (0, 2):
        raise BadInput("recipe input.scale: name two joints, or none")
    return KeypointInput(tuple(layout), joints, roots, tuple(source.origin), tuple(source.scale))


def _joints(source: KeypointSource, layout: Sequence[str]) -> tuple[str, ...]:
    if source.joints == "all":
        return tuple(layout)
    return PRESETS[source.joints] if isinstance(source.joints, str) else tuple(source.joints)
