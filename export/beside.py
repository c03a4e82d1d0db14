"""A bundle built on this very machine, by the system's Python: JetPack's has TensorRT, signedge's own has not."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from export.bundle import COMMAND
from export.outcome import Outcome, failure_of, keep, started
from runtime.atomic import check_free
from runtime.errors import Refused
from runtime.trust import KEY_VARIABLE

RUN = "run"
OURS = ("PYTHONPATH", "PYTHONHOME")  # meant for the Python that runs now
SYSTEM = ("/usr/local/bin", "/usr/bin", "/bin")


def build_beside(bundle: Path, out: Path, progress: Callable[[str], None] = print) -> Outcome:
    """Build `bundle` here and keep the engine at `out`, logs and records at `out`.logs.

    $PYTHON names the Python, else it is the first python3 on PATH that is not of our own environment. Its build.sh
    speaks through `progress`, a line a call.
    Raises what the build ended with, as `export.ship.ship` does: `CriterionFailed` (WER gate), `Refused` (TensorRT
    missing), `BadInput`. In every such case nothing is at `out`; logs are where there are any.
    """
    check_free(out)
    words = ["sh", str(bundle.resolve() / COMMAND), "--out", RUN]
    with tempfile.TemporaryDirectory(prefix="signedge.") as work:
        environment = {**_environment(), KEY_VARIABLE: str(Path(work) / "key")}  # thrown away: what is kept is signed
        # In an empty folder, as `python -m` looks there for modules first.
        with started(words, stdout=subprocess.PIPE, cwd=work, env=environment) as build:
            failure = failure_of(build.follow(progress), build.errors())
        outcome = keep(Path(work) / RUN, out, wanted=failure is None)
    if isinstance(failure, Refused):
        raise Refused(f"{failure}; or leave a bundle, to be built later: --tar")
    if failure is not None:
        raise failure
    return outcome


def _environment() -> dict[str, str]:
    """The variables of this process without what leads to its own Python."""
    kept = {name: value for name, value in os.environ.items() if name not in OURS}
    own = {os.path.realpath(Path(prefix) / "bin") for prefix in (sys.prefix, sys.base_prefix)}
    system = {os.path.realpath(place) for place in SYSTEM}
    places = [str(Path(place).absolute()) for place in os.get_exec_path()]  # the build runs in another folder
    others = [place for place in places if os.path.realpath(place) not in own - system]
    kept["PATH"] = os.pathsep.join(dict.fromkeys([*others, *SYSTEM]))
    if "PYTHON" in kept and os.sep in kept["PYTHON"]:
        kept["PYTHON"] = str(Path(kept["PYTHON"]).absolute())
    return kept
