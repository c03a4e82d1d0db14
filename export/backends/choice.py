"""Which runtime runs a graph fastest on this CPU: measured through libsignedge, all in one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from devices.load import load_average
from devices.profile import Profile
from export.backends.base import backend
from export.backends.race import Ratio, race, ratio
from runtime.engine import DEFAULT_RUNTIME, Engine
from runtime.errors import BadInput, MissingExtra

CANDIDATES = (DEFAULT_RUNTIME, "openvino")  # of a CPU; the first has the ties


@dataclass(frozen=True)
class Choice:
    """The runtime chosen, and why; plain data by `as_json`, for the manifest."""

    runtime: str
    why: str
    threads: int
    median_ms: dict[str, float] = field(default_factory=dict)  # of one run over the inputs; empty where none was timed
    ratios: dict[str, Ratio] = field(default_factory=dict)  # time of another over that of the chosen one
    load: float | None = None  # processes that wanted a core, averaged over the minute before

    def as_json(self) -> dict[str, Any]:
        """Only what JSON has."""
        return {**asdict(self), "ratios": {name: found._asdict() for name, found in self.ratios.items()}}


def usable(profile: Profile, candidates: Sequence[str] = CANDIDATES) -> tuple[list[str], dict[str, str]]:
    """The CPU runtimes that can run an engine for `profile` here, and why the others cannot."""
    asked = {name: backend(name).available(profile) for name in candidates}
    missing = {name: found.why_not for name, found in asked.items() if not found.here}
    return [name for name, found in asked.items() if found.here], missing


def fastest(
    candidates: Mapping[str, Path],
    inputs: Sequence[np.ndarray],
    threads: int,
    missing: Mapping[str, str] | None = None,
    seconds: float = 10.0,
) -> Choice:
    """The fastest of `candidates` on `inputs`, with `threads` threads.

    candidates: runtime -> the ONNX file (with its contract) that it would run, the favourite first. inputs: prepared
    clips (1,T',...) float32, of the lengths that matter. missing: runtimes that could not be asked, and why. Another
    than the first is chosen only if the whole interval of its ratio says that it is faster: ties go to the first.
    Raises `BadInput` where there is no candidate, or the first cannot read its file; another that cannot is passed
    over, and `why` says so.
    """
    if not candidates:
        why = "; ".join((missing or {}).values()) or "pip install 'signedge[export]'"
        raise BadInput(f"no runtime runs engines for this CPU here: {why}")
    first, *others = candidates
    engines = {first: Engine.from_onnx(candidates[first], threads, first)}
    out = {name: f"{name} was not asked: {why}" for name, why in (missing or {}).items()}
    for name in others:
        try:
            engines[name] = Engine.from_onnx(candidates[name], threads, name)
            engines[name].log_probs(inputs[0])
        except (BadInput, MissingExtra) as error:
            engines.pop(name, None)
            out[name] = f"{name} cannot run it: {error}"
    if len(engines) == 1:
        return Choice(first, "; ".join([f"{first} is the only one here", *out.values()]), threads)
    busy = load_average()
    times = race({name: engine.log_probs for name, engine in engines.items()}, inputs, seconds)
    chosen = choose(times, first)
    ratios = {name: ratio(times[name], times[chosen]) for name in times if name != chosen}
    medians = {name: float(np.median(taken) / 1e6) for name, taken in times.items()}
    said = [f"{chosen}: {_words(name, found, chosen == first)}" for name, found in ratios.items()]
    return Choice(chosen, "; ".join([*said, *out.values()]), threads, medians, ratios, busy)


def choose(times: Mapping[str, np.ndarray], first: str) -> str:
    """The runtime with the shortest times, `first` unless one is faster beyond the interval of its ratio."""
    faster = {name: ratio(times[first], times[name]) for name in times if name != first}
    clear = {name: found for name, found in faster.items() if found.low > 1}
    return max(clear, key=lambda name: clear[name].value) if clear else first


def _words(name: str, found: Ratio, favourite: bool) -> str:
    interval = f"({found.low:.3f} to {found.high:.3f}, {found.pairs} pairs)"
    tie = ", a tie, which goes to it" if favourite and found.low <= 1 else ""
    return f"{name} takes {found.value:.3f} times its time {interval}{tie}"
