"""Records around the figures: what the corpus is, how the runs learned, pictures of clips, notes to the reader."""

from __future__ import annotations

import base64
import io
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.record import (
    CorpusRecord,
    CurvePoint,
    CurveRecord,
    ExampleRecord,
    KeypointTrack,
    NoteRecord,
    Provenance,
    Record,
    Utterance,
)
from bench.systems import System
from distill.corpus.check import frame_rates, warnings
from distill.corpus.schema import ClipRow
from distill.corpus.store import Corpus

PICTURE_SIDE = 96  # pixels
PICTURES = 8
FPS_TOLERANCE = 0.01  # 29.97 and 30 frames/s are the same to a recogniser


def corpus_record(corpus: Corpus, origin: Provenance) -> CorpusRecord:
    """What the clips are."""
    metadata = corpus.metadata
    splits = sorted({row.split for row in corpus.rows})
    return CorpusRecord(
        name=metadata.name,
        corpus_kind=metadata.kind,
        description=metadata.description,
        keypoint_source=metadata.keypoint_source,
        clips={split: len(corpus.split(split)) for split in splits},
        glosses=len(metadata.glosses),
        signers={split: len({row.signer for row in corpus.split(split)}) for split in splits},
        frames={split: sum(row.frames for row in corpus.split(split)) for split in splits},
        fps=Counter(row.fps for row in corpus.rows).most_common(1)[0][0],
        keypoint_track=KeypointTrack(name=metadata.track, **metadata.handicap) if metadata.track else None,
        warnings=warnings(corpus),
        provenance=origin,
    )


def curve_record(run: Any, origin: Provenance) -> CurveRecord:
    """The training curve of a run folder."""
    points = [
        CurvePoint(
            epoch=entry["epoch"],
            seconds=entry["seconds"],
            losses={name: float(value) for name, value in entry["losses"].items()},
            dev_wer=entry.get("dev_wer"),
        )
        for entry in run.curve
    ]
    summary = run.summary
    return CurveRecord(
        run=run.recipe.name,
        points=points,
        epochs=summary.get("epochs", len(points)),
        seconds=summary.get("seconds", sum(point.seconds for point in points)),
        parameters=summary.get("parameters", sum(parameter.numel() for parameter in run.model.parameters())),
        recipe=_publishable(run.recipe).text(),
        provenance=origin.model_copy(update={"checkpoint": run.checkpoint_hash, "seed": run.recipe.seed}),
    )


def _publishable(recipe: Any) -> Any:
    """The recipe without folders of this machine: its teacher by the name of the run alone."""
    return recipe.model_copy(update={"teacher": Path(recipe.teacher).name}) if recipe.teacher else recipe


def example_records(
    corpus: Corpus, rows: Sequence[ClipRow], number: int, readings: dict[str, list[Utterance]], origin: Provenance
) -> list[Record]:
    """Pictures of a few clips: those on which the systems differ most in their errors, since they tell most."""
    errors = np.array(
        [[len(item.reference) - item.correct + item.insertions for item in items] for items in readings.values()]
    )
    telling = np.argsort(-errors.std(axis=0), kind="stable")
    with_pictures = [rows[i] for i in telling if rows[i].video][:number]
    return [
        ExampleRecord(
            clip=row.id,
            split=row.split,
            reference=row.glosses,
            signer=row.signer,
            pictures=pictures(corpus.load(row, keypoints=False).frames),
            provenance=origin,
        )
        for row in with_pictures
    ]


def pictures(frames: np.ndarray | None, number: int = PICTURES, side: int = PICTURE_SIDE) -> list[str]:
    """JPEG data URIs of `number` frames (T,H,W,3) uint8, evenly spread, each fitted into `side` pixels."""
    from PIL import Image

    if frames is None:
        return []
    places = np.linspace(0, len(frames) - 1, min(number, len(frames))).round().astype(int)
    uris = []
    for place in places:
        image = Image.fromarray(frames[place])
        image.thumbnail((side, side))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=80)
        uris.append(f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}")
    return uris


def notes(
    systems: Sequence[System], corpus: Corpus, rows: Sequence[ClipRow], runs: Sequence[Any], origin: Provenance
) -> list[Record]:
    """What a reader has to know before believing a figure."""
    said: list[tuple[str, str]] = []
    split = rows[0].split
    total = len(corpus.split(split))
    if len(rows) < total:
        said.append(("warning", f"measured on {len(rows)} of the {total} clips of split '{split}'"))
    strangers = [system.name for system in systems if system.lineage.corpus and system.lineage.corpus != origin.corpus]
    if strangers:
        said.append(("warning", f"not trained on this corpus as it is now: {', '.join(strangers)}"))
    for run in runs:
        said.extend(("warning", f"training of {run.recipe.name}: {text}") for text in run.summary.get("warnings", []))
    rates = frame_rates(rows)
    others = [
        f"{system.name} ({system.contract.fps:g}/s)"
        for system in systems
        if not all(math.isclose(row.fps, system.contract.fps, rel_tol=FPS_TOLERANCE) for row in rows)
    ]
    if others:
        said.append(
            ("warning", f"trained at another frame rate than the clips' {', '.join(rates)}: {', '.join(others)}")
        )
    return [NoteRecord(level=level, text=text, provenance=origin) for level, text in said]  # type: ignore[arg-type]
