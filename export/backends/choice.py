"""Which runtimes can run a graph on this CPU, and which of them was the fastest of a race."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from devices.profile import Profile
from export.backends.base import backend
from export.backends.race import ratio
from runtime.engine import DEFAULT_RUNTIME

CANDIDATES = (DEFAULT_RUNTIME, "openvino")  # of a CPU; the first has the ties


def usable(profile: Profile, candidates: Sequence[str] = CANDIDATES) -> tuple[list[str], dict[str, str]]:
    """The CPU runtimes that can run an engine for `profile` here, and why the others cannot."""
    asked = {name: backend(name).available(profile) for name in candidates}
    missing = {name: found.why_not for name, found in asked.items() if not found.here}
    return [name for name, found in asked.items() if found.here], missing


def choose(times: Mapping[str, np.ndarray], first: str) -> str:
    """The name with the shortest times, `first` unless one is faster beyond the interval of its ratio."""
    faster = {name: ratio(times[first], times[name]) for name in times if name != first}
    clear = {name: found for name, found in faster.items() if found.low > 1}
    return max(clear, key=lambda name: clear[name].value) if clear else first
