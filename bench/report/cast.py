"""Who is who among the systems of a results file: the teacher, its FP32 engine, names and order of the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bench.record import ComparisonRecord, Record, SystemRecord
from runtime.errors import BadInput

ARCHITECTURES = {"cnn2d1d": "2D-CNN + 1D-CNN", "stgcn": "ST-GCN", "stgt": "STGT", "lrinet": "LRINet"}
RUNTIMES = {"pytorch": "PyTorch eager", "onnxruntime": "ONNX Runtime", "tensorrt": "TensorRT", "openvino": "OpenVINO"}
INPUTS = {"rgb": "frames", "keypoints": "skeleton"}
_PRECISIONS = ("fp32", "bf16", "fp16", "int8")
EAGER = "pytorch"


@dataclass(frozen=True)
class Cast:
    """The systems in the order of the table, and the parts they play.

    `baseline` is what speed-ups are against: the teacher's FP32 engine, or its next best row where there is none.
    `ratios` holds the latency ratios that were timed interleaved, by (system, against).
    """

    systems: dict[str, SystemRecord]
    teacher_run: str | None
    baseline: SystemRecord | None
    ratios: dict[tuple[str, str], float]

    def is_teacher(self, system: SystemRecord) -> bool:
        """Whether the row is the teacher in some precision or runtime."""
        return system.run == self.teacher_run

    def students(self) -> list[SystemRecord]:
        """All rows but the teacher's; none where there is no teacher."""
        return [s for s in self.systems.values() if self.teacher_run is not None and not self.is_teacher(s)]

    def run_name(self, system: SystemRecord) -> str:
        """`Teacher`, `LRINet`, `LRINet + CRKD`; with the name of the run where two runs would share a name."""
        if self.is_teacher(system):
            return "Teacher"
        name = _plain_name(system)
        twins = {s.run for s in self.systems.values() if _plain_name(s) == name and not self.is_teacher(s)}
        return name if len(twins) == 1 else f"{name} ({system.run})"

    def full_name(self, system: SystemRecord) -> str:
        """Name with precision, and `eager` where it runs in PyTorch."""
        eager = " eager" if system.runtime == EAGER else ""
        return f"{self.run_name(system)} {system.precision.upper()}{eager}"

    def name_of(self, system: str) -> str:
        """`full_name` by identifier; the identifier itself where no such row is in the file."""
        return self.full_name(self.systems[system]) if system in self.systems else system

    def architecture(self, system: SystemRecord) -> str:
        """The architecture's name as the field writes it."""
        return ARCHITECTURES.get(system.architecture, system.architecture)

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


def gather_cast(records: Sequence[Record]) -> Cast:
    """Find teacher, baseline and order. Raises `BadInput` where two rows carry one name."""
    rows = [record for record in records if isinstance(record, SystemRecord)]
    names = Counter(row.system for row in rows)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise BadInput(f"system '{twice[0]}' occurs {names[twice[0]]} times; a results file names each system once")
    teacher = _teacher_run(rows)
    architectures = list(dict.fromkeys(row.architecture for row in rows))
    runs = list(dict.fromkeys(row.run for row in rows))
    ordered = sorted(
        rows,
        key=lambda row: (
            row.run != teacher,
            architectures.index(row.architecture),
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
    timed = [row for row in ordered if row.run == teacher and row.latency is not None]
    return Cast(
        systems={row.system: row for row in ordered},
        teacher_run=teacher,
        baseline=min(timed, key=_engine_first) if timed else None,
        ratios=ratios,
    )


def _teacher_run(rows: list[SystemRecord]) -> str | None:
    """The run that most rows are compared with; without comparisons, the run called `teacher`."""
    runs = {row.system: row.run for row in rows}
    named = Counter(runs[row.wer.against] for row in rows if row.wer and row.wer.against in runs)
    if named:
        return named.most_common(1)[0][0]
    return next((row.run for row in rows if row.run == "teacher"), None)


def _engine_first(system: SystemRecord) -> tuple[bool, int]:
    return system.runtime == EAGER, _precision_rank(system)


def _precision_rank(system: SystemRecord) -> int:
    return _PRECISIONS.index(system.precision) if system.precision in _PRECISIONS else len(_PRECISIONS)


def _plain_name(system: SystemRecord) -> str:
    name = ARCHITECTURES.get(system.architecture, system.architecture)
    return f"{name} + {system.distillation}" if system.distillation else name
