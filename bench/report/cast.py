"""Who is who among the systems of a results file: what the others are measured by, names and order of the rows.

Where the run of every row is known and some learnt from it, that is the teacher, and the others are its students. Of a
network whose run folder was not at hand nobody here knows how it was trained: then it is the baseline that the user
named, and no more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.record import UNKNOWN, ComparisonRecord, Record, SystemRecord
from runtime.errors import BadInput

ARCHITECTURES = {"cnn2d1d": "2D-CNN + 1D-CNN", "stgcn": "ST-GCN", "stgt": "STGT", "lrinet": "LRINet"}
RUNTIMES = {"pytorch": "PyTorch eager", "onnxruntime": "ONNX Runtime", "tensorrt": "TensorRT", "openvino": "OpenVINO"}
INPUTS = {"rgb": "frames", "keypoints": "skeleton"}
_PRECISIONS = ("fp32", "bf16", "fp16", "int8")
EAGER = "pytorch"
Role = Literal["teacher", "baseline"]


@dataclass(frozen=True)
class Cast:
    """The systems in the order of the table, and the parts they play.

    `reference` are the rows that all others are measured by, none where there is nothing of the kind: the teacher's, or
    the one baseline. `role` is what they are called. `baseline` is what speed-ups are against: the teacher's FP32
    engine, or its next best row where there is none. `ratios` holds the latency ratios that were timed interleaved, by
    (system, against).
    """

    systems: dict[str, SystemRecord]
    reference: frozenset[str]
    role: Role
    baseline: SystemRecord | None
    ratios: dict[tuple[str, str], float]

    def is_reference(self, system: SystemRecord) -> bool:
        """Whether the row is the teacher in some precision or runtime, or the baseline."""
        return system.system in self.reference

    def is_teacher(self, system: SystemRecord) -> bool:
        """Whether the row is the teacher in some precision or runtime."""
        return self.role == "teacher" and self.is_reference(system)

    def others(self) -> list[SystemRecord]:
        """The students, or what is measured by the baseline; none where there is no reference."""
        return [s for s in self.systems.values() if self.reference and not self.is_reference(s)]

    @property
    def best_called(self) -> str:
        """What the best of the others is called."""
        return "best student" if self.role == "teacher" else "best other system"

    def run_name(self, system: SystemRecord) -> str:
        """`Teacher`, `LRINet`, `LRINet + CRKD`; with the name of the run where two runs would share a name.

        Of a network whose run is not known, the name in its contract.
        """
        if self.is_teacher(system):
            return "Teacher"
        name = _plain_name(system)
        twins = {s.run for s in self.systems.values() if _plain_name(s) == name and not self.is_teacher(s)}
        return name if len(twins) == 1 else f"{name} ({system.run})"

    def full_name(self, system: SystemRecord) -> str:
        """Name with precision, and `eager` where it runs in PyTorch; the system's own where two would share that."""
        name = self._name_in_precision(system)
        twins = [s for s in self.systems.values() if self._name_in_precision(s) == name]
        return name if len(twins) == 1 else f"{name} ({system.system})"

    def _name_in_precision(self, system: SystemRecord) -> str:
        eager = " eager" if system.runtime == EAGER else ""
        return f"{self.run_name(system)} {system.precision.upper()}{eager}"

    def name_of(self, system: str) -> str:
        """`full_name` by identifier; the identifier itself where no such row is in the file."""
        return self.full_name(self.systems[system]) if system in self.systems else system

    def architecture(self, system: SystemRecord) -> str:
        """The architecture's name as the field writes it; the network's where its architecture is not known."""
        return ARCHITECTURES.get(system.architecture, family(system))

    def trained_plainly(self, system: SystemRecord) -> bool:
        """Whether the row is known to have been trained with CTC alone, the reference apart."""
        return known(system) and not system.distillation and not self.is_reference(system)

    def speedup(self, system: SystemRecord) -> tuple[float, bool] | None:
        """(baseline latency / this latency, whether timed interleaved); None where either was not timed."""
        if self.baseline is None or system is self.baseline:
            return None
        interleaved = self.ratios.get((system.system, self.baseline.system))
        if interleaved is not None:
            return interleaved, True
        if system.latency is None or self.baseline.latency is None:
            return None
        return self.baseline.latency.median_ms / system.latency.median_ms, False

    def representative(self, run: str) -> SystemRecord | None:
        """The row that stands for a run where precision plays no part: its FP32 engine if there is one."""
        rows = [system for system in self.systems.values() if system.run == run]
        rows = [system for system in rows if system.valid] or rows
        return min(rows, key=_engine_first) if rows else None


def known(system: SystemRecord) -> bool:
    """Whether the run that the row came from was at hand, and with it how the network was trained."""
    return system.architecture != UNKNOWN


def family(system: SystemRecord) -> str:
    """What rows stand together by and share a colour for: the architecture, or the network where that is not known."""
    return system.architecture if known(system) else system.run


def gather_cast(records: Sequence[Record]) -> Cast:
    """Find reference, baseline and order. Raises `BadInput` where two rows carry one name."""
    rows = [record for record in records if isinstance(record, SystemRecord)]
    names = Counter(row.system for row in rows)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise BadInput(f"system '{twice[0]}' occurs {names[twice[0]]} times; a results file names each system once")
    role: Role = "teacher" if all(known(row) for row in rows) and _taught(rows, _teacher(rows)) else "baseline"
    reference = _teacher(rows) if role == "teacher" else _most_named(rows)
    families = list(dict.fromkeys(family(row) for row in rows))
    runs = list(dict.fromkeys(row.run for row in rows))
    ordered = sorted(
        rows,
        key=lambda row: (
            row.system not in reference,
            families.index(family(row)),
            runs.index(row.run),
            row.runtime != EAGER,
            _precision_rank(row),
        ),
    )
    ratios = {
        (record.system, record.against): record.ratio
        for record in records
        if isinstance(record, ComparisonRecord) and record.quantity == "latency_ratio" and record.ratio is not None
    }
    timed = [row for row in ordered if row.system in reference and row.latency is not None]
    return Cast(
        systems={row.system: row for row in ordered},
        reference=frozenset(reference),
        role=role,
        baseline=min(timed, key=_engine_first) if timed else None,
        ratios=ratios,
    )


def _teacher(rows: list[SystemRecord]) -> set[str]:
    """All rows of the run that most rows are compared with; without comparisons, of the run called `teacher`."""
    runs = {row.system: row.run for row in rows}
    named = Counter(runs[row.wer.against] for row in rows if row.wer and row.wer.against in runs)
    teacher = named.most_common(1)[0][0] if named else "teacher"
    return {row.system for row in rows if row.run == teacher}


def _taught(rows: list[SystemRecord], reference: set[str]) -> bool:
    """Whether any row learnt from the reference; where none says from whom, whether any learnt from another at all."""
    teachers = {row.taught_by for row in rows if row.taught_by}
    if not teachers:
        return any(row.distillation for row in rows)
    return any(row.provenance.checkpoint in teachers for row in rows if row.system in reference)


def _most_named(rows: list[SystemRecord]) -> set[str]:
    """The one row that most rows are compared with, if any is."""
    systems = {row.system for row in rows}
    named = Counter(row.wer.against for row in rows if row.wer and row.wer.against in systems)
    return {str(name) for name, _ in named.most_common(1)}


def _engine_first(system: SystemRecord) -> tuple[bool, bool, int]:
    return system.frames > 0, system.runtime == EAGER, _precision_rank(system)


def _precision_rank(system: SystemRecord) -> int:
    return _PRECISIONS.index(system.precision) if system.precision in _PRECISIONS else len(_PRECISIONS)


def _plain_name(system: SystemRecord) -> str:
    name = ARCHITECTURES.get(system.architecture, family(system))
    return f"{name} + {system.distillation}" if system.distillation else name
