"""Weights and gloss tables of others: read whole, fitted by name, and never run."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.foreign_files import LARGEST_TABLE, fit_weights, read_glosses, read_weights
from runtime.errors import BadInput


class Touch:
    """A pickle of this writes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def saved(folder: Path, content: Any) -> Path:
    torch.save(content, folder / "w.pt")
    return folder / "w.pt"


def renamed(front: str = "", inner: str = "") -> dict[str, Tensor]:
    return {f"{front}{inner.join(name.split('.', 1))}": item for name, item in network().state_dict().items()}


KEPT = {
    "bare": lambda: renamed(inner="."),
    "data parallel": lambda: {"state_dict": renamed("module.", "."), "epoch": 3},
    "a part in data parallel": lambda: {"model_state_dict": renamed(inner=".module."), "optimizer": {"lr": 0.1}},
    "compiled": lambda: {"model": renamed("_orig_mod.", ".")},
    "held as model": lambda: {"state_dict": renamed("model.", ".")},
    "beside numpy's generator": lambda: {"model": renamed(inner="."), "rng": np.random.RandomState(0).get_state()},
}


@pytest.mark.parametrize("way", KEPT)
def test_weights_are_found_and_fitted_however_they_were_saved(way: str, tmp_path: Path) -> None:
    path = saved(tmp_path, KEPT[way]())
    fresh, wanted = network(), network().state_dict()
    for item in fresh.state_dict().values():
        item.zero_()
    fit_weights(fresh, read_weights(path), path)
    assert all(torch.equal(item, wanted[name]) for name, item in fresh.state_dict().items())


def test_safetensors_are_read(tmp_path: Path) -> None:
    table, body = {"__metadata__": {"format": "pt"}}, b""
    for name, item in network().state_dict().items():
        content = item.numpy().tobytes()
        kind = "I64" if item.dtype == torch.int64 else "F32"
        places = [len(body), len(body) + len(content)]
        table[name] = {"dtype": kind, "shape": list(item.shape), "data_offsets": places}  # type: ignore[dict-item]
        body += content
    head = json.dumps(table).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(head)) + head + body)
    assert all(torch.equal(item, network().state_dict()[name]) for name, item in read_weights(path).items())
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(BadInput, match=r"w\.safetensors is not a safetensors file"):
        read_weights(path)


def test_weights_that_would_run_code_are_refused_and_do_not(tmp_path: Path) -> None:
    path = saved(tmp_path, {"state_dict": renamed(inner="."), "more": Touch(tmp_path / "ran")})
    with pytest.raises(BadInput, match=r"could run code on being read .*save its weights alone"):
        read_weights(path)
    assert not (tmp_path / "ran").exists()


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    (tmp_path / "junk.pt").write_bytes(b"junk")
    for path, message in (
        (tmp_path / "junk.pt", "junk.pt"),
        (tmp_path / "none.pt", "missing file"),
        (saved(tmp_path, [1, 2]), "holds a list; weights are a dictionary"),
    ):
        with pytest.raises(BadInput, match=message):
            read_weights(path)
    with pytest.raises(BadInput, match=r"holds no weights: .* it has: epoch"):
        read_weights(saved(tmp_path, {"epoch": 3}))


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    weights = renamed(inner=".")
    other = {**weights, "head.weight": torch.zeros(2)}
    del other["0.bias"]
    with pytest.raises(BadInput, match=r"it lacks 0\.bias; the network has no head\.weight"):
        fit_weights(network(), other, tmp_path)
    with pytest.raises(BadInput, match=r"0\.weight is 4x2, in the network 3x2"):
        fit_weights(network(), {**weights, "0.weight": torch.zeros(4, 2)}, tmp_path)
    with pytest.raises(BadInput, match="names a weight twice"):
        fit_weights(network(), {**weights, "module.0.weight": weights["0.weight"]}, tmp_path)
    old = {name: item for name, item in weights.items() if "num_batches" not in name}
    fit_weights(network(), old, tmp_path)


def test_a_part_that_is_called_as_a_wrapper_keeps_its_weights(tmp_path: Path) -> None:
    class Holder(nn.Linear):
        def __init__(self) -> None:
            super().__init__(2, 2)
            self.module = nn.Linear(2, 2)

    trained, fresh = Holder(), Holder()
    fit_weights(fresh, trained.state_dict(), tmp_path)
    assert all(torch.equal(item, trained.state_dict()[name]) for name, item in fresh.state_dict().items())


def glosses(folder: Path, content: Any, blank: int = 0) -> list[str]:
    np.save(folder / "gloss_dict.npy", content, allow_pickle=True)
    return read_glosses("gloss_dict.npy", folder, blank)


def test_glosses_of_vac_are_read_in_the_order_of_their_classes(tmp_path: Path) -> None:
    assert glosses(tmp_path, {"B": [2, 7], "A": [1, 9], "C": [3, 1]}) == ["A", "B", "C"]
    assert glosses(tmp_path, {"B": 1, "A": 0}, blank=2) == ["A", "B"]
    assert glosses(tmp_path, {"A": [np.int64(1), np.int64(300)], "Ä": [np.int32(2), 1]}) == ["A", "Ä"]


def test_glosses_in_a_list_or_a_text(tmp_path: Path) -> None:
    (tmp_path / "g.txt").write_text("A\n  B \n\nÄ\n", encoding="utf-8")
    assert read_glosses("g.txt", tmp_path, 0) == ["A", "B", "Ä"]
    assert read_glosses(["A"], tmp_path, 0) == ["A"]


def test_a_table_that_would_run_code_is_refused_and_does_not(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="may run code"):
        glosses(tmp_path, {"A": [1, Touch(tmp_path / "ran")]})
    assert not (tmp_path / "ran").exists()


TABLES = [
    ({"A": [1, 1], "B": [3, 1]}, "'B' is class 3"), ({"A": [0, 1]}, "'A' is class 0"),
    ({"A": [1, 1], "B": [1, 1]}, "'A' and 'B' are both class 1"), ({"A": "x"}, "'A' -> 'x' is not a gloss"),
    ({}, "no dictionary of glosses"), ([1, 2], "one dictionary"),
]  # fmt: skip


@pytest.mark.parametrize("table, message", TABLES)
def test_tables_that_are_none_are_told(table: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        glosses(tmp_path, table)


def test_broken_files_of_glosses(tmp_path: Path) -> None:
    glosses(tmp_path, {"A": [1, 1]})
    path = tmp_path / "gloss_dict.npy"
    whole = path.read_bytes()
    for content in (whole[:-3], whole[:40], b"", b"text"):
        path.write_bytes(content)
        with pytest.raises(BadInput, match=r"gloss_dict\.npy"):
            read_glosses("gloss_dict.npy", tmp_path, 0)
    with path.open("wb") as file:
        file.truncate(LARGEST_TABLE + 1)
    with pytest.raises(BadInput, match="no table of glosses: it has more than"):
        read_glosses("gloss_dict.npy", tmp_path, 0)
    (tmp_path / "g.txt").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(BadInput, match="cannot read"):
        read_glosses("g.txt", tmp_path, 0)
