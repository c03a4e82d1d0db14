"""How busy the machine is, and with whose work. Standard library only."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Callable, Optional, Set

SHORTEST = 1.0  # s; below, a tick of the kernel's clock (10 ms) is too coarse a measure


def load_average() -> Optional[float]:
    """Processes that ran or waited for a core, averaged over the last minute; None where the system does not tell."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


class OtherWork:
    """Watches, from its making on, how much of the cores of this process other processes take."""

    def __init__(
        self,
        root: Path = Path("/"),
        clock: Callable[[], float] = time.monotonic,
        own: Callable[[], float] = time.process_time,
    ) -> None:
        self._stat, self._clock, self._own = root / "proc/stat", clock, own
        self._start = (clock(), self._busy(), own())

    def cores(self) -> Optional[float]:
        """Cores that others kept busy on average; None where /proc does not tell, and within the first second.

        What a hypervisor gives to other machines counts as others' work.
        """
        began, before, mine = self._start
        seconds, after = self._clock() - began, self._busy()
        if before is None or after is None or seconds < SHORTEST:
            return None
        return max(0.0, (after - before - (self._own() - mine)) / seconds)

    def _busy(self) -> Optional[float]:
        """Seconds that the cores of this process were busy since the machine started."""
        try:
            rows = [line.split() for line in self._stat.read_text(encoding="utf-8").splitlines()]
            ticks = [[int(count) for count in row[1:9]] for row in rows if row and row[0] in _cores()]
        except (OSError, ValueError):
            return None
        if not ticks or any(len(row) < 8 for row in ticks):
            return None
        idle = sum(row[3] + row[4] for row in ticks)  # idle, and waiting for a disk
        return (sum(map(sum, ticks)) - idle) / os.sysconf("SC_CLK_TCK")


def _cores() -> Set[str]:
    """Names in /proc/stat of the cores that this process may run on."""
    if not hasattr(os, "sched_getaffinity"):
        return set()
    return {f"cpu{core}" for core in os.sched_getaffinity(0)}
