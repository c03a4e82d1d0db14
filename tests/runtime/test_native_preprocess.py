"""libsignedge's preprocessing against runtime/preprocess.py, on random frames and keypoints."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from runtime import abi
from runtime.benchmarks.native import build_driver, compiler
from runtime.contract import KeypointInput, RgbInput, body_and_hands_layout
from runtime.preprocess import keypoint_features, rgb_features

INSTRUCTION_SETS = ("generic", "neon", "avx2", "avx512")
TOLERANCE = 1e-5  # in -1..1; a step of an 8-bit value is 1 / 127.5


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if not compiler():
        pytest.skip("g++ or clang++ is needed to build the preprocessing of libsignedge")
    return build_driver(tmp_path_factory.mktemp("driver"))


class Refused(Exception):
    """The library's message."""


def call(function: Any, *arguments: Any) -> None:
    message = ctypes.create_string_buffer(2048)
    status = function(*arguments, message, len(message))
    if status != abi.OK:
        assert status == abi.INVALID_ARGUMENT
        raise Refused(message.value.decode())


# --- frames


class Preparer:
    """An ImagePreparer for (height, width)."""

    def __init__(self, driver: ctypes.CDLL, height: int, width: int, instruction_set: str | None = None) -> None:
        self.driver, self.shape = driver, (3, height, width)
        name = instruction_set and instruction_set.encode()
        self.handle = ctypes.c_void_p(driver.image_create(width, height, name))
        if not self.handle:
            pytest.skip(f"this CPU or build has no {instruction_set}")

    def __call__(self, frame: abi.Frame) -> np.ndarray:
        out = np.full(self.shape, np.nan, np.float32)
        call(self.driver.image_prepare, self.handle, ctypes.byref(frame), ctypes.c_void_p(out.ctypes.data))
        return out

    def __del__(self) -> None:
        self.driver.image_destroy(self.handle)


def describe(format: int, planes: Sequence[np.ndarray], width: int, height: int, **fields: int) -> abi.Frame:
    """A frame of planes (rows, bytes) that may lie apart in memory."""
    frame = abi.Frame(format=format, width=width, height=height, **fields)
    for i, plane in enumerate(planes):
        frame.planes[i], frame.strides[i] = plane.ctypes.data, plane.strides[0]
    frame.kept = planes
    return frame


def packed(pixels: np.ndarray, format: int = abi.RGB, **fields: int) -> abi.Frame:
    return describe(format, [pixels.reshape(len(pixels), -1)], pixels.shape[1], pixels.shape[0], **fields)


def expected(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    return rgb_features(pixels[None], RgbInput(height, width))[0]


def assert_same(found: np.ndarray, wanted: np.ndarray) -> None:
    assert found.shape == wanted.shape and np.abs(found - wanted).max() <= TOLERANCE


def random_sizes(count: int, seed: int) -> list[tuple[int, int, int, int]]:
    """Sources and targets of all kinds: (height, width) to (height, width)."""
    draw = np.random.default_rng(seed)
    return [tuple(int(side) for side in np.exp(draw.uniform(0, np.log([300, 300, 80, 80])))) for _ in range(count)]


SIZES = [
    (480, 640, 56, 56),
    (56, 56, 56, 56),  # as it is
    (112, 168, 56, 56),  # whole factors
    (57, 113, 56, 56),
    (33, 21, 56, 56),  # enlarged
    (33, 300, 56, 56),  # one way each
    (300, 33, 56, 57),
    (56, 300, 56, 56),
    (1, 1, 56, 56),
    (1, 700, 3, 3),
    (700, 1, 3, 3),  # more rows than are summed at once
    (200, 41, 1, 1),
    (97, 64, 3, 64),
    (129, 3, 2, 2),
    *random_sizes(40, seed=1),
]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_frames_equal_the_training_s(driver: ctypes.CDLL, size: tuple[int, int, int, int]) -> None:
    height, width, to_height, to_width = size
    pixels = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    prepare = Preparer(driver, to_height, to_width)
    wanted = expected(pixels, to_height, to_width)
    assert_same(prepare(packed(pixels)), wanted)
    assert_same(prepare(packed(pixels[..., ::-1].copy(), abi.BGR)), wanted)
    gray = np.ascontiguousarray(pixels[..., 0])
    assert_same(prepare(packed(gray, abi.GRAY)), expected(gray[..., None].repeat(3, axis=2), to_height, to_width))


def test_black_and_white_are_exact(driver: ctypes.CDLL) -> None:
    for height, width, value in itertools.product((480, 700, 28, 5000), (640, 56, 13), (0, 255)):
        found = Preparer(driver, 56, 56)(packed(np.full((height, width, 3), value, np.uint8)))
        assert np.abs(found - (value / 127.5 - 1)).max() <= 1e-6


@pytest.mark.parametrize("format", [abi.RGB, abi.GRAY, abi.NV12, abi.I420])
@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
def test_instruction_sets_agree(driver: ctypes.CDLL, instruction_set: str, format: int) -> None:
    for height, width, to_height, to_width in SIZES:
        frame = random_frame(np.random.default_rng(width), format, height, width)
        found = Preparer(driver, to_height, to_width, instruction_set)(frame)
        base = "neon" if instruction_set == "neon" else "generic"
        assert np.abs(found - Preparer(driver, to_height, to_width, base)(frame)).max() <= 1e-6


def test_the_best_instruction_set_is_used(driver: ctypes.CDLL) -> None:
    here = [name for name in INSTRUCTION_SETS if driver.image_create(8, 8, name.encode())]
    assert driver.driver_instruction_set().decode() == here[-1]
    assert not driver.image_create(8, 8, b"abacus")


def test_equal_frames_allocate_nothing_after_the_first(driver: ctypes.CDLL) -> None:
    for format in (abi.RGB, abi.GRAY, abi.NV12, abi.I420):
        prepare, frame = Preparer(driver, 56, 56), random_frame(np.random.default_rng(0), format, 480, 640)
        prepare(frame)
        before = driver.driver_allocations()
        prepare(frame)
        assert driver.driver_allocations() == before


def test_sizes_may_change_from_frame_to_frame(driver: ctypes.CDLL) -> None:
    prepare, draw = Preparer(driver, 20, 30), np.random.default_rng(5)
    for height, width, *_ in SIZES:
        pixels = draw.integers(0, 256, (height, width, 3), dtype=np.uint8)
        assert_same(prepare(packed(pixels)), expected(pixels, 20, 30))
        frame = random_frame(draw, (abi.NV12, abi.I420)[width % 2], height, width)
        assert_same(prepare(frame), expected(to_rgb(frame), 20, 30))


# --- colour, strides, crops


def random_frame(draw: np.random.Generator, format: int, height: int, width: int, gap: int = 0) -> abi.Frame:
    """A frame whose rows lie `gap` bytes apart."""
    half_height, half = (height + 1) // 2, (width + 1) // 2
    shapes = {
        abi.RGB: [(height, 3 * width)],
        abi.BGR: [(height, 3 * width)],
        abi.GRAY: [(height, width)],
        abi.NV12: [(height, width), (half_height, 2 * half)],
        abi.I420: [(height, width), (half_height, half), (half_height, half)],
    }[format]
    planes = [draw.integers(0, 256, (rows, size + gap), dtype=np.uint8)[:, :size] for rows, size in shapes]
    return describe(format, planes, width, height)


def to_rgb(frame: abi.Frame, fraction: float = 1 / 65536) -> np.ndarray:
    """What the standards say, (H,W,3) uint8, by factors that are rounded to multiples of `fraction`."""
    red, blue = {abi.BT601: (0.299, 0.114), abi.BT709: (0.2126, 0.0722), abi.BT601_FULL: (0.299, 0.114)}[frame.colour]
    black, luma_range, chroma_range = (0, 255, 255) if frame.colour == abi.BT601_FULL else (16, 219, 224)
    green, chroma = 1 - red - blue, np.array([2 * (1 - red), 2 * (1 - blue)]) * 255 / chroma_range
    factors = np.zeros((3, 3))  # of luma, Cb, Cr to R, G, B
    factors[0] = 255 / luma_range
    factors[1, 1:] = -chroma[1] * blue / green, chroma[1]
    factors[2, :2] = chroma[0], -chroma[0] * red / green
    uv = [frame.kept[1][:, 0::2], frame.kept[1][:, 1::2]] if frame.format == abi.NV12 else frame.kept[1:]
    covered = [plane.repeat(2, axis=0).repeat(2, axis=1)[: frame.height, : frame.width] for plane in uv]
    values = np.stack([frame.kept[0], *covered], axis=-1) - np.array([black, 128, 128])
    exact = values @ (np.round(factors / fraction) * fraction)
    return np.clip(np.floor(exact + 0.5), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("colour", [abi.BT601, abi.BT709, abi.BT601_FULL])
@pytest.mark.parametrize("format", [abi.NV12, abi.I420])
@pytest.mark.parametrize("size", [(48, 64), (47, 63), (1, 1), (2, 3), (3, 35), (120, 162)], ids=str)
def test_video_colours(driver: ctypes.CDLL, format: int, colour: int, size: tuple[int, int]) -> None:
    frame = random_frame(np.random.default_rng(size), format, *size, gap=5)
    frame.colour = colour
    found = ((Preparer(driver, *size)(frame) + 1) * 127.5).round().transpose(1, 2, 0)
    assert np.array_equal(found, to_rgb(frame))
    # So fine a fraction rounds nearly every value as the exact factors would.
    difference = np.abs(found - to_rgb(frame, fraction=1e-12))
    assert difference.max() <= 1 and (difference > 0).mean() <= 0.01


def test_known_colours(driver: ctypes.CDLL) -> None:
    prepare = Preparer(driver, 1, 1)

    def seen(colour: int, *values: int) -> list[int]:
        planes = [np.array([[value]], np.uint8) for value in values]
        out = prepare(describe(abi.I420, planes, 1, 1, colour=colour))
        return [round((float(value) + 1) * 127.5) for value in out.ravel()]

    assert seen(abi.BT601, 16, 128, 128) == [0, 0, 0] and seen(abi.BT601, 235, 128, 128) == [255, 255, 255]
    assert seen(abi.BT601, 81, 90, 240) == [254, 0, 0] and seen(abi.BT709, 63, 102, 240) == [255, 1, 0]
    assert seen(abi.BT601_FULL, 0, 128, 128) == [0, 0, 0] and seen(abi.BT601_FULL, 255, 128, 128) == [255, 255, 255]


@pytest.mark.parametrize("format", [abi.RGB, abi.BGR, abi.GRAY, abi.NV12, abi.I420])
def test_strides_and_crops(driver: ctypes.CDLL, format: int) -> None:
    draw = np.random.default_rng(format)
    for _ in range(40):
        height, width = (int(side) for side in draw.integers(1, 90, 2))
        frame = random_frame(draw, format, height, width, gap=int(draw.integers(0, 20)))
        if format in (abi.NV12, abi.I420):
            whole = to_rgb(frame)
        else:
            whole = frame.kept[0].reshape(height, width, -1).repeat(3 if format == abi.GRAY else 1, axis=2)
            whole = whole[..., ::-1] if format == abi.BGR else whole
        frame.crop_x, frame.crop_y = int(draw.integers(0, width)), int(draw.integers(0, height))
        frame.crop_width = int(draw.integers(1, width - frame.crop_x + 1))
        frame.crop_height = int(draw.integers(1, height - frame.crop_y + 1))
        part = whole[frame.crop_y :][: frame.crop_height, frame.crop_x :][:, : frame.crop_width]
        assert_same(Preparer(driver, 9, 11)(frame), expected(part, 9, 11))


def test_stride_0_is_rows_that_touch(driver: ctypes.CDLL) -> None:
    for format in (abi.RGB, abi.GRAY, abi.NV12, abi.I420):
        frame = random_frame(np.random.default_rng(3), format, 25, 31)
        told = Preparer(driver, 8, 8)(frame)
        frame.strides[:] = [0, 0, 0]
        assert np.array_equal(Preparer(driver, 8, 8)(frame), told)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": 0}, "frame.format is 0"),
        ({"format": 6}, "frame.format is 6"),
        ({"width": 0}, "frame.width is 0; it must be 1 to 16384"),
        ({"height": 0}, "frame.height is 0"),
        ({"width": 16385}, "frame.width is 16385"),
        ({"height": 0xFFFFFFFF}, "frame.height is 4294967295"),
        ({"colour": 3}, "frame.colour is 3"),
        ({"colour": -1}, "frame.colour is -1"),
        ({"crop_width": 32, "crop_height": 1}, "frame.crop_width is 32"),
        ({"crop_width": 31}, "frame.crop_height is 0"),
        ({"crop_width": 31, "crop_height": 26}, "frame.crop_height is 26"),
        ({"crop_width": 30, "crop_height": 25, "crop_x": 2}, "frame.crop_x is 2: with a crop_width of 30"),
        ({"crop_width": 30, "crop_height": 25, "crop_y": 0xFFFFFFFF}, "frame.crop_y is 4294967295"),
        ({"planes": (0, None)}, r"frame.planes\[0\] is NULL"),
        ({"planes": (1, None)}, r"frame.planes\[1\] is NULL"),
        ({"planes": (2, None)}, r"frame.planes\[2\] is NULL"),
        ({"strides": (0, 30)}, r"frame.strides\[0\] is 30; a row of this format and width has 31 bytes"),
        ({"strides": (1, 15)}, r"frame.strides\[1\] is 15"),
        ({"strides": (2, 1)}, r"frame.strides\[2\] is 1"),
    ],
)
def test_impossible_frames_are_refused_by_name(driver: ctypes.CDLL, fields: dict[str, Any], message: str) -> None:
    prepare, frame = Preparer(driver, 8, 8), random_frame(np.random.default_rng(4), abi.I420, 25, 31)
    before = prepare(frame)
    for name, value in fields.items():
        if isinstance(value, tuple):
            getattr(frame, name)[value[0]] = value[1]
        else:
            setattr(frame, name, value)
    with pytest.raises(Refused, match=message):
        prepare(frame)
    assert np.array_equal(prepare(random_frame(np.random.default_rng(4), abi.I420, 25, 31)), before)


def test_what_a_format_lacks_is_not_looked_at(driver: ctypes.CDLL) -> None:
    frame = random_frame(np.random.default_rng(4), abi.RGB, 25, 31)
    frame.colour, frame.strides[1] = 77, 1
    Preparer(driver, 8, 8)(frame)
    frame = random_frame(np.random.default_rng(4), abi.NV12, 25, 31)
    Preparer(driver, 8, 8)(frame)


# --- keypoints

LAYOUT = body_and_hands_layout()
HANDS = KeypointInput(
    layout=LAYOUT,
    joints=tuple(name for name in LAYOUT if name != "nose"),
    roots=tuple(f"{name.split('_hand_')[0]}_hand_root" if "_hand_" in name else "right_elbow" for name in LAYOUT[1:]),
    origin=("left_shoulder", "right_shoulder", "nose"),
    scale=("left_shoulder", "right_shoulder"),
)
SPECS = [
    HANDS,
    replace(HANDS, scale=()),
    replace(HANDS, joints=("left_wrist", "nose", "left_wrist"), roots=("nose", "nose", "left_wrist"), origin=("nose",)),
]


class Spec(ctypes.Structure):
    _fields_ = [
        ("layout", ctypes.POINTER(ctypes.c_char_p)),
        *[(name, ctypes.POINTER(ctypes.c_uint32)) for name in ("joints", "roots", "origin", "scale")],
        *[(f"{name}_count", ctypes.c_uint32) for name in ("layout", "joint", "origin", "scale")],
    ]


def texts(names: Sequence[str]) -> Any:
    return (ctypes.c_char_p * len(names))(*[name.encode() for name in names])


class KeypointPreparer:
    """A KeypointPreparer that keeps the frames of a clip, all or the last ones, as a stream does."""

    def __init__(self, driver: ctypes.CDLL, spec: KeypointInput, names: Sequence[str] = ()) -> None:
        self.driver, self.joints, self.handle = driver, len(spec.joints), ctypes.c_void_p()
        native = Spec(layout=texts(spec.layout), layout_count=len(spec.layout), joint_count=len(spec.joints))
        for name in ("joints", "roots", "origin", "scale"):
            chosen = [spec.layout.index(joint) for joint in getattr(spec, name)]
            setattr(native, name, (ctypes.c_uint32 * len(chosen))(*chosen))
        native.origin_count, native.scale_count = len(spec.origin), len(spec.scale)
        call(driver.keypoints_create, ctypes.byref(native), texts(names), len(names), ctypes.byref(self.handle))

    def __del__(self) -> None:
        self.driver.keypoints_destroy(self.handle)

    def read(self, points: abi.Keypoints) -> np.ndarray:
        raw = np.full(self.driver.keypoints_raw_values(self.handle), 77, np.float32)
        call(self.driver.keypoints_read, self.handle, ctypes.byref(points), ctypes.c_void_p(raw.ctypes.data))
        return raw

    def clip(self, frames: np.ndarray, kept: int = 1 << 30, scales: tuple[float, float] = (0, 0)) -> np.ndarray:
        """(T,V,3) -> (T,J,5), where a first sight can still change the last `kept` frames."""
        raw = np.empty((len(frames), self.driver.keypoints_raw_values(self.handle)), np.float32)
        out = np.full((len(frames), self.joints, 5), np.nan, np.float32)
        for i, frame in enumerate(np.ascontiguousarray(frames, np.float32)):
            points = abi.Keypoints(joints=len(frame), points=frame.ctypes.data, x_scale=scales[0], y_scale=scales[1])
            raw[i] = self.read(points)
            if self.driver.keypoints_prepare(self.handle, *(ctypes.c_void_p(a[i].ctypes.data) for a in (raw, out))):
                first = max(0, i - kept)
                addresses = (ctypes.c_void_p(a[first:].ctypes.data) for a in (raw, out))
                self.driver.keypoints_redo(self.handle, *addresses, ctypes.c_uint64(i - first))
        return out


def random_clip(seed: int, frames: int = 40, joints: int = len(LAYOUT)) -> np.ndarray:
    """Keypoints with NaN, infinities, lost joints, references that come late or never, and confidences of 0."""
    draw = np.random.default_rng(seed)
    clip = draw.uniform(0.05, 1, (frames, joints, 3)).astype(np.float32)
    clip[draw.random((frames, joints)) < 0.1, 2] = 0
    clip[draw.random((frames, joints)) < 0.02, 2] = -1
    for joint in range(joints):
        kind = draw.integers(0, 6)
        if kind <= 2:  # comes late
            clip[: draw.integers(0, frames + 5), joint, :2] = 0
        elif kind == 3 and draw.random() < 0.4:  # never comes
            clip[:, joint] = draw.choice([0, np.nan])
        gone = draw.random(frames) < draw.choice([0, 0.2, 0.8])
        clip[gone, joint] = draw.choice([0, np.nan, np.inf])
    clip[draw.random(clip.shape) < 0.01] = np.nan
    clip[draw.random(clip.shape) < 0.02] = 0
    return clip


def assert_same_features(found: np.ndarray, wanted: np.ndarray) -> None:
    assert np.allclose(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("spec", SPECS, ids=["scaled", "unscaled", "few"])
def test_keypoints_equal_the_training_s(driver: ctypes.CDLL, spec: KeypointInput) -> None:
    for seed in range(60):
        clip = random_clip(seed)
        assert_same_features(KeypointPreparer(driver, spec).clip(clip), keypoint_features(clip, spec))


def test_references_that_come_one_after_the_other(driver: ctypes.CDLL) -> None:
    for seed in range(20):
        draw = np.random.default_rng(seed)
        clip = draw.uniform(0.1, 1, (30, len(LAYOUT), 3)).astype(np.float32)
        for joint in range(len(LAYOUT)):
            clip[: draw.integers(0, 29), joint] = 0
        found = KeypointPreparer(driver, HANDS).clip(clip)
        assert_same_features(found, keypoint_features(clip, HANDS))


def test_frames_that_are_gone_keep_what_was_known_then(driver: ctypes.CDLL) -> None:
    """With the last 5 frames kept, a frame knows the first sights of the 5 frames after it, and no later ones."""
    for seed in range(20):
        clip = random_clip(seed)
        found = KeypointPreparer(driver, HANDS).clip(clip, kept=5)
        for frame in range(len(clip)):
            assert_same_features(found[frame], keypoint_features(clip[: frame + 6], HANDS)[frame])


def test_tiny_scales_are_bounded(driver: ctypes.CDLL) -> None:
    clip = np.random.default_rng(0).uniform(0.1, 1, (4, len(LAYOUT), 3)).astype(np.float32)
    clip[1:, LAYOUT.index("left_shoulder")] = clip[1:, LAYOUT.index("right_shoulder")]
    assert_same_features(KeypointPreparer(driver, HANDS).clip(clip), keypoint_features(clip, HANDS))


def test_huge_values_leave_the_references_as_they_were(driver: ctypes.CDLL) -> None:
    clip = np.random.default_rng(0).uniform(0.1, 1, (6, len(LAYOUT), 3)).astype(np.float32)
    wanted = keypoint_features(clip, HANDS)
    clip[1, [LAYOUT.index("left_shoulder"), LAYOUT.index("right_shoulder")], :2] = 3e38
    found = KeypointPreparer(driver, HANDS).clip(clip)
    assert not np.isnan(found).any()
    assert_same_features(found[2:], wanted[2:])


def test_a_reset_forgets(driver: ctypes.CDLL) -> None:
    preparer = KeypointPreparer(driver, HANDS)
    for seed in range(10):
        clip = random_clip(seed)
        assert_same_features(preparer.clip(clip), keypoint_features(clip, HANDS))
        driver.keypoints_reset(preparer.handle)


def test_a_caller_s_own_layout(driver: ctypes.CDLL) -> None:
    draw = np.random.default_rng(7)
    needed = {*SPECS[2].joints, *SPECS[2].roots, *SPECS[2].origin, *SPECS[2].scale}
    names = ["tail", *needed, "left ear", "Ohr"]
    draw.shuffle(names)
    for seed in range(10):
        clip = random_clip(seed)
        given = random_clip(seed + 100, joints=len(names))
        for name in needed:
            given[:, names.index(name)] = clip[:, LAYOUT.index(name)]
        found = KeypointPreparer(driver, SPECS[2], names).clip(given)
        assert_same_features(found, keypoint_features(clip, SPECS[2]))


def test_pixels_become_frame_widths(driver: ctypes.CDLL) -> None:
    clip = random_clip(3)
    pixels = clip * np.array([640, 640, 1], np.float32)
    found = KeypointPreparer(driver, HANDS).clip(pixels, scales=(1 / 640, 1 / 640))
    assert np.allclose(found, keypoint_features(clip, HANDS), rtol=1e-4, atol=1e-4)
    halves = clip * np.array([1, 0.5, 1], np.float32)
    assert_same_features(KeypointPreparer(driver, HANDS).clip(clip, scales=(0, 0.5)), keypoint_features(halves, HANDS))


def test_preparing_keypoints_allocates_nothing(driver: ctypes.CDLL) -> None:
    preparer, clip = KeypointPreparer(driver, HANDS), random_clip(2)
    before = driver.driver_allocations()
    preparer.clip(clip)
    assert driver.driver_allocations() == before


def test_joints_that_a_model_needs_and_a_caller_lacks(driver: ctypes.CDLL) -> None:
    with pytest.raises(Refused, match=r"joint_names lacks what 'skeleton' needs: left_wrist, left_shoulder$"):
        KeypointPreparer(driver, SPECS[2], ["nose", "right_shoulder"])
    with pytest.raises(Refused, match=r"left_hand_root, left_hand_thumb1 and 41 more$"):
        KeypointPreparer(driver, HANDS, ["tail"])
    with pytest.raises(Refused, match="joint_names has 'tail' twice"):
        KeypointPreparer(driver, HANDS, [*LAYOUT, "tail", "tail"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"points": None}, "keypoints.points is NULL"),
        ({"joints": 48}, "keypoints.joints is 48; this stream takes 49"),
        ({"x_scale": float("nan")}, "keypoints.x_scale is not a finite number"),
        ({"y_scale": float("inf")}, "keypoints.y_scale is not a finite number"),
    ],
)
def test_impossible_keypoints_are_refused_by_name(driver: ctypes.CDLL, fields: dict[str, Any], message: str) -> None:
    frame = random_clip(0)[0]
    points = abi.Keypoints(**{"joints": len(frame), "points": frame.ctypes.data, **fields})
    with pytest.raises(Refused, match=message):
        KeypointPreparer(driver, HANDS).read(points)
