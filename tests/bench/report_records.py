"""A made-up results file for the report's tests: every figure here is invented, none was measured."""

from __future__ import annotations

import base64
import io

import numpy as np

from bench.record import (
    ComparisonRecord,
    Complexity,
    CorpusRecord,
    CurvePoint,
    CurveRecord,
    ExampleRecord,
    FlopCount,
    Interval,
    Latency,
    NoteRecord,
    Provenance,
    Record,
    RefusalRecord,
    SystemRecord,
    Utterance,
    WerResult,
)
from runtime.wer import align

CLIPS = 120
GLOSSES = [
    "HOUSE", "TREE", "RAIN", "TOMORROW", "NORTH", "WIND", "SUN", "CLOUD", "COLD", "WARM", "RIVER", "SNOW",
    "MORNING", "EVENING", "STORM", "SOUTH", "WEAK", "STRONG", "REGION", "ALSO",
]  # fmt: skip
TEACHER = "teacher-fp32"
SECRET = 7


def provenance(system: str = "", **changes: object) -> Provenance:
    """Invented provenance of one record."""
    digits = f"{abs(hash_of(system)):064x}"
    values: dict = {
        "command": "signedge bench out/engines/* --target x86-cpu --corpus out/corpus --out results.jsonl",
        "time": "2031-02-03T04:05:06Z",
        "host": {"cpu": "Made-up CPU 9000", "cores": "2", "memory": "24 GB", "os": "Imaginary Linux 6.1"},
        "versions": {"python": "3.11.7", "numpy": "2.4.6", "torch": "2.13.0", "onnxruntime": "1.31.1", "signedge": "0"},
        "corpus": "c0" * 32,
        "checkpoint": digits if system else "",
        "onnx": digits[::-1] if system else "",
        "engine": digits if system else "",
        "seed": 1,
    }
    return Provenance(**(values | changes))


def hash_of(text: str) -> int:
    """A number of 256 bits from a text, the same in every process."""
    import hashlib

    return int(hashlib.sha256(text.encode()).hexdigest(), 16)


def references() -> list[list[str]]:
    """One invented sentence a clip."""
    rng = np.random.default_rng(SECRET)
    return [list(rng.choice(GLOSSES, rng.integers(3, 9), replace=False)) for _ in range(CLIPS)]


def readings(rate: float, seed: int) -> list[list[str]]:
    """What a system of that error rate might read; hard clips are hard for every system."""
    hardness = np.random.default_rng(SECRET + 1).gamma(1.5, 1 / 1.5, CLIPS)
    rng = np.random.default_rng(seed)
    result = []
    for sentence, hard in zip(references(), hardness, strict=True):
        words: list[str] = []
        for word in sentence:
            draw = rng.random() / (rate * hard + 1e-9)
            if draw < 0.5:
                words.append(str(rng.choice(GLOSSES)))
            elif draw < 0.82:
                continue
            else:
                words.append(str(word))
            if draw > 0.82 and draw < 1.0:
                words.append(str(rng.choice(GLOSSES)))
        result.append(words)
    return result


def score(rate: float, seed: int) -> list[Utterance]:
    """Counted readings of all clips."""
    rows = []
    for number, (reference, hypothesis) in enumerate(zip(references(), readings(rate, seed), strict=True)):
        counts = align(reference, hypothesis)
        rows.append(
            Utterance(
                id=f"test-{number:03d}",
                reference=[str(word) for word in reference],
                hypothesis=hypothesis,
                correct=counts.correct,
                substitutions=counts.substitutions,
                deletions=counts.deletions,
                insertions=counts.insertions,
            )
        )
    return rows


def _bootstrap(errors: np.ndarray, words: np.ndarray) -> Interval:
    draws = np.random.default_rng(0).integers(0, len(errors), (400, len(errors)))
    values = 100 * errors[draws].sum(1) / words[draws].sum(1)
    low, high = np.percentile(values, [2.5, 97.5])
    value = 100 * errors.sum() / words.sum()
    return Interval(value=value, low=low, high=high, resamples=400, pairs=len(errors))


def _errors(rows: list[Utterance]) -> tuple[np.ndarray, np.ndarray]:
    wrong = np.array([row.substitutions + row.deletions + row.insertions for row in rows], float)
    return wrong, np.array([len(row.reference) for row in rows], float)


def wer_result(rows: list[Utterance], against: str | None = None, other: list[Utterance] | None = None) -> WerResult:
    """The WER record of counted readings, with a paired difference where another system is given."""
    wrong, words = _errors(rows)
    return WerResult(
        split="test",
        decoder="greedy",
        reference_words=int(words.sum()),
        substitutions=sum(row.substitutions for row in rows),
        deletions=sum(row.deletions for row in rows),
        insertions=sum(row.insertions for row in rows),
        wer=_bootstrap(wrong, words),
        against=against if other else None,
        difference=_bootstrap(wrong - _errors(other)[0], words) if other else None,
        utterances=rows,
    )


# system, run, architecture, modality, distillation, runtime, precision, error rate, seed, ms a clip
ROWS = [
    ("teacher-eager", "teacher", "cnn2d1d", "rgb", "", "pytorch", "fp32", 0.10, 11, 171.0),
    ("teacher-fp32", "teacher", "cnn2d1d", "rgb", "", "onnxruntime", "fp32", 0.10, 11, 104.2),
    ("stgt-fp32", "stgt", "stgt", "keypoints", "", "onnxruntime", "fp32", 0.29, 12, 7.91),
    ("stgt-trkd-fp32", "stgt-trkd", "stgt", "keypoints", "TRKD", "onnxruntime", "fp32", 0.262, 13, 7.88),
    ("stgt-trkd-int8", "stgt-trkd", "stgt", "keypoints", "TRKD", "onnxruntime", "int8", 0.264, 13, 5.02),
    ("lrinet-fp32", "lrinet", "lrinet", "rgb", "", "onnxruntime", "fp32", 0.19, 14, 11.9),
    ("lrinet-int8", "lrinet", "lrinet", "rgb", "", "onnxruntime", "int8", 0.193, 14, 6.3),
    ("lrinet-crkd-fp32", "lrinet-crkd", "lrinet", "rgb", "CRKD", "onnxruntime", "fp32", 0.145, 15, 11.8),
    ("lrinet-crkd-int8", "lrinet-crkd", "lrinet", "rgb", "CRKD", "onnxruntime", "int8", 0.148, 15, 6.28),
]
SIZES = {"cnn2d1d": (3_412_000, 41.2e6), "stgt": (612_000, 3.4e6), "lrinet": (388_000, 2.1e6)}  # parameters, MACs

LOSSES = {
    "teacher": ["ctc"],
    "stgt": ["ctc"],
    "stgt-trkd": ["ctc", "trkd"],
    "lrinet": ["ctc"],
    "lrinet-crkd": ["ctc", "crkd", "kd"],
}


def system_record(row: tuple, counted: dict[str, list[Utterance]]) -> SystemRecord:
    """One invented row of the table."""
    name, run, architecture, modality, distillation, runtime, precision, _, _, ms = row
    parameters, macs = SIZES[architecture]
    teacher = run == "teacher"
    size = parameters * (1 if precision == "int8" else 4) + 120_000
    return SystemRecord(
        system=name,
        run=run,
        architecture=architecture,
        modality=modality,
        distillation=distillation,
        runtime=runtime,
        precision=precision,
        target="x86-cpu",
        wer=wer_result(counted[name], *(() if name == TEACHER else (TEACHER, counted[TEACHER]))),
        latency=Latency(
            clips=40,
            samples=400,
            warmup=35,
            stable=True,
            threads=1,
            frames_per_clip=58.4,
            mean_ms=ms * 1.04,
            median_ms=ms,
            p90_ms=ms * 1.38,
            p99_ms=None,
            per_frame_ms=ms / 58.4,
            real_time_factor=ms / (1000 * 58.4 / 25),
            preprocess_ms=2.1 if modality == "rgb" else 0.35,
        ),
        complexity=Complexity(
            parameters=parameters,
            frames=60,
            counts=[
                FlopCount(counter="fvcore", macs=macs * 60),
                FlopCount(counter="torch FlopCounterMode", macs=macs * 60 * 1.002),
            ],
            macs_per_frame=macs,
            agreement=1.002,
            bytes_on_disk=size,
        ),
        peak_memory_mb=310.0 if teacher else 118.0,
        pose_ms_per_frame=None,
        pose_note="not included" if modality == "keypoints" else "",
        provenance=provenance(name),
    )


def curve_record(run: str, number: int) -> CurveRecord:
    """An invented training curve of 40 epochs."""
    rng = np.random.default_rng(number)
    floor = {"teacher": 11, "stgt": 30, "stgt-trkd": 27, "lrinet": 20, "lrinet-crkd": 14.5}[run]
    points = []
    for epoch in range(40):
        fall = float(np.exp(-epoch / 7))
        losses = {term: float((i + 1) * 0.4 + 3 * fall + rng.normal(0, 0.03)) for i, term in enumerate(LOSSES[run])}
        wer = floor + (100 - floor) * fall + rng.normal(0, 1.2)
        points.append(CurvePoint(epoch=epoch, seconds=3.1, losses=losses, dev_wer=max(0.0, float(wer))))
    recipe = f"name: {run}\nseed: 1\nmodel:\n  name: made-up\nschedule:\n  epochs: 40\n  lr: 0.001\n"
    return CurveRecord(
        run=run, points=points, epochs=40, seconds=124.0, parameters=1000, recipe=recipe, provenance=provenance(run)
    )


def picture(step: float, hue: int) -> str:
    """A data URI of a small drawn figure whose arms move with `step` (0..1)."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (64, 64), (196 - hue % 40, 205, 200 + hue % 40))
    draw = ImageDraw.Draw(image)
    swing = int(18 * np.sin(2 * np.pi * step))
    draw.rounded_rectangle((20, 28, 44, 66), 6, fill=(60 + hue % 120, 80, 120))
    draw.ellipse((25, 9, 39, 27), fill=(214, 170, 140))
    draw.line((22, 32, 14, 44, 24, 44 - swing), fill=(60 + hue % 120, 70, 100), width=5)
    draw.line((42, 32, 50, 44, 40, 40 + swing), fill=(60 + hue % 120, 70, 100), width=5)
    draw.ellipse((21, 41 - swing, 27, 47 - swing), fill=(214, 170, 140))
    draw.ellipse((37, 37 + swing, 43, 43 + swing), fill=(214, 170, 140))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def example_record(number: int) -> ExampleRecord:
    """The pictures of one clip."""
    return ExampleRecord(
        clip=f"test-{number:03d}",
        split="test",
        reference=[str(word) for word in references()[number]],
        signer=f"signer-{number % 3}",
        pictures=[picture(i / 7 + number / 5, 31 * number) for i in range(8)],
        provenance=provenance(),
    )


def comparison_records(counted: dict[str, list[Utterance]]) -> list[ComparisonRecord]:
    """Invented pairs: distilled against plain, INT8 against FP32, students against the teacher."""
    pairs = [(f"{row[0]} faster than {TEACHER}", row[0], TEACHER) for row in ROWS if row[0] != TEACHER]
    pairs += [
        ("TRKD gain", "stgt-trkd-fp32", "stgt-fp32"),
        ("CRKD gain", "lrinet-crkd-fp32", "lrinet-fp32"),
        ("INT8", "lrinet-crkd-int8", "lrinet-crkd-fp32"),
        ("INT8", "stgt-trkd-int8", "stgt-trkd-fp32"),
    ]
    latency = {row[0]: row[9] for row in ROWS}
    records = []
    for name, system, against in pairs:
        wrong, words = _errors(counted[system])
        difference = _bootstrap(wrong - _errors(counted[against])[0], words)
        records.append(
            ComparisonRecord(
                name=name,
                system=system,
                against=against,
                quantity="wer",
                difference=difference,
                provenance=provenance(system),
            )
        )
        records.append(
            ComparisonRecord(
                name=name,
                system=system,
                against=against,
                quantity="latency_ratio",
                ratio=latency[against] / latency[system],
                provenance=provenance(system),
            )
        )
    return records


def build() -> list[Record]:
    """A whole invented results file."""
    counted = {row[0]: score(row[7], row[8]) for row in ROWS}
    corpus = CorpusRecord(
        name="synthetic-demo",
        corpus_kind="synthetic",
        description="Continuous signing drawn by a generator: 20 glosses, 8 signers, sentences of 3 to 8 glosses.",
        keypoint_source="a tracker model with jitter, dropped and swapped hands",
        clips={"train": 900, "dev": 100, "test": CLIPS},
        glosses=len(GLOSSES),
        signers={"train": 6, "dev": 6, "test": 8},
        frames={"train": 52_300, "dev": 5_840, "test": 7_010},
        fps=25,
        provenance=provenance(),
    )
    refusal = RefusalRecord(
        system="stgt-int8",
        run="stgt",
        precision="int8",
        target="x86-cpu",
        reason="WER on the development split rises by 1.7 points, the budget is 0.5",
        wer_rise=1.7,
        budget=0.5,
        provenance=provenance("stgt-int8"),
    )
    note = NoteRecord(level="warning", text="Every figure in this file is made up.", provenance=provenance())
    records: list[Record] = [corpus, note]
    records += [system_record(row, counted) for row in ROWS]
    records += comparison_records(counted)
    records += [curve_record(run, number) for number, run in enumerate(LOSSES)]
    records += [example_record(number) for number in (3, 17, 42, 64)]
    records.append(refusal)
    return records
