"""What the export tests share: a network with hand-set weights that reads colours, and clips that show them.

Its reading is perfect by construction, so a rise of WER is the compiler's doing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from distill.corpus.schema import CorpusMetadata, SignClip
from distill.corpus.store import CorpusWriter
from runtime.contract import BLANK, Contract, Padding, RgbInput

COLOURS = {"BLUE": (40, 40, 250), "GREEN": (40, 250, 40), "RED": (250, 40, 40)}
SIZE = 8


class ColourNet(nn.Module):
    """Two convolutions that pass the three colours on, the brightest of four frames, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.second = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.classifier = nn.Linear(16, len(COLOURS) + 1)
        with torch.no_grad():
            for item in self.parameters():
                nn.init.normal_(item, std=0.01, generator=torch.Generator().manual_seed(item.numel()))
            self.norm.weight.fill_(1.0)
            for channel in range(3):
                self.first.weight[channel, channel, 1, 1] = 1.0
                self.second.weight[channel, channel, 1, 1] = 1.0
            self.classifier.bias.zero_()
            self.classifier.bias[0] = 3.0  # the blank wins where no colour shines
            for label, rgb in enumerate(COLOURS.values(), start=1):
                self.classifier.weight[label, int(np.argmax(rgb))] = 10.0

    def forward(self, x: Tensor) -> Tensor:
        """x (B,T,3,H,W) -> (B,T/4,K)."""
        clips, frames = x.shape[0], x.shape[1]
        maps = torch.relu(self.norm(self.first(x.flatten(0, 1))))
        maps = torch.relu(self.second(maps))
        steps = maps.mean((2, 3)).reshape(clips, frames // 4, 4, 16).amax(2)
        return self.classifier(steps).log_softmax(-1)


def network() -> ColourNet:
    """The network in evaluation mode."""
    return ColourNet().eval()


def contract(**changes: object) -> Contract:
    """The contract of the network."""
    fields = {
        "name": "colours", "input": RgbInput(SIZE, SIZE), "glosses": (BLANK, *COLOURS), "fps": 25.0,
        "padding": Padding(0, 0, 4), "sources": {"checkpoint": "c" * 64, "recipe": "r" * 64},
    }  # fmt: skip
    return Contract(**{**fields, **changes})


def colour_clip(glosses: list[str], rng: np.random.Generator) -> np.ndarray:
    """Each gloss is 8 to 15 frames of its colour, with at least 8 frames of darkness before, between and after."""
    parts = [np.zeros((8, 3))]
    for gloss in glosses:
        parts += [np.tile(COLOURS[gloss], (rng.integers(8, 16), 1)), np.zeros((rng.integers(8, 12), 3))]
    frames = np.concatenate(parts)[:, None, None, :] * np.ones((1, SIZE, SIZE, 1))
    return np.clip(frames + rng.uniform(0, 20, frames.shape), 0, 255).astype(np.uint8)


def write_corpus(folder: Path, splits: dict[str, int], vocabulary: tuple[str, ...] = tuple(COLOURS)) -> Path:
    """A corpus of colour clips: `splits` says how many clips each split has."""
    folder.mkdir()
    writer, rng = CorpusWriter(folder), np.random.default_rng(5)
    for split, count in splits.items():
        for number in range(count):
            glosses = [str(item) for item in rng.choice(list(COLOURS), rng.integers(1, 5))]
            clip = SignClip(f"{split}{number}", glosses, f"signer{number % 2}", 25.0, colour_clip(glosses, rng))
            writer.add(clip, split)
    writer.close(CorpusMetadata(name="colours", kind="synthetic", glosses=sorted(vocabulary)))
    return folder
