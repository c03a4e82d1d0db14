"""Fixtures of the export tests: exported networks and one corpus, made once."""

from __future__ import annotations

import pytest
from export_stage import contract, network, write_corpus
from network_stage import Networks

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


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Networks:
    """The real networks as ONNX, by name."""
    return Networks(tmp_path_factory.mktemp("networks"))
