"""A short timing of an engine on its machine: says what was timed and how often, and no more than that allows."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List

import numpy as np

SECONDS = 3.0
LEAST, MOST = 10, 2000  # timed calls
WARM_UP = 5
# A percentile needs enough samples to be told: those of LoadGen's early stopping (99 % confidence, one discard).
PERCENTILES = {"p90_ms": (0.90, 64), "p99_ms": (0.99, 662)}


def time_calls(call: Callable[[], Any], seconds: float = SECONDS) -> Dict[str, Any]:
    """Wall time of `call`, back to back for `seconds` or so after a few calls that are not counted, in ms."""
    for _ in range(WARM_UP):
        call()
    samples: List[float] = []
    begin = time.perf_counter()
    while len(samples) < LEAST or (time.perf_counter() - begin < seconds and len(samples) < MOST):
        start = time.perf_counter()
        call()
        samples.append(1000 * (time.perf_counter() - start))
    told = {name: float(np.quantile(samples, share)) for name, (share, n) in PERCENTILES.items() if len(samples) >= n}
    return {
        "samples": len(samples), "warm_up": WARM_UP, "median_ms": float(np.median(samples)),
        "min_ms": min(samples), **told,
    }  # fmt: skip
