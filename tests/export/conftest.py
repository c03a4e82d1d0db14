"""Fixtures of the export tests: one exported network and one corpus, made once."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from export_stage import contract, network, write_corpus

from distill.corpus.store import Corpus
from export.onnx_graph import ExportReport, export_onnx


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    """The colour network as ONNX; `.path` is the file."""
    return export_onnx(network(), contract(), tmp_path_factory.mktemp("exported") / "colours.onnx")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Colour clips with all three splits."""
    folder = tmp_path_factory.mktemp("corpora") / "colours"
    return Corpus(write_corpus(folder, {"train": 12, "dev": 8, "test": 2}))


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with 64 KiB, nearly full; skipped where this user may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    tool = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if tool is None or subprocess.run([tool, *options], capture_output=True).returncode != 0:
        pytest.skip("a small tmpfs cannot be mounted here (needs root)")
    try:
        (folder / "ballast").write_bytes(bytes(60 * 1024))
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
