"""Run folders: what is read back is what was trained; broken files are named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiny
import torch

from distill.run import load_run, read_summary
from distill.train import train
from runtime.errors import BadInput


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    return train(tiny.skeleton(), tiny.write_corpus(folder / "corpus"), folder / "run")


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_weights_are_plain_tensors_and_come_back(run: Path) -> None:
    stored = torch.load(run / "weights.pt", weights_only=True)
    assert stored["classes"] == 4 and stored["model"]["name"] == "stgt"
    model = load_run(run).model
    assert all(torch.equal(value, stored["state_dict"][name]) for name, value in model.state_dict().items())


def _break(run: Path, name: str, content: bytes) -> None:
    (run / name).write_bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("run.json", b"{", "run.json is not JSON"),
        ("run.json", b"[]", "run.json does not hold an object"),
        ("recipe.yaml", b"a: [", "recipe.yaml is not YAML"),
        ("recipe.yaml", b"name: x", "recipe.yaml: model"),
        ("recipe.yaml", b"\xff\xfe\xff", "recipe.yaml"),
        ("contract.json", b"{}", "contract"),
        ("metrics.jsonl", b"nan?", "metrics.jsonl is not JSON"),
        ("metrics.jsonl", b'{"epoch": 1, "seconds": 1}', "metrics.jsonl: epoch 1 has no 'losses'"),
        ("weights.pt", b"hello", "weights.pt"),
    ],
)
def test_broken_files_are_named(run: Path, name: str, content: bytes, told: str) -> None:
    _break(run, name, content)
    with pytest.raises(BadInput, match=told) as error:
        load_run(run)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["recipe.yaml", "contract.json", "metrics.jsonl", "weights.pt"])
def test_missing_files_are_named(run: Path, name: str) -> None:
    (run / name).unlink()
    with pytest.raises(BadInput, match=name):
        load_run(run)


def test_weights_that_are_no_network_are_named(run: Path) -> None:
    from runtime.hashing import sha256_file

    torch.save({"model": {"name": "stgt"}}, run / "weights.pt")
    summary = read_summary(run)
    assert summary is not None
    (run / "run.json").write_text(json.dumps({**summary, "checkpoint": sha256_file(run / "weights.pt")}))
    with pytest.raises(BadInput, match=r"cannot read weights .*weights\.pt"):
        load_run(run)


def test_what_is_no_run_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"not a run folder: it has no run\.json"):
        load_run(tmp_path)
    assert read_summary(tmp_path / "nothing") is None
