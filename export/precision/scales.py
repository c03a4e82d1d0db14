"""Scales and zero points: from a range or a weight to integers, rounded as ONNX rounds (half to even)."""

from __future__ import annotations

import numpy as np

from export.calibration import Range

FLOOR = {np.dtype(np.float32): 2.0**-100, np.dtype(np.float16): 2.0**-22}  # smallest scale; below it nothing matters
MOST_BIAS = 2.0**30  # largest quantised bias: half of what int32 holds, the rest is room for the sum


def activation(bounds: Range, integers: str, floats: type[np.floating]) -> tuple[np.ndarray, np.ndarray]:
    """Scale (a number of type `floats`) and zero point of a tensor with these bounds, in `integers` uint8 or int8.

    int8 is symmetric: zero point 0, from -127 to 127. The scale is rounded up to what `floats` can hold, so that
    nothing of the range is cut off by it.
    """
    low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)
    if integers == "int8":
        return stored(np.array(max(-low, high) / 127), floats), np.array(0, np.int8)
    scale = stored(np.array((high - low) / 255), floats)
    return scale, np.array(np.clip(np.rint(-low / np.float64(scale)), 0, 255), np.uint8)


def weight(
    values: np.ndarray, axis: int, bits: int, floats: type[np.floating], least: np.ndarray | float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Integers (int8, of the shape of `values`) and scales (one per channel of `axis`, of type `floats`).

    With 7 bits the integers end at 64, so that two products of an unsigned byte fit into 16 bits. `least`: a lower
    bound for the scales, by channel.
    """
    top = 64 if bits == 7 else 127
    others = tuple(i for i in range(values.ndim) if i != axis % values.ndim)
    largest = np.abs(values.astype(np.float64)).max(axis=others, initial=0.0)
    scales = stored(np.maximum(largest / top, least), floats)
    shape = [-1 if i == axis % values.ndim else 1 for i in range(values.ndim)]
    integers = np.rint(values.astype(np.float64) / scales.astype(np.float64).reshape(shape))
    return np.clip(integers, -top, top).astype(np.int8), scales


def least_for_bias(values: np.ndarray, input_scale: np.ndarray) -> np.ndarray:
    """The scales of a weight below which the bias `values` would not fit into int32."""
    return np.abs(values.astype(np.float64)) / (np.float64(input_scale) * MOST_BIAS)


def bias(values: np.ndarray, input_scale: np.ndarray, weight_scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integers (int32) and scales of a bias, in the unit of the sums that it is added to."""
    scales = (np.float32(input_scale) * weight_scales.astype(np.float32)).astype(np.float32)
    return np.rint(values.astype(np.float64) / scales.astype(np.float64)).astype(np.int32), scales


def stored(scale: np.ndarray, floats: type[np.floating]) -> np.ndarray:
    """The scale as `floats` holds it, not below the wanted one and not so small that it loses its precision."""
    wanted = np.maximum(scale, FLOOR[np.dtype(floats)])
    near = wanted.astype(floats)
    return np.where(near.astype(np.float64) < wanted, np.nextafter(near, floats(np.inf)), near).astype(floats)
