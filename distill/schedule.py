"""How the learning rate goes up and down."""

from __future__ import annotations

import math

from distill.recipe import Training


def rate(settings: Training, progress: float) -> float:
    """Factor on the learning rate at `progress` (0..1) of all steps.

    `one-cycle`: cosine up from 1/25 during the warm-up, cosine down to 1e-3. `cosine`: linear up, cosine down to 0.
    `steps`: linear up, then times `decay` at every milestone (VAC's schedule).
    """
    warm = settings.warmup
    if progress < warm:
        rising = progress / warm
        return (
            0.04 + 0.96 * (1 - math.cos(math.pi * rising)) / 2
            if settings.schedule == "one-cycle"
            else max(rising, 1e-3)
        )
    if settings.schedule == "steps":
        return settings.decay ** sum(progress >= milestone for milestone in settings.milestones)
    floor = 1e-3 if settings.schedule == "one-cycle" else 0.0
    falling = min((progress - warm) / (1 - warm), 1.0)
    return floor + (1 - floor) * (1 + math.cos(math.pi * falling)) / 2
