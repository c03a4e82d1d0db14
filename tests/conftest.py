"""Fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real recordings beside the checkout; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("SIGNEDGE_SHARED", Path(__file__).parents[2] / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"real recordings are not at {folder}; set SIGNEDGE_SHARED to the folder that holds data/")
    return folder
