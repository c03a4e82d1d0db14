"""Every network of the project, and one that is not ours, exported for real: each once for all export tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import foreign_stage
import torch
from export_stage import contract
from torch import nn

from distill.models import build
from export.foreign import load_foreign
from export.onnx_graph import ExportReport, export_onnx, training_only
from runtime.contract import KeypointInput, RgbInput, body_and_hands_layout, hand_root

HANDS = tuple(joint for joint in body_and_hands_layout() if hand_root(joint))
KEYPOINTS = KeypointInput(
    body_and_hands_layout(), HANDS, tuple(str(hand_root(joint)) for joint in HANDS), ("left_shoulder", "right_shoulder")
)
INPUTS: dict[str, RgbInput | KeypointInput] = {
    "lrinet": RgbInput(32, 32), "cnn2d1d": RgbInput(64, 64), "stgt": KEYPOINTS, "stgcn": KEYPOINTS,
}  # fmt: skip
NETWORKS = (*INPUTS, "bilstm")  # the last is a VAC that is not ours


@dataclass(frozen=True)
class Network:
    """A network with random weights: as it is trained, and its ONNX file."""

    trained: nn.Module
    report: ExportReport


class Networks:
    """Exports each network when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[str, Network] = {}

    def __call__(self, name: str) -> Network:
        if name not in self._made:
            torch.manual_seed(0)
            self._made[name] = (self._ours if name in INPUTS else self._theirs)(name)
        return self._made[name]

    def _ours(self, name: str) -> Network:
        trained = build({"name": name, "preset": "small"}, 4, INPUTS[name])
        agreed = contract(name=name, input=INPUTS[name], padding=trained.padding)
        inference = trained.inference()
        path = self._folder / f"{name}.onnx"
        return Network(trained, export_onnx(inference, agreed, path, training_only(trained, inference)))

    def _theirs(self, name: str) -> Network:
        weights, agreed = foreign_stage.write_theirs(self._folder, foreign_stage.vac())
        theirs = load_foreign("foreign_stage:vac", weights, agreed)
        path = self._folder / f"{name}.onnx"
        report = export_onnx(theirs.module, theirs.contract, path, theirs.left_out, theirs.foldable)
        return Network(theirs.module.network, report)
