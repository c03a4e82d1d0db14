"""Read isolated recordings (key points with labels) and clean them: hands to sides, gaps closed, rests cut."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from runtime.errors import BadInput

FIELDS = ("q", "offsets", "label", "uid", "scale")
_NEEDED = f"it must be made by numpy.savez with the fields {', '.join(FIELDS)}"
MISSING = -32768
_COLUMNS = 2 + 2 * 21 * 3
LEFT, RIGHT = 0, 1  # the signer's own sides: facing the camera, the left hand is on the picture's right

_SAME_HAND = 0.3  # two detections closer than this many palm lengths, all landmarks averaged, are one hand seen twice
_CHANGE = 0.25  # cost of one hand vanishing while the other appears, in frame widths of wrist movement
_PRIOR = 0.15  # weight of "the left hand is on the picture's right" against a frame width of wrist movement
_SHORT_GAP = 6  # frames of a hand not detected that interpolation may close
_SHORTEST = 8  # a recording with fewer frames is a fragment


@dataclass
class Recording:
    """One isolated sign, cleaned. Units: frame widths, x right, y down; z relative to the wrist, smaller is nearer.

    `face` (T,2) centre of the face; `hands` (T,2,21,3), left then right, MediaPipe's landmark order, NaN where absent;
    `present` (T,2) bool.
    """

    uid: str
    gloss: str
    face: np.ndarray
    hands: np.ndarray
    present: np.ndarray


def read_recordings(path: Path, aspect: float = 0.75) -> list[Recording]:
    """All usable recordings of `path`, in file order.

    The file holds `q` int16 (frames, 128) with value = q / scale and -32768 = missing, columns face centre x, y and two
    hands of 21 landmarks x, y, z; `offsets` (R+1,) into its frames; `label` and `uid` (R,). x, z are in picture widths,
    y in picture heights; `aspect` is height / width of the camera's picture. Raises `BadInput` naming file and field.
    """
    values, offsets, labels, uids = _read_fields(path)
    values[:, 1] *= aspect
    hands = values[:, 2:].reshape(-1, 2, 21, 3)
    hands[..., 1] *= aspect
    recordings = []
    for start, end, gloss, uid in zip(offsets[:-1], offsets[1:], labels, uids, strict=True):
        recording = _clean(str(uid), str(gloss), values[start:end, :2], hands[start:end])
        if recording is not None:
            recordings.append(recording)
    if not recordings:
        raise BadInput(f"{path} has no recording of at least {_SHORTEST} frames with a hand in them")
    return recordings


def _read_fields(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise BadInput(f"{path} is no .npz archive, or was cut short; {_NEEDED}")
        with np.load(path, allow_pickle=False) as archive:
            q, offsets, labels, uids, scale = (_field(archive, name, path) for name in FIELDS)
    except FileNotFoundError as error:
        raise BadInput(f"missing file {path}") from error
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or error}") from error
    if {q.dtype.kind, offsets.dtype.kind} - set("iu") or scale.dtype.kind not in "iuf" or scale.size != 1:
        raise BadInput(f"{path}: q and offsets must be integers, scale one number; {_NEEDED}")
    if q.ndim != 2 or q.shape[1] != _COLUMNS:
        raise BadInput(f"{path}: q has shape {q.shape}; (frames,{_COLUMNS}) is needed")
    sound = offsets.ndim == 1 and len(offsets) == len(labels) + 1 == len(uids) + 1
    if not sound or (np.diff(offsets) < 0).any() or offsets[0] < 0 or offsets[-1] > len(q):
        raise BadInput(f"{path}: offsets, label and uid do not describe {len(q)} frames of q")
    values = np.where(q == MISSING, np.nan, q / np.float64(scale))
    return values, offsets, labels, uids


def _field(archive: Mapping[str, np.ndarray], name: str, path: Path) -> np.ndarray:
    if name not in archive:
        raise BadInput(f"{path} lacks the field {name}; {_NEEDED}")
    try:
        return np.asarray(archive[name])
    except Exception as error:  # numpy, zipfile and zlib have each their own for a broken archive
        raise BadInput(f"{path}: field {name} is broken, or holds Python objects instead of an array") from error


def _clean(uid: str, gloss: str, face: np.ndarray, slots: np.ndarray) -> Recording | None:
    slots = _detections(slots)
    useful = ~np.isnan(face).any(axis=1) & ~np.isnan(slots[:, :, 0, 0]).all(axis=1)
    face, slots = face[useful], slots[useful]
    if len(face) < _SHORTEST:
        return None
    hands = assign_sides(face, slots)
    for side in (LEFT, RIGHT):
        _close_gaps(hands[:, side])
    present = ~np.isnan(hands[:, :, 0, 0])
    start, end = _stroke(face, hands)
    return Recording(uid, gloss, face[start:end], hands[start:end], present[start:end])


def _detections(slots: np.ndarray) -> np.ndarray:
    """(T,2,21,3) with NaN for what is no hand: landmarks missing or all zero, a second sight of the first hand."""
    slots = slots.copy()
    slots[np.isnan(slots).any(axis=(2, 3)) | (slots == 0).all(axis=(2, 3))] = np.nan
    apart = np.linalg.norm(slots[:, 0, :, :2] - slots[:, 1, :, :2], axis=-1).mean(axis=-1)
    palm = np.linalg.norm(slots[:, 0, 9, :2] - slots[:, 0, 0, :2], axis=-1)
    slots[apart < _SAME_HAND * np.maximum(palm, 0.05), 1] = np.nan
    return slots


def assign_sides(face: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """Hands by side (T,2,21,3), left then right, from detection slots (T,2,21,3) in which absent hands are NaN.

    Detectors fill slots in the order of detection. Of the two ways to name the slots in each frame, the sequence is
    chosen that moves the wrists least and crosses the body least (Viterbi over two states).
    """
    wrists, seen = slots[:, :, 0, :2], ~np.isnan(slots[:, :, 0, 0])
    frames = len(slots)
    # named[s][t, side]: wrist of `side` when the slots of frame t are (left, right) for s = 0, (right, left) for s = 1.
    named = [np.where(seen[..., None], wrists, np.nan), np.where(seen[..., None], wrists, np.nan)[:, ::-1]]
    outward = [state[:, :, 0] - face[:, None, 0] for state in named]
    prior = [_PRIOR * np.nansum(np.maximum(np.stack([-x[:, LEFT], x[:, RIGHT]]), 0), axis=0) for x in outward]
    best = np.array([prior[0][0], prior[1][0]])
    origin = np.zeros((frames, 2), dtype=int)
    steps = [[_movement(named[before][:-1], named[after][1:]) for after in (0, 1)] for before in (0, 1)]
    for t in range(1, frames):
        ways = np.array([[best[before] + steps[before][after][t - 1] for before in (0, 1)] for after in (0, 1)])
        origin[t] = ways.argmin(axis=1)
        best = ways.min(axis=1) + np.array([prior[0][t], prior[1][t]])
    state = np.empty(frames, dtype=int)
    state[-1] = best.argmin()
    for t in range(frames - 1, 0, -1):
        state[t - 1] = origin[t, state[t]]
    return np.where(state[:, None, None, None] == 0, slots, slots[:, ::-1])


def _movement(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Cost (T-1,) of going from wrists (T-1,2 sides,2) to the next: movement of the sides in both, else `_CHANGE`."""
    distance = np.linalg.norm(after - before, axis=-1)
    shared = ~np.isnan(distance)
    return np.where(shared.any(axis=1), np.where(shared, distance, 0).sum(axis=1), _CHANGE)


def _close_gaps(hand: np.ndarray) -> None:
    """Interpolate in place where one hand (T,21,3) is missing for at most `_SHORT_GAP` frames between two sightings."""
    seen = np.flatnonzero(~np.isnan(hand[:, 0, 0]))
    for before, after in pairwise(seen):
        if 1 < after - before <= _SHORT_GAP + 1:
            share = (np.arange(1, after - before) / (after - before))[:, None, None]
            hand[before + 1 : after] = hand[before] + (hand[after] - hand[before]) * share


def _stroke(face: np.ndarray, hands: np.ndarray) -> tuple[int, int]:
    """First frame and end of the sign without the way up to it and down from it: at most a quarter is cut at each end.

    In isolated recordings the hands come up from rest and go back to it; in a sentence they go on to the next sign.
    """
    height = np.nanmin(hands[:, :, 0, 1], axis=1) - face[:, 1]  # of the higher wrist, downwards
    low = height > height.min() + 0.7 * (height.max() - height.min())
    longest = len(height) // 4
    if height.max() - height.min() < 0.12:
        return 0, len(height)
    start = int(np.argmin(low[: longest + 1])) if not low[: longest + 1].all() else longest
    back = low[::-1][: longest + 1]
    end = len(height) - (int(np.argmin(back)) if not back.all() else longest)
    return (start, end) if end - start >= _SHORTEST else (0, len(height))
