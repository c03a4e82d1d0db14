"""Records: what bench writes and report reads. One JSON object a line; `kind` tells which of the classes below it is.

A figure carries how it was obtained. What was not measured is None, never zero.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from runtime.atomic import atomic_file
from runtime.errors import BadInput

UNKNOWN = "unknown"  # the architecture of a network whose run folder was not at hand


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Provenance(_Strict):
    """What is needed to trust a record, or to make it again."""

    command: str
    time: str  # UTC, ISO 8601
    host: dict[str, str]  # cpu, cores, memory, os
    versions: dict[str, str]  # python, numpy, torch, onnxruntime, signedge, ...
    corpus: str  # hash; "" where none was read
    checkpoint: str = ""
    onnx: str = ""
    engine: str = ""
    seed: int | None = None
    commit: str | None = None  # of the checkout that signedge ran from; None: it did not run from one
    dirty: bool | None = None  # whether files of that checkout differed from the commit
    load: float | None = None  # load average of the last minute, signedge's own work included


class Interval(_Strict):
    """A bootstrap percentile interval of a quantity in WER points."""

    value: float
    low: float
    high: float
    level: float = 0.95
    resamples: int
    pairs: int | None = None  # clips that the interval was drawn over


class Utterance(_Strict):
    """What one system read on one clip."""

    id: str
    reference: list[str]
    hypothesis: list[str]
    correct: int
    substitutions: int
    deletions: int
    insertions: int


class WerResult(_Strict):
    """WER of one system on one split, in percent."""

    split: str
    decoder: str  # greedy, beam10, ...
    reference_words: int
    substitutions: int
    deletions: int
    insertions: int
    wer: Interval
    against: str | None = None  # the system that the paired interval compares with
    difference: Interval | None = None  # this system's WER - the other's, paired over clips
    utterances: list[Utterance] = []


class Latency(_Strict):
    """Wall time of one call over one clip, recogniser only, batch 1, in ms."""

    clips: int  # distinct clips timed
    samples: int  # timed calls
    warmup: int  # calls before the first timed one
    stable: bool  # whether warm-up ended because times had settled
    threads: int
    frames_per_clip: float
    mean_ms: float
    median_ms: float
    p90_ms: float | None = None  # None: too few samples to state it
    p99_ms: float | None = None
    per_frame_ms: float  # median over clips of time / frames
    real_time_factor: float  # processing time / duration of the clip
    preprocess_ms: float | None = None  # median of the preprocessing of a clip, not in the figures above
    other_work: float | None = None  # cores that other processes kept busy meanwhile


class FlopCount(_Strict):
    """MACs of one counter for a clip of `frames` frames."""

    counter: str  # fvcore, torch FlopCounterMode
    macs: float
    unsupported: dict[str, int] = {}  # operator -> calls that the counter could not count


class Complexity(_Strict):
    """Size of the recogniser in inference form."""

    parameters: int
    frames: int  # length of the clip the MACs are for
    counts: list[FlopCount]
    macs_per_frame: float  # of the counter that is right for this network
    agreement: float | None = None  # ratio of the two counters
    bytes_on_disk: int | None = None


class SystemRecord(_Strict):
    """One row of the table: one recogniser in one precision on one runtime."""

    kind: Literal["system"] = "system"
    system: str  # unique in a results file: teacher-eager, lrinet-crkd-int8, ...
    run: str  # name of the run it came from: teacher, stgt, stgt-trkd, ...
    architecture: str  # UNKNOWN: its run folder was not at hand, so nothing is known of its training
    modality: Literal["rgb", "keypoints"]
    distillation: str = ""  # "", TRKD, CRKD
    taught_by: str = ""  # checkpoint of the teacher that its run learnt from; older records do not say
    runtime: str  # pytorch, onnxruntime
    through: str = ""  # what read the clips, with versions; older records do not say
    precision: str  # fp32, int8, auto (chosen node by node)
    frames: int = 0  # the one length of clip that the engine takes; 0: any
    nodes: dict[str, int] = {}  # of its graph in each precision; empty where its manifest does not say
    target: str
    valid: bool = True
    reasons: list[str] = []  # why it is not valid, or what to know
    wer: WerResult | None = None
    latency: Latency | None = None
    complexity: Complexity | None = None
    peak_memory_mb: float | None = None
    pose_ms_per_frame: float | None = None  # cost of the pose estimator in front of a skeleton student
    pose_note: str = ""
    provenance: Provenance


class RefusalRecord(_Strict):
    """An engine that does not exist, and why."""

    kind: Literal["refusal"] = "refusal"
    system: str
    run: str
    precision: str
    target: str
    reason: str
    wer_rise: float | None = None
    budget: float | None = None
    provenance: Provenance


class CurvePoint(_Strict):
    """One epoch of training."""

    epoch: int
    seconds: float
    losses: dict[str, float]
    dev_wer: float | None = None


class CurveRecord(_Strict):
    """The training curve of one run."""

    kind: Literal["curve"] = "curve"
    run: str
    points: list[CurvePoint]
    epochs: int
    seconds: float
    parameters: int
    recipe: str  # YAML text as resolved
    provenance: Provenance


class ExampleRecord(_Strict):
    """Pictures of one clip, for showing what each system read on it."""

    kind: Literal["example"] = "example"
    clip: str
    split: str
    reference: list[str]
    signer: str = ""
    pictures: list[str]  # PNG or JPEG data URIs, in time order
    provenance: Provenance


class ComparisonRecord(_Strict):
    """A paired comparison of two systems on the same clips."""

    kind: Literal["comparison"] = "comparison"
    name: str  # e.g. "TRKD gain"
    system: str
    against: str
    quantity: Literal["wer", "latency_ratio"]
    difference: Interval | None = None  # wer: system - against
    ratio: float | None = None  # latency of `against` / latency of `system`, timed interleaved in one run
    provenance: Provenance


class KeypointTrack(_Strict):
    """What the keypoints of a composed corpus show. `noise` and `lost` are None where no tracker was imitated."""

    name: str  # full: all that was recorded; hard: wrists and finger tips through a poor tracker
    noise: float | None = None  # standard deviation of a point, in hand lengths
    lost: float | None = None  # share of the time that a hand is lost


class CorpusRecord(_Strict):
    """What the clips are."""

    kind: Literal["corpus"] = "corpus"
    name: str
    corpus_kind: str
    description: str
    keypoint_source: str = ""
    clips: dict[str, int]  # per split
    glosses: int
    signers: dict[str, int]  # per split
    frames: dict[str, int]
    fps: float
    keypoint_track: KeypointTrack | None = None
    warnings: list[str] = []  # of `signedge corpus check`
    provenance: Provenance


class NoteRecord(_Strict):
    """A plain sentence for the report: a limit, a warning, a decision."""

    kind: Literal["note"] = "note"
    level: Literal["info", "warning"] = "info"
    text: str
    provenance: Provenance


Record = Annotated[
    SystemRecord | RefusalRecord | CurveRecord | ExampleRecord | ComparisonRecord | CorpusRecord | NoteRecord,
    Field(discriminator="kind"),
]
_adapter: TypeAdapter[Record] = TypeAdapter(Record)


def write_records(path: Path, records: list[Record]) -> None:
    """Write a results file whole, or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text("".join(record.model_dump_json() + "\n" for record in records), encoding="utf-8")


def read_records(path: Path) -> list[Record]:
    """Read and validate a results file; raises `BadInput` naming the line."""
    records: list[Record] = []
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read records {path}: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            records.append(_adapter.validate_json(line))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise BadInput(f"{path}:{number}: not a record of this version: {where}: {first['msg']}") from error
    if not records:
        raise BadInput(f"{path} holds no records")
    return records
