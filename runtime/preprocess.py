"""What a contract asks to be done to a clip before the network sees it: one implementation for training and serving."""

from __future__ import annotations

from typing import Optional, Tuple, Union

import numpy as np

from runtime.contract import Contract, KeypointInput, Padding, RgbInput
from runtime.errors import BadInput
from runtime.windows import windows


def centre_square(height: int, width: int) -> Tuple[int, int, int]:
    """(top, left, side) of the largest square about the centre of a frame: what corpora keep of a video."""
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side


def area_weights(source: int, target: int) -> np.ndarray:
    """Row-stochastic (target, source) matrix of the area filter: each target cell averages the source span it covers.

    Enlarging interpolates linearly between cell centres instead: a span within one cell has nothing to average.
    """
    weights = np.zeros((target, source), dtype=np.float64)
    ratio = source / target
    for row in range(target):
        if ratio >= 1:
            lower, upper = row * ratio, (row + 1) * ratio
            for column in range(int(lower), min(source, int(np.ceil(upper - 1e-9)))):
                weights[row, column] = min(upper, column + 1) - max(lower, column)
        else:
            centre = (row + 0.5) * ratio - 0.5
            low = int(np.floor(centre))
            share = centre - low
            weights[row, min(max(low, 0), source - 1)] += 1 - share
            weights[row, min(max(low + 1, 0), source - 1)] += share
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def resize_area(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """(T,H,W,3) uint8 -> (T,height,width,3) float32 in 0..255, averaged over the covered area (antialiased)."""
    if frames.shape[1:3] == (height, width):
        return frames.astype(np.float32)
    rows, columns = area_weights(frames.shape[1], height), area_weights(frames.shape[2], width)
    if frames.shape[1] % height == 0 and frames.shape[2] % width == 0:
        return _block_means(frames, height, width)
    return np.einsum("yh,thwc,xw->tyxc", rows, frames.astype(np.float32), columns, optimize=True)


def _block_means(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """`resize_area` by whole factors: integer sums of neighbouring rows, then of columns (far faster than a mean)."""
    down, across = frames.shape[1] // height, frames.shape[2] // width
    rows = frames.reshape(len(frames), height, down, -1)
    total: np.ndarray = rows[:, :, 0].astype(np.uint16 if down * across <= 257 else np.uint32)
    for offset in range(1, down):
        total += rows[:, :, offset]
    cells = total.reshape(len(frames), height, width, across, 3)
    total = cells[:, :, :, 0].copy()
    for offset in range(1, across):
        total += cells[:, :, :, offset]
    return total.astype(np.float32) / np.float32(down * across)


def check_frames(frames: np.ndarray) -> None:
    """Raise `BadInput` unless frames are (T,H,W,3) uint8."""
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise BadInput(f"frames must be (T,H,W,3) uint8; these are {frames.shape} {frames.dtype}")


def check_keypoints(keypoints: np.ndarray, spec: KeypointInput) -> None:
    """Raise `BadInput` unless keypoints are (T,V,3) with as many joints as the layout names."""
    if keypoints.ndim != 3 or keypoints.shape[1:] != (len(spec.layout), 3):
        raise BadInput(f"keypoints must be (T,{len(spec.layout)},3); these are {keypoints.shape}")


def rgb_features(frames: np.ndarray, spec: RgbInput) -> np.ndarray:
    """Frames (T,H,W,3) uint8 RGB -> (T,3,height,width) float32 in -1..1."""
    check_frames(frames)
    resized = resize_area(frames, spec.height, spec.width)
    return np.ascontiguousarray((resized / 127.5 - 1.0).transpose(0, 3, 1, 2), dtype=np.float32)


def keypoint_features(keypoints: np.ndarray, spec: KeypointInput) -> np.ndarray:
    """Keypoints (T,V,3) -> (T,len(joints),5) float32 as `KeypointInput` says. NaN counts as not seen."""
    check_keypoints(keypoints, spec)
    index = {name: i for i, name in enumerate(spec.layout)}
    seen_points = np.where(np.isfinite(keypoints).all(axis=2, keepdims=True), keypoints, 0).astype(np.float32)

    def pick(names: Tuple[str, ...]) -> np.ndarray:
        return seen_points[:, [index[name] for name in names]]

    def placed(points: np.ndarray) -> np.ndarray:
        return np.logical_or.reduce(points[..., :2], axis=-1)

    def together(points: np.ndarray) -> np.ndarray:
        return np.logical_and.reduce(placed(points), axis=1, keepdims=True)

    origins, joints, roots = pick(spec.origin), pick(spec.joints), pick(spec.roots)
    origin = _hold(origins[..., :2].mean(axis=1, keepdims=True), together(origins), 0.5)
    root = _hold(roots[..., :2], placed(roots), joints[..., :2])
    distances = np.concatenate([joints[..., :2] - origin, joints[..., :2] - root], axis=-1)
    if spec.scale:
        ends = pick(spec.scale)
        width = np.linalg.norm(ends[:, 0, :2] - ends[:, 1, :2], axis=-1)[:, None, None]
        distances = distances / np.maximum(_hold(width, together(ends), 1), 1e-3)
    seen = (joints[..., 2:] > 0).astype(np.float32)
    return np.concatenate([distances * seen, joints[..., 2:]], axis=-1).astype(np.float32)


def _hold(values: np.ndarray, seen: np.ndarray, otherwise: Union[float, np.ndarray]) -> np.ndarray:
    """Values (T,K,C) where `seen` (T,K); elsewhere as last seen, before that as first seen, `otherwise` if never."""
    if seen.all():
        return values
    last = np.maximum.accumulate(np.where(seen, np.arange(len(seen))[:, None], -1), axis=0)
    held = np.take_along_axis(values, np.where(last < 0, seen.argmax(axis=0), last)[..., None], axis=0)
    return np.where((last[-1] >= 0)[:, None], held, otherwise).astype(values.dtype)


def pad_clip(features: np.ndarray, padding: Padding) -> np.ndarray:
    """(T,...) -> (T',...) by repeating the edge frames, as `Padding` says."""
    if len(features) == 0:
        raise BadInput("a clip without frames cannot be recognised")
    right = padding.total(len(features)) - padding.left - len(features)
    return np.concatenate([features[:1].repeat(padding.left, 0), features, features[-1:].repeat(right, 0)])


def chosen(contract: Contract, frames: Optional[np.ndarray], keypoints: Optional[np.ndarray]) -> np.ndarray:
    """Frames or keypoints, whichever the contract asks for. Raises `BadInput` if it was not given or is misshapen."""
    if isinstance(contract.input, RgbInput):
        if frames is None:
            raise BadInput(f"'{contract.name}' reads frames; this clip has none")
        check_frames(frames)
        return frames
    if keypoints is None:
        raise BadInput(f"'{contract.name}' reads keypoints; this clip has none")
    check_keypoints(keypoints, contract.input)
    return keypoints


def prepare(contract: Contract, frames: Optional[np.ndarray], keypoints: Optional[np.ndarray]) -> np.ndarray:
    """A clip as the network's input (W,T',...) float32; takes from frames or keypoints what the contract asks for.

    W is 1, but for clips longer than the one length that some networks take: `runtime.windows.joined` makes one of
    what is read in their windows.
    """
    given = chosen(contract, frames, keypoints)
    features = (rgb_features if isinstance(contract.input, RgbInput) else keypoint_features)(given, contract.input)
    parts = [pad_clip(features[begin:end], contract.padding) for begin, end in windows(contract, len(features))]
    return parts[0][None] if len(parts) == 1 else np.stack(parts)
