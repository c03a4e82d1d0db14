"""What is done to a clip before the network sees it, against plain definitions of the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from runtime.contract import BLANK, Contract, KeypointInput, Padding, RgbInput, body_and_hands_layout
from runtime.errors import BadInput
from runtime.preprocess import area_weights, keypoint_features, pad_clip, prepare, resize_area, rgb_features

LAYOUT = body_and_hands_layout()
SPEC = KeypointInput(
    layout=LAYOUT,
    joints=("left_wrist", "left_hand_index4", "right_hand_thumb2", "nose"),
    roots=("left_elbow", "left_hand_root", "right_hand_root", "nose"),
    origin=("left_shoulder", "right_shoulder"),
    scale=("left_shoulder", "right_shoulder"),
)


def pictures(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def points(count: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.1, 1.0, (count, len(LAYOUT), 3)).astype(np.float32)


def joint(keypoints: np.ndarray, name: str) -> np.ndarray:
    return keypoints[:, LAYOUT.index(name)]


# --- frames


@pytest.mark.parametrize(("source", "target"), [(10, 10), (10, 5), (10, 3), (7, 4), (224, 64), (101, 100), (5, 1)])
def test_area_weights_integrate_what_a_cell_covers(source: int, target: int) -> None:
    weights = area_weights(source, target)
    assert weights.shape == (target, source) and np.allclose(weights.sum(axis=1), 1, atol=1e-6)
    line = np.random.default_rng(1).random(source)
    # Split every source cell into `target` slices: a target cell then covers exactly `source` of them.
    assert np.allclose(weights @ line, np.repeat(line, target).reshape(target, source).mean(axis=1), atol=1e-6)


@pytest.mark.parametrize(("source", "target"), [(3, 7), (8, 16), (1, 4), (9, 10)])
def test_enlarging_interpolates_between_centres(source: int, target: int) -> None:
    weights = area_weights(source, target)
    assert np.allclose(weights.sum(axis=1), 1, atol=1e-6) and (weights >= 0).all()
    line = np.random.default_rng(1).random(source)
    centres = (np.arange(target) + 0.5) * source / target - 0.5
    assert np.allclose(weights @ line, np.interp(centres, np.arange(source), line), atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(24, 36), (12, 12), (6, 4), (1, 1), (24, 4), (1, 36)])
def test_whole_factors_take_a_faster_way_to_the_same(height: int, width: int) -> None:
    frames = pictures(3, 24, 36)
    rows, columns = area_weights(24, height), area_weights(36, width)
    expected = np.einsum("yh,thwc,xw->tyxc", rows, frames.astype(np.float64), columns)
    resized = resize_area(frames, height, width)
    assert resized.dtype == np.float32 and np.allclose(resized, expected, atol=1e-3)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (1, 257), (2, 129), (1, 258), (64, 64)])
def test_sums_of_bright_pixels_do_not_overflow(height: int, width: int) -> None:
    assert (resize_area(np.full((2, height, width, 3), 255, np.uint8), 1, 1) == 255).all()


@pytest.mark.parametrize(("height", "width"), [(10, 7), (30, 40), (7, 50)])
def test_other_factors(height: int, width: int) -> None:
    frames = pictures(2, 24, 36)
    resized = resize_area(frames, height, width)
    assert resized.shape == (2, height, width, 3)
    assert resized.min() >= 0 and resized.max() <= 255.001
    flat = resize_area(np.full((1, 24, 36, 3), 77, np.uint8), height, width)
    assert np.allclose(flat, 77, atol=1e-3)
    if height <= 24 and width <= 36:
        assert np.allclose(resized.mean(axis=(1, 2)), frames.mean(axis=(1, 2)), atol=1e-2)  # light is kept


def test_rgb_features_are_channels_first_from_minus_one_to_one() -> None:
    frames = pictures(2, 8, 8)
    frames[0, 0, 0], frames[0, 0, 1] = 0, 255
    features = rgb_features(frames, RgbInput(8, 8))
    assert features.shape == (2, 3, 8, 8) and features.dtype == np.float32 and features.flags.c_contiguous
    assert (features[0, :, 0, 0] == -1).all() and (features[0, :, 0, 1] == 1).all()
    assert np.allclose(features[1, 2, 3, 4], frames[1, 3, 4, 2] / 127.5 - 1)


@pytest.mark.parametrize(
    "frames", [pictures(2, 8, 8)[0], pictures(2, 8, 8)[..., :1], pictures(2, 8, 8).astype(np.float32)]
)
def test_what_are_no_frames(frames: np.ndarray) -> None:
    with pytest.raises(BadInput, match=r"frames must be \(T,H,W,3\) uint8"):
        rgb_features(frames, RgbInput(8, 8))


# --- keypoints


def test_keypoint_features_by_the_formula() -> None:
    keypoints = points()
    features = keypoint_features(keypoints, SPEC)
    assert features.shape == (6, 4, 5) and features.dtype == np.float32
    left, right = joint(keypoints, "left_shoulder")[:, :2], joint(keypoints, "right_shoulder")[:, :2]
    width = np.linalg.norm(left - right, axis=1, keepdims=True)
    for index, (name, root) in enumerate(zip(SPEC.joints, SPEC.roots, strict=True)):
        place = joint(keypoints, name)
        assert np.allclose(features[:, index, :2], (place[:, :2] - (left + right) / 2) / width, atol=1e-5)
        assert np.allclose(features[:, index, 2:4], (place[:, :2] - joint(keypoints, root)[:, :2]) / width, atol=1e-5)
        assert np.array_equal(features[:, index, 4], place[:, 2])
    assert not features[:, 3, 2:4].any()  # its own root


def test_place_and_size_of_the_signer_do_not_matter() -> None:
    keypoints = points()
    elsewhere = keypoints * np.array([0.5, 0.5, 1], np.float32) + np.array([0.2, -0.1, 0], np.float32)
    assert np.allclose(keypoint_features(elsewhere, SPEC), keypoint_features(keypoints, SPEC), atol=1e-4)


def test_without_scale_joints_distances_stay_in_frame_widths() -> None:
    keypoints = points()
    features = keypoint_features(keypoints, replace(SPEC, scale=()))
    middle = (joint(keypoints, "left_shoulder") + joint(keypoints, "right_shoulder"))[:, :2] / 2
    assert np.allclose(features[:, 0, :2], joint(keypoints, "left_wrist")[:, :2] - middle, atol=1e-6)


def test_a_joint_that_was_not_seen_is_all_zeros() -> None:
    keypoints = points()
    keypoints[2, LAYOUT.index("left_hand_index4"), 2] = 0
    features = keypoint_features(keypoints, SPEC)
    assert not features[2, 1].any()
    assert features[1, 1].all() and features[2, 0].all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_nan_counts_as_not_seen(value: float, channel: int) -> None:
    keypoints, unseen = points(), points()
    keypoints[3, LAYOUT.index("left_hand_index4"), channel] = value
    unseen[3, LAYOUT.index("left_hand_index4")] = 0
    features = keypoint_features(keypoints, SPEC)
    assert np.isfinite(features).all() and np.array_equal(features, keypoint_features(unseen, SPEC))


def test_shoulders_in_one_place_give_finite_features() -> None:
    keypoints = points()
    keypoints[:, LAYOUT.index("left_shoulder")] = keypoints[:, LAYOUT.index("right_shoulder")]
    assert np.isfinite(keypoint_features(keypoints, SPEC)).all()
    assert not keypoint_features(np.full((3, 49, 3), np.nan), SPEC).any()


def test_what_distances_are_taken_from_is_held_while_it_is_not_seen() -> None:
    """A shoulder or root at (0, 0) or NaN: as if it and its fellow stood still since they were last seen."""
    for lost in (np.zeros(2), np.array([np.nan, 0.3])):
        keypoints, still = points(8), points(8)
        shoulders = [LAYOUT.index("left_shoulder"), LAYOUT.index("right_shoulder")]
        root = LAYOUT.index("left_hand_root")
        keypoints[:2, shoulders[0], :2] = keypoints[4:6, shoulders[1], :2] = keypoints[5:7, root, :2] = lost
        still[:2, shoulders], still[4:6, shoulders] = still[2, shoulders], still[3, shoulders]
        still[5:7, root] = still[4, root]
        found, expected = keypoint_features(keypoints, SPEC), keypoint_features(still, SPEC)
        assert np.array_equal(found, expected)


def test_a_confidence_of_0_alone_does_not_hide_what_distances_are_taken_from() -> None:
    keypoints, sure = points(), points()
    keypoints[2:, LAYOUT.index("left_shoulder"), 2] = 0
    wrist = SPEC.joints.index("left_wrist")
    assert np.array_equal(keypoint_features(keypoints, SPEC)[:, wrist], keypoint_features(sure, SPEC)[:, wrist])


def test_what_is_never_seen_gives_fixed_distances() -> None:
    keypoints = points()
    keypoints[:, [LAYOUT.index("left_shoulder"), LAYOUT.index("left_hand_root")]] = 0
    features = keypoint_features(keypoints, SPEC)
    finger = joint(keypoints, "left_hand_index4")
    index = SPEC.joints.index("left_hand_index4")
    assert np.allclose(features[:, index, :2], finger[:, :2] - 0.5) and not features[:, index, 2:4].any()


@pytest.mark.parametrize("shape", [(6, 48, 3), (6, 49, 2), (49, 3)])
def test_keypoints_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadInput, match=r"keypoints must be \(T,49,3\)"):
        keypoint_features(np.zeros(shape, np.float32), SPEC)


# --- time


@pytest.mark.parametrize("padding", [Padding(0, 0, 4), Padding(6, 6, 4), Padding(2, 0, 1)])
@pytest.mark.parametrize("frames", [1, 3, 4, 5, 17])
def test_clips_are_padded_by_their_edges(padding: Padding, frames: int) -> None:
    clip = np.arange(frames, dtype=np.float32)[:, None] + 1
    padded = pad_clip(clip, padding)[:, 0]
    assert len(padded) == padding.total(frames)
    assert (padded[: padding.left] == 1).all() and (padded[padding.left + frames :] == frames).all()
    assert np.array_equal(padded[padding.left : padding.left + frames], clip[:, 0])


def test_a_clip_without_frames() -> None:
    with pytest.raises(BadInput, match="without frames"):
        pad_clip(np.zeros((0, 3, 8, 8), np.float32), Padding())


def test_prepare_takes_what_the_contract_reads() -> None:
    rgb = Contract("reads-rgb", RgbInput(4, 4), (BLANK, "RAIN"), 25.0, padding=Padding(6, 6, 4))
    skeleton = replace(rgb, name="reads-points", input=SPEC)
    frames, keypoints = pictures(5, 8, 8), points(5)
    assert prepare(rgb, frames, keypoints).shape == (1, 20, 3, 4, 4)
    assert prepare(skeleton, frames, keypoints).shape == (1, 20, 4, 5)
    with pytest.raises(BadInput, match="'reads-rgb' reads frames"):
        prepare(rgb, None, keypoints)
    with pytest.raises(BadInput, match="'reads-points' reads keypoints"):
        prepare(skeleton, frames, None)
