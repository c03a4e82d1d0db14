"""Import one's own videos: a table of files and gloss strings (CSV, TSV or JSON lines) becomes a corpus folder."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from distill.corpus.check import ctc_frames
from distill.corpus.schema import CorpusMetadata, SignClip, Split
from distill.corpus.store import CorpusWriter, read_keypoints
from distill.explain import explain
from runtime.atomic import atomic_folder
from runtime.contract import BLANK, body_and_hands_layout
from runtime.errors import BadInput
from runtime.preprocess import centre_square, resize_area
from runtime.video import frame_rate, iterate_frames

COLUMNS = ("id", "path", "glosses", "split", "signer", "fps", "keypoints")
_CHUNK = 8  # frames resized at once


class ManifestFaults(BadInput):
    """Rows of a manifest that cannot be imported; `faults` has one line for each thing wrong."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        more = f"; {len(faults) - 1} more fault{'s' if len(faults) > 2 else ''} listed above" if len(faults) > 1 else ""
        super().__init__(f"{faults[0]}{more}; nothing was written")


class ManifestRow(BaseModel):
    """One row of a manifest. Relative paths are relative to the manifest."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(default="", pattern=r"^[^\s/\\]*$")  # empty: the file's name
    path: str = ""  # video of any container PyAV reads, .npy (T,H,W,3) uint8, or a folder of images
    glosses: list[str] = Field(min_length=1)
    split: Split
    signer: str = ""
    fps: float | None = Field(default=None, gt=0)  # empty: the container's
    keypoints: str = ""  # .npy (T,V,3): x, y in units of the frame's width, confidence 0..1

    @field_validator("glosses", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        return value.split() if isinstance(value, str) else value

    @field_validator("glosses")
    @classmethod
    def _sound(cls, glosses: list[str]) -> list[str]:
        if any(not gloss.strip() or gloss == BLANK for gloss in glosses):
            raise ValueError(f"an empty gloss, or {BLANK}")
        return glosses


@dataclass(frozen=True)
class _Entry:
    line: int
    id: str
    row: ManifestRow


def import_manifest(
    manifest: Path,
    folder: Path,
    size: int = 256,
    name: str = "",
    layout: tuple[str, ...] = (),
    description: str = "",
    licence: str = "",
    progress: Callable[[Iterable[Any], int], Iterable[Any]] = lambda rows, total: rows,
) -> CorpusMetadata:
    """Write the corpus `folder`, whole or not at all. Frames are cut to a square about the centre and stored as arrays.

    Squares larger than `size` pixels are made smaller (antialiased area filter); smaller ones are kept. Keypoints go
    through the same cut; `layout` names their joints. Raises `ManifestFaults` that name every bad row with its line.
    """
    if size < 8:
        raise BadInput(f"size {size} is too small a picture; 8 pixels at least")
    entries, faults = read_manifest(manifest)
    layout = layout or body_and_hands_layout()
    sizes: set[tuple[int, int]] = set()
    with atomic_folder(folder) as temporary:
        writer = CorpusWriter(temporary)
        for entry in progress(entries, len(entries)):
            try:
                clip = _read_clip(entry, manifest.parent, size, len(layout))
            except BadInput as error:
                faults.append((entry.line, str(error)))
                continue
            if clip.frames is not None:
                sizes.add(clip.frames.shape[1:3])
            writer.add(clip, entry.row.split)
        if faults:
            raise ManifestFaults([f"{manifest}:{line}: {message}" for line, message in sorted(faults)])
        keypoints = any(entry.row.keypoints for entry in entries)
        metadata = CorpusMetadata(
            name=name or manifest.stem,
            kind="videos",
            description=description or f"Videos listed in {manifest.name}.",
            licence=licence,
            glosses=sorted({gloss for entry in entries for gloss in entry.row.glosses}),
            keypoint_layout=list(layout) if keypoints else [],
            frame_size=sizes.pop() if len(sizes) == 1 else None,
            keypoint_source="given with the videos" if keypoints else "",
            generator={"name": "signedge import", "manifest": manifest.name, "size": size},
        )
        writer.close(metadata)
    return metadata


def read_manifest(manifest: Path) -> tuple[list[_Entry], list[tuple[int, str]]]:
    """Good rows of a manifest, and (line, message) of the bad ones. Raises `BadInput` if it is no manifest at all."""
    entries: list[_Entry] = []
    faults: list[tuple[int, str]] = []
    lines: dict[str, int] = {}
    for line, raw in _raw_rows(manifest):
        if isinstance(raw, str):
            faults.append((line, raw))
            continue
        try:
            row = ManifestRow.model_validate({key: value for key, value in raw.items() if value not in ("", None)})
        except ValidationError as error:
            faults.append((line, explain(error, ManifestRow)))
            continue
        identity = row.id or "_".join(Path(row.path or row.keypoints).stem.split())
        if not (row.path or row.keypoints):
            faults.append((line, "neither path nor keypoints are given"))
        elif identity in lines:
            hint = "" if row.id else " (taken from the file's name; give ids of your own)"
            faults.append((line, f"id '{identity}' was used on line {lines[identity]} already{hint}"))
        else:
            lines[identity] = line
            entries.append(_Entry(line, identity, row))
    if not entries and not faults:
        raise BadInput(f"{manifest} lists no clips")
    return entries, faults


def _raw_rows(manifest: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """(line, columns or what is wrong with the line)."""
    kind = manifest.suffix.lower()
    if kind not in (".csv", ".tsv", ".jsonl"):
        raise BadInput(f"{manifest} is neither .csv, .tsv nor .jsonl")
    try:
        text = manifest.read_text(encoding="utf-8-sig")  # spreadsheets put a mark in front
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read {manifest}: {error}") from error
    try:
        delimiter = "\t" if kind == ".tsv" else ","
        yield from _json_rows(text) if kind == ".jsonl" else _table_rows(manifest, text, delimiter)
    except csv.Error as error:
        raise BadInput(f"{manifest} is not a table: {error}") from error


def _json_rows(text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            yield number, f"not JSON: {error}"
        else:
            yield number, row if isinstance(row, dict) else "not a JSON object"


def _table_rows(manifest: Path, text: str, delimiter: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter)
    header = [column.strip() for column in next(reader, [])]
    unknown = [column for column in header if column not in COLUMNS]
    missing = [column for column in ("glosses", "split") if column not in header]
    if unknown or missing or not {"path", "keypoints"} & set(header):
        wrong = f"unknown column '{unknown[0]}'" if unknown else f"no column '{missing[0] if missing else 'path'}'"
        raise BadInput(f"{manifest}:1: {wrong}; the first line names the columns, out of: {', '.join(COLUMNS)}")
    line = reader.line_num
    for cells in reader:
        start, line = line + 1, reader.line_num
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            yield start, f"{len(cells)} columns, the first line names {len(header)}"
        else:
            yield start, dict(zip(header, (cell.strip() for cell in cells), strict=True))


def _read_clip(entry: _Entry, base: Path, size: int, joints: int) -> SignClip:
    row = entry.row
    clip = SignClip(entry.id, row.glosses, row.signer, 0.0)
    source = base / row.path if row.path else None
    fps = row.fps or (frame_rate(source) if source else None)
    if not fps:
        raise BadInput("give fps: neither a folder of images nor an array says it, and not every container does")
    clip.fps = fps
    width, height = 0, 0
    if source:
        frames = iterate_frames(source)
        first = next(frames)
        height, width = first.shape[:2]
        clip.frames = _fit(chain([first], frames), size, source)
    if row.keypoints:
        clip.keypoints = read_keypoints(base / row.keypoints, joints)
        if clip.frames is not None:
            if len(clip.keypoints) != len(clip.frames):
                raise BadInput(f"{row.keypoints} has {len(clip.keypoints)} frames, {row.path} has {len(clip.frames)}")
            clip.keypoints = _cut_keypoints(clip.keypoints, height, width)
    count = len(clip.frames if clip.frames is not None else clip.keypoints)  # type: ignore[arg-type]
    if count < ctc_frames(row.glosses):
        raise BadInput(f"too short for its glosses under CTC: {count} frames, {ctc_frames(row.glosses)} are needed")
    return clip


def _fit(frames: Iterable[np.ndarray], size: int, source: Path) -> np.ndarray:
    """Centre squares (T,side,side,3) uint8 of at most `size` pixels, a few frames in memory at full size at a time."""
    parts = []
    shape: tuple[int, ...] | None = None
    stream = iter(frames)
    while chunk := list(islice(stream, _CHUNK)):
        shape = shape or chunk[0].shape
        if any(frame.shape != shape for frame in chunk):
            raise BadInput(f"the frames of {source} differ in size")
        top, left, side = centre_square(*shape[:2])
        squares = np.stack(chunk)[:, top : top + side, left : left + side]
        target = min(side, size)
        parts.append(np.rint(resize_area(squares, target, target)).astype(np.uint8) if target < side else squares)
    return np.concatenate(parts)


def _cut_keypoints(keypoints: np.ndarray, height: int, width: int) -> np.ndarray:
    """From units of the whole frame's width to units of its centre square's side; joints not seen stay at 0, 0."""
    side = min(height, width)
    corner = np.array([(width - side) / 2, (height - side) / 2]) / width
    moved = keypoints.copy()
    moved[..., :2] = (keypoints[..., :2] - corner) * (width / side)
    return np.where(keypoints[..., 2:] > 0, moved, keypoints * np.array([0, 0, 1])).astype(np.float32)


def read_layout(path: Path) -> tuple[str, ...]:
    """Joint names of a keypoint layout from a text file, one a line."""
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read {path}: {error}") from error
    if not names or len(set(names)) != len(names):
        raise BadInput(f"{path}: a layout names each joint once, one a line")
    return names
