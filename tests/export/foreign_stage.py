"""Networks as others write them, for the tests of export: VAC's form with its habits, and further ones by kind."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from export_stage import COLOURS
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

CLASSES = len(COLOURS) + 1
# What a user writes for the network below.
CONTRACT = """\
name: theirs
input: {kind: rgb, height: 8, width: 8}
glosses: [BLUE, GREEN, RED]
fps: 25
padding: {left: 6, right: 6, multiple: 4}
call: {frames: BTCHW, lengths: true, output: sequence_logits, axes: TBK, skip: [decoder.decode]}
"""


class NormLinear(nn.Module):
    """Classifier whose columns have length 1."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(inputs, classes)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.matmul(x, F.normalize(self.weight, dim=0))


class TemporalConv(nn.Module):
    """K5,P2,K5,P2 with a head for training; keeps account of lengths."""

    def __init__(self, inputs: int, width: int, classes: int) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for i in range(2):
            parts += [nn.Conv1d(width if i else inputs, width, 5), nn.BatchNorm1d(width), nn.ReLU(inplace=True)]
            parts += [nn.MaxPool1d(kernel_size=2, ceil_mode=False)]
        self.layers = nn.Sequential(*parts)
        self.fc = NormLinear(width, classes)

    def forward(self, x: Tensor, lengths: Any) -> tuple[Tensor, Tensor, Any]:
        """(B,C,T) -> (N,B,width), (N,B,K), lengths."""
        features, lengths = self.layers(x), copy.deepcopy(lengths)
        for _ in range(2):
            lengths -= 4
            lengths = torch.div(lengths, 2, rounding_mode="floor")
        return features.permute(2, 0, 1), self.fc(features.transpose(1, 2)).transpose(0, 1), lengths.cpu()


class Decoder:
    """Reads scores out of tensors, which no exporter can follow."""

    def decode(self, scores: Tensor) -> list[Any]:
        """Best class a step."""
        found: list[Any] = scores.argmax(-1).cpu().numpy().tolist()
        return found


class Vac(nn.Module):
    """2D CNN on real frames only, temporal convolutions, packed BiLSTM of two layers, normalised classifier."""

    def __init__(self, classes: int = CLASSES, width: int = 16) -> None:
        super().__init__()
        self.conv2d = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip
        self.conv1d = TemporalConv(8, width, classes)
        self.rnn = nn.LSTM(width, width // 2, num_layers=2, dropout=0.3, bidirectional=True)
        self.classifier = NormLinear(width, classes)
        self.decoder = Decoder()
        self.register_backward_hook(self.no_nan)

    def no_nan(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        """For training: gradients that are no numbers count as 0."""
        for item in inputs:
            item[item != item] = 0

    def masked(self, frames: Tensor, lengths: Any) -> Tensor:
        """The 2D CNN on the frames that clips really have."""
        longest = lengths[0]
        real = torch.cat([frames[longest * i : longest * i + length] for i, length in enumerate(lengths)])
        real, parts = self.conv2d(real), []
        for i in range(len(lengths)):
            part = real[sum(lengths[:i]) : sum(lengths[: i + 1])]
            parts.append(torch.cat([part, part.new(longest - part.size(0), *part.size()[1:]).zero_()]))
        return torch.cat(parts)

    def forward(self, x: Tensor, len_x: Tensor, label: Any = None, label_lgt: Any = None) -> dict[str, Any]:
        """(B,T,3,H,W) and lengths -> sequence_logits (N,B,K) and more."""
        clips, frames = x.shape[:2]
        rows = self.masked(x.reshape(clips * frames, *x.shape[2:]), len_x).reshape(clips, frames, -1)
        features, conv_logits, lengths = self.conv1d(rows.transpose(1, 2), len_x)
        packed, hidden = self.rnn(pack_padded_sequence(features, lengths))
        read, _ = pad_packed_sequence(packed)
        logits = self.classifier(read)
        decoded = None if self.training else self.decoder.decode(logits)
        return {
            "sequence_logits": logits, "conv_logits": conv_logits, "feat_len": lengths, "hidden": hidden,
            "recognized_sents": decoded,
        }  # fmt: skip


class ColourVac(Vac):
    """Weights set by hand so that it reads colours: what its packed BiLSTM adds is small."""

    def __init__(self) -> None:
        super().__init__()
        self.bright = nn.Linear(3, CLASSES)
        with torch.no_grad():
            for item in self.parameters():
                nn.init.normal_(item, std=0.05, generator=torch.Generator().manual_seed(item.numel()))
            self.bright.weight.zero_()
            self.bright.bias.zero_()
            self.bright.bias[0] = 3.0
            for label, rgb in enumerate(COLOURS.values(), start=1):
                self.bright.weight[label, int(np.argmax(rgb))] = 10.0

    def forward(self, x: Tensor, len_x: Tensor, label: Any = None, label_lgt: Any = None) -> dict[str, Any]:
        """As VAC's; the brightest of the four frames of a step decides."""
        found = super().forward(x, len_x, label, label_lgt)
        shown = torch.relu(x[:, 6:-6].mean((3, 4)))
        shown = F.max_pool1d(shown.transpose(1, 2), 4).permute(2, 0, 1)
        return {**found, "sequence_logits": found["sequence_logits"] + self.bright(shown)}


def vac(classes: int = CLASSES) -> nn.Module:
    """The untrained network."""
    return Vac(classes)


def colours() -> nn.Module:
    """The network that reads colours."""
    return ColourVac()


def write_theirs(folder: Path, network: nn.Module, contract: str = CONTRACT) -> tuple[Path, Path]:
    """A checkpoint as such repositories save it, and the contract file."""
    weights, agreed = folder / "theirs.pt", folder / "contract.yaml"
    state = {f"module.{name}": item for name, item in network.state_dict().items()}
    generator = {"torch": torch.get_rng_state(), "numpy": np.random.RandomState(0).get_state()}
    torch.save({"epoch": 40, "model_state_dict": state, "rng_state": generator}, weights)
    agreed.write_text(contract, encoding="utf-8")
    return weights, agreed


class _Rows(nn.Module):
    """Mean colour of a frame through a layer of each kind to scores: (B,T,3,H,W) -> (B,T/4,K)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 12)
        self.last = nn.Linear(12, CLASSES)

    def through(self, rows: Tensor, lengths: Any) -> Tensor:
        """(B,N,12) -> (B,N,12)."""
        return rows

    def forward(self, x: Tensor, lengths: Any) -> Tensor:
        rows = self.first(x.mean((3, 4)))
        rows = rows.unflatten(1, (-1, 4)).amax(2)
        return self.last(self.through(rows, lengths // 4))


class Recurrent(_Rows):
    """A recurrent layer, batch first, packed, from a given state; its last state is used, too."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        make: Any = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[kind]
        more = {"nonlinearity": "relu"} if kind == "rnn" else {}
        self.rnn = make(12, 6, num_layers=2, bidirectional=True, batch_first=True, bias=kind != "rnn", **more)
        self.kind = kind

    def through(self, rows: Tensor, lengths: Any) -> Tensor:
        start = torch.full((4, rows.shape[0], 6), 0.5)
        packed = pack_padded_sequence(rows, lengths, batch_first=True, enforce_sorted=False)
        packed, last = self.rnn(packed, (start, -start) if self.kind == "lstm" else start)
        read, _ = pad_packed_sequence(packed, batch_first=True, total_length=rows.shape[1])
        state = last[0] + last[1] if self.kind == "lstm" else last
        return read + state.sum(0).repeat(1, 2)[:, None]


class Transformer(_Rows):
    """torch's encoder layers with a mask of padding made of the lengths."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(12, 2, 24, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def through(self, rows: Tensor, lengths: Any) -> Tensor:
        mask = torch.arange(rows.shape[1])[None] >= lengths[:, None]
        result: Tensor = self.encoder(rows, src_key_padding_mask=mask)
        return result


class Shift(_Rows):
    """A temporal shift written by assignment to parts."""

    def through(self, rows: Tensor, lengths: Any) -> Tensor:
        moved = torch.zeros_like(rows)
        moved[:, :-1, :4] = rows[:, 1:, :4]
        moved[:, 1:, 4:8] = rows[:, :-1, 4:8]
        moved[:, :, 8:] = rows[:, :, 8:]
        return moved


class Loop(_Rows):
    """A loop over the steps."""

    def through(self, rows: Tensor, lengths: Any) -> Tensor:
        state, found = torch.zeros(rows.shape[0], 12), []
        for step in range(rows.shape[1]):
            state = torch.tanh(rows[:, step] + state)
            found.append(state)
        return torch.stack(found, 1)


class Whole(_Rows):
    """A length that goes through int()."""

    def through(self, rows: Tensor, lengths: Any) -> Tensor:
        return rows[:, : int(lengths.max())]


class Masked(_Rows):
    """A choice by values."""

    def through(self, rows: Tensor, lengths: Any) -> Tensor:
        chosen = rows[rows > 0]
        return rows + chosen.mean()


class Decides(_Rows):
    """A branch by values."""

    def through(self, rows: Tensor, lengths: Any) -> Tensor:
        return rows if rows.sum() > 0 else -rows


class OneClip(nn.Module):
    """(T,3,H,W) -> probabilities (T/4,K), the blank last; weights normalised by torch's own means."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.utils.weight_norm(nn.Linear(3, CLASSES))
        self.other = nn.utils.parametrizations.weight_norm(nn.Linear(CLASSES, CLASSES))

    def forward(self, clip: Tensor) -> tuple[Tensor, str]:
        rows = clip.mean((2, 3)).unflatten(0, (-1, 4)).amax(1)
        return self.other(self.last(rows)).softmax(-1), "said"


class Graph(nn.Module):
    """Convolutions over time and a product with an adjacency, ST-GCN's layout (B,3,T,V,1) -> (B,K,T/4)."""

    def __init__(self, joints: int, classes: int = CLASSES) -> None:
        super().__init__()
        self.register_buffer("adjacency", torch.eye(joints).repeat(2, 1, 1) + 0.1)
        self.importance = nn.Parameter(torch.rand(2, joints, joints))
        self.mix = nn.Conv2d(3, 2 * 8, 1)
        self.time = nn.Conv2d(8, 8, (9, 1), (4, 1), (4, 0))
        self.last = nn.Conv1d(8, classes, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        bodies, channels, frames, joints, people = x.shape
        x = x.permute(0, 4, 1, 2, 3).reshape(bodies * people, channels, frames, joints)
        x = self.mix(x).reshape(bodies * people, 2, 8, frames, joints)
        x = torch.einsum("nkctv,kvw->nctw", x, self.adjacency * self.importance)
        return {"scores": self.last(torch.relu(self.time(x)).mean(3))}


class Volume(nn.Module):
    """3D convolutions and correlation of neighbouring frames, CorrNet's layout (B,3,T,H,W)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv3d(3, 8, (1, 3, 3), padding=(0, 1, 1), bias=False)
        self.norm = nn.BatchNorm3d(8)
        self.pool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
        self.spread = nn.Conv3d(8, 8, (9, 3, 3), padding=(4, 1, 1), groups=8)
        self.shares = nn.Parameter(torch.tensor([0.3, 0.7]))
        self.alpha = nn.Parameter(torch.zeros(1) + 0.2)
        self.conv1d = nn.Conv1d(8, 12, 5, padding=2)
        self.rnn = nn.LSTM(12, 6, bidirectional=True)
        self.last = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor, lengths: Any) -> dict[str, Tensor]:
        x = self.pool(torch.relu(self.norm(self.first(x))))
        following = torch.concat([x[:, :, 1:], x[:, :, -1:]], 2)
        affinity = torch.sigmoid(torch.einsum("bcthw,bctsd->bthwsd", x, following)) - 0.5
        moved = torch.einsum("bctsd,bthwsd->bcthw", following, affinity)
        x = x + (moved * self.shares[0] + self.spread(x) * self.shares[1]) * self.alpha[0]
        x = x.transpose(1, 2).contiguous()
        rows = F.avg_pool2d(x.view((-1, *x.size()[2:])), x.shape[-1]).flatten(1)
        rows = rows.reshape(x.shape[0], -1, rows.shape[1]).transpose(1, 2)
        rows = F.max_pool1d(F.max_pool1d(self.conv1d(rows), 2), kernel_size=2, stride=2)
        lengths = torch.div(torch.div(lengths, 2, rounding_mode="floor"), 2, rounding_mode="floor")
        packed, _ = self.rnn(pack_padded_sequence(rows.permute(2, 0, 1), lengths.cpu()))
        return {"logits": self.last(pad_packed_sequence(packed)[0])}
