"""Read and write corpus folders."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import yaml
from pydantic import ValidationError

from distill.corpus.schema import ClipRow, CorpusMetadata, SignClip
from distill.explain import explain
from runtime.errors import BadInput
from runtime.hashing import sha256_bytes, sha256_files
from runtime.video import read_frames

METADATA = "corpus.yaml"
CLIPS = "clips.jsonl"


def read_keypoints(path: Path, joints: int) -> np.ndarray:
    """(T,joints,3) float32 from a .npy file; raises `BadInput` if it is missing, broken, misshapen or holds NaN."""
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise BadInput(f"missing file {path}") from error
    except (OSError, ValueError, EOFError) as error:
        raise BadInput(f"cannot read keypoints {path}: {error}") from error
    if array.ndim != 3 or array.shape[1:] != (joints, 3) or array.dtype.kind not in "fiu":
        raise BadInput(f"keypoints {path} are {array.shape} {array.dtype}; the layout asks for (T,{joints},3)")
    bad = np.flatnonzero(~np.isfinite(array).all(axis=(1, 2)))
    if len(bad):
        where = f"in {len(bad)} of {len(array)} frames, first in frame {bad[0]}"
        raise BadInput(
            f"keypoints {path} hold NaN or infinity {where}; give an unseen joint confidence 0 and x = y = 0"
        )
    return array.astype(np.float32)


class Corpus:
    """A corpus folder opened for reading. Rows are validated on opening; clips are read on demand.

    `rows` are the good rows in file order; `faults` are (line number, message) of those that could not be parsed.
    Opening with `strict` (the default) raises `BadInput` at the first fault.
    """

    def __init__(self, folder: str | Path, strict: bool = True) -> None:
        self.folder = Path(folder)
        self.metadata = _read_metadata(self.folder)
        self.rows: list[ClipRow] = []
        self.lines: dict[str, int] = {}  # clip id -> its line in clips.jsonl
        self.faults: list[tuple[int, str]] = []
        self._read_rows()
        if strict and self.faults:
            line, message = self.faults[0]
            raise BadInput(f"{self.folder / CLIPS}:{line}: {message}")
        if strict and not self.rows:
            raise BadInput(f"{self.folder / CLIPS} has no clips: an empty corpus")

    def _read_rows(self) -> None:
        path = self.folder / CLIPS
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"cannot read {path}: {error}") from error
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip():
                continue
            try:
                row = ClipRow.model_validate(json.loads(line))
            except ValidationError as error:
                self.faults.append((number, explain(error, ClipRow)))
            except ValueError as error:
                self.faults.append((number, f"not JSON: {error}"))
            else:
                if row.id in self.lines:
                    self.faults.append((number, f"clip id '{row.id}' was used on line {self.lines[row.id]} already"))
                    continue
                self.lines[row.id] = number
                self.rows.append(row)

    def split(self, name: str) -> list[ClipRow]:
        """Rows of one split, in file order."""
        return [row for row in self.rows if row.split == name]

    def path(self, relative: str) -> Path:
        """A row's path as a real one."""
        return self.folder / relative

    def load(self, row: ClipRow, frames: bool = True, keypoints: bool = True) -> SignClip:
        """Read one clip; raises `BadInput` naming row and file if its data are missing, broken or misshapen."""
        where = f"{self.folder / CLIPS}:{self.lines.get(row.id, 0)}: clip '{row.id}'"
        clip = SignClip(row.id, row.glosses, row.signer, row.fps)
        try:
            if frames and row.video:
                clip.frames = read_frames(self.path(row.video))
            if keypoints and row.keypoints:
                clip.keypoints = self.read_keypoints(self.path(row.keypoints))
        except BadInput as error:
            raise BadInput(f"{where}: {error}") from error
        for array, what in ((clip.frames, "frames"), (clip.keypoints, "keypoints")):
            if array is not None and len(array) != row.frames:
                raise BadInput(f"{where}: the row says {row.frames} frames, its {what} have {len(array)}")
        return clip

    def load_for(self, row: ClipRow, modality: str) -> SignClip:
        """`load` of what a network of this modality reads (`Contract.modality`), and of nothing else."""
        return self.load(row, frames=modality == "rgb", keypoints=modality != "rgb")

    def read_keypoints(self, path: Path) -> np.ndarray:
        """`read_keypoints` with the joints of this corpus' layout."""
        return read_keypoints(path, len(self.metadata.keypoint_layout))

    def __iter__(self) -> Iterator[SignClip]:
        return (self.load(row) for row in self.rows)

    def fingerprint(self) -> str:
        """Hash of metadata, rows and data files: the corpus' identity in every record. Found once for each opening.

        Files inside the folder count by their content, those that rows name by absolute paths by size and time of
        change. Raises `BadInput` if a file cannot be read.
        """
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        names = sorted({name for row in self.rows for name in (row.video, row.keypoints) if name})
        try:
            inside = _files(self.folder / name for name in names if not Path(name).is_absolute())
            outside = _files(Path(name) for name in names if Path(name).is_absolute())
            digest = sha256_files([self.folder / METADATA, self.folder / CLIPS, *inside], self.folder)
            if outside:
                stats = [(str(path), path.stat()) for path in sorted(outside)]
                lines = [f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n" for name, stat in stats]
                digest = sha256_bytes("".join([digest, *lines]).encode())
        except OSError as error:
            raise BadInput(f"cannot read the clips of corpus {self.folder}: {error}") from error
        return digest


def _files(paths: Iterable[Path]) -> list[Path]:
    """The files among the paths, and those in the folders among them; what is missing is left out."""
    found = []
    for path in paths:
        found += [image for image in path.iterdir() if image.is_file()] if path.is_dir() else [path]
    return [path for path in found if path.is_file()]


class CorpusWriter:
    """Write a corpus into `folder` (made by `atomic_folder`): add clips, then `close`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[ClipRow] = []
        for name in ("frames", "keypoints"):
            (folder / name).mkdir()

    def add(self, clip: SignClip, split: str) -> None:
        """Write one clip's arrays and remember its row."""
        row = ClipRow.model_validate(
            {
                "id": clip.id,
                "split": split,
                "signer": clip.signer,
                "glosses": clip.glosses,
                "fps": clip.fps,
                "frames": len(clip.frames if clip.frames is not None else clip.keypoints),  # type: ignore[arg-type]
            }
        )
        if clip.frames is not None:
            row.video = f"frames/{clip.id}.npy"
            np.save(self.folder / row.video, clip.frames)
        if clip.keypoints is not None:
            row.keypoints = f"keypoints/{clip.id}.npy"
            np.save(self.folder / row.keypoints, clip.keypoints.astype(np.float32))
        self.rows.append(row)

    def close(self, metadata: CorpusMetadata) -> None:
        """Write metadata and rows."""
        write_index(self.folder, metadata, self.rows)


def write_index(folder: Path, metadata: CorpusMetadata, rows: list[ClipRow]) -> None:
    """Write `corpus.yaml` and `clips.jsonl`."""
    plain = metadata.model_dump(mode="json")
    (folder / METADATA).write_text(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), encoding="utf-8")
    lines = (json.dumps(row.model_dump(mode="json", exclude_none=True), ensure_ascii=False) for row in rows)
    (folder / CLIPS).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _read_metadata(folder: Path) -> CorpusMetadata:
    path = folder / METADATA
    try:
        return CorpusMetadata.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise BadInput(f"{folder} is not a corpus folder: it has no {METADATA}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput(f"cannot read {path}: {error}") from error
    except ValidationError as error:
        raise BadInput(f"{path}: {explain(error, CorpusMetadata)}") from error
