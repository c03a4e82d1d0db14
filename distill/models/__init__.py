"""The recognisers, built from plain specs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import ValidationError
from torch import nn

from distill.explain import explain
from distill.models.base import Output, Recogniser, Spec
from distill.models.cnn2d1d import Cnn2d1d, Cnn2d1dSpec
from distill.models.lrinet import Lrinet, LrinetSpec
from distill.models.stgcn import Stgcn, StgcnSpec
from distill.models.stgt import Stgt, StgtSpec
from runtime.contract import KeypointInput, RgbInput
from runtime.errors import BadInput

__all__ = ["Output", "Recogniser", "build", "resolve"]

NETWORKS: dict[str, tuple[type[Spec], Any, type]] = {
    "cnn2d1d": (Cnn2d1dSpec, Cnn2d1d, RgbInput),
    "lrinet": (LrinetSpec, Lrinet, RgbInput),
    "stgcn": (StgcnSpec, Stgcn, KeypointInput),
    "stgt": (StgtSpec, Stgt, KeypointInput),
}


def resolve(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec with its preset filled in and every default written out; what a run folder should keep.

    Raises `BadInput` for an unknown network, preset or field, and for values that do not fit together.
    """
    return _validated(spec).model_dump(mode="json")


def build(spec: dict[str, Any], classes: int, input: RgbInput | KeypointInput) -> Recogniser:
    """Network for `classes` classes (blank included) that reads `input`; random weights, drawn from torch's generator.

    `spec["name"]` is a key of `NETWORKS`; `spec["preset"]` (optional) names an entry of presets.yaml whose fields
    the others override. Raises `BadInput` as `resolve` does, and if the network does not read this kind of input.
    """
    valid = _validated(spec)
    _, network, reads = NETWORKS[spec["name"]]
    if not isinstance(input, reads):
        raise BadInput(f"model '{spec['name']}' does not read {input.kind}; its input must be a {reads.__name__}")
    recogniser: Recogniser = network(valid, classes, input)
    for module in recogniser.modules():
        if isinstance(module, nn.Conv2d):  # the layout that CPUs and tensor cores convolve fastest in
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    return recogniser


def _validated(spec: dict[str, Any]) -> Spec:
    name = spec.get("name")
    if name not in NETWORKS:
        raise BadInput(f"model '{name}' is not known; there are: {', '.join(sorted(NETWORKS))}")
    fields = dict(spec)
    preset = fields.pop("preset", None)
    if preset is not None:
        presets = yaml.safe_load(Path(__file__).with_name("presets.yaml").read_text(encoding="utf-8"))[name]
        if preset not in presets:
            raise BadInput(f"model '{name}' has no preset '{preset}'; it has: {', '.join(sorted(presets))}")
        fields = {**presets[preset], **fields}
    try:
        return NETWORKS[name][0].model_validate(fields)
    except ValidationError as error:
        raise BadInput(f"model '{name}': {explain(error, NETWORKS[name][0], 'spec')}") from error
