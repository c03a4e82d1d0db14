"""The Makefile: every target is listed, and those that belong together agree on their folders."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def make(*words: str) -> str:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    # The tests may themselves have been started by make, which hands its level and flags on.
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", *words], cwd=ROOT, check=True, capture_output=True, text=True, env=plain).stdout


def test_help_lists_every_target() -> None:
    (phony,) = (line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith(".PHONY:"))
    targets = phony.split()[1:]
    assert [line.split()[0] for line in make("help").splitlines()] == targets
    for target in targets:
        make("-n", target)


def test_each_recipe_has_a_run_of_its_own_from_which_its_engine_is_made() -> None:
    for recipe in ("demo/teacher", "demo/stgt"):
        run = f"out/runs/{recipe.rpartition('/')[2]}"
        assert f"distill {recipe} --corpus out/demo/corpus --out {run}\n" in make("-n", "distill", f"RECIPE={recipe}")
        assert f"export {run} --out {run}.onnx\n" in make("-n", "engine", f"RECIPE={recipe}")
