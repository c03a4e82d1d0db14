"""How busy the machine is: others' work is told from this process' own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from devices.load import OtherWork, load_average

TICKS = os.sysconf("SC_CLK_TCK")
CORE = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0


class Machine:
    """A made-up /proc, clock and own CPU time."""

    def __init__(self, root: Path) -> None:
        self.root, self.now, self.mine = root, 100.0, 5.0
        (root / "proc").mkdir()
        self.tell(user=0.0)

    def tell(self, user: float, steal: float = 0.0, idle: float = 0.0) -> None:
        """Seconds that the first core of this process spent."""
        spent = [round(TICKS * seconds) for seconds in (user, 0, 0, idle, 0, 0, 0, steal, 0, 0)]
        lines = ["cpu  1 1 1 1 1 1 1 1 0 0", f"cpu{CORE} {' '.join(map(str, spent))}", "cpu99999 7 7 7 7 7 7 7 7 0 0"]
        (self.root / "proc/stat").write_text("\n".join([*lines, "intr 5", ""]))

    def watch(self) -> OtherWork:
        return OtherWork(self.root, lambda: self.now, lambda: self.mine)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_own_work_and_idle_time_are_not_others_work(machine: Machine) -> None:
    work = machine.watch()
    machine.now += 10
    machine.mine += 6
    machine.tell(user=9, steal=1, idle=50)
    assert work.cores() == pytest.approx(0.4)
    machine.tell(user=5.9)  # ticks are coarse: never below nothing
    assert work.cores() == 0


def test_what_cannot_be_told_is_none(machine: Machine) -> None:
    work = machine.watch()
    machine.now += 0.5
    assert work.cores() is None
    machine.now += 10
    for text in ("", "cpu 1 2\n", f"cpu{CORE} 1 2\n", f"cpu{CORE} a b c d e f g h\n"):
        (machine.root / "proc/stat").write_text(text)
        assert work.cores() is None and machine.watch().cores() is None
    (machine.root / "proc/stat").unlink()
    assert work.cores() is None


def test_this_machine_tells_its_load(monkeypatch: pytest.MonkeyPatch) -> None:
    told = load_average()
    assert told is None or told >= 0
    monkeypatch.delattr(os, "getloadavg", raising=False)
    assert load_average() is None
