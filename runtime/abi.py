"""The C header in ctypes: structs, signatures, and where the library is. binding.py makes Python of it."""

from __future__ import annotations

import ctypes
import importlib.util
import os
from ctypes import POINTER, Structure, c_char_p, c_double, c_float, c_int32, c_int64, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any, Dict, Optional

from runtime.errors import BadInput

ABI_VERSION = 1
WHOLE_CLIP = 0xFFFFFFFF
LIBRARY_VARIABLE = "SIGNEDGE_LIBRARY"
GREEDY, BEAM = 0, 1
BLOCK, REFUSE, DROP_OLDEST = 0, 1, 2
RGB, BGR, GRAY, NV12, I420 = 1, 2, 3, 4, 5
BT601, BT709, BT601_FULL = 0, 1, 2
INPUT_KEYPOINTS = 2
OK, INVALID_ARGUMENT, BAD_FILE, NO_BACKEND, QUEUE_FULL = 0, 1, 2, 3, 7
GLOSS_FINAL = 1
LogFunction = ctypes.CFUNCTYPE(None, c_void_p, c_int32, c_char_p)


class Sized(Structure):
    """A struct that starts with its size, as all of the header's do."""

    def __init__(self, **values: Any) -> None:
        super().__init__(struct_size=ctypes.sizeof(type(self)), **values)


class ModelOptions(Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("threads", c_int32),
        ("backend", c_char_p),
        ("library", c_char_p),
        ("log", LogFunction),
        ("log_user", c_void_p),
        ("workers", c_int32),
        ("reserved", c_int32),
    ]


class ModelInfo(Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("input", c_int32),
        ("width", c_uint32),
        ("height", c_uint32),
        ("joints", c_uint32),
        ("classes", c_uint32),
        ("frame_stride", c_uint32),
        ("lookahead", c_int32),
        ("chunk", c_uint32),
        ("shift", c_uint32),
        ("frames", c_uint32),
        ("fps", c_double),
    ]


class DecoderOptions(Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("kind", c_int32),
        ("beam_width", c_uint32),
        ("top_k", c_uint32),
        ("class_threshold", c_float),
        ("beam_threshold", c_float),
        ("nbest", c_uint32),
        ("lm", c_void_p),
        ("lm_weight", c_float),
        ("gloss_bonus", c_float),
        ("hot_words", POINTER(c_char_p)),
        ("hot_boosts", POINTER(c_float)),
        ("hot_count", c_uint32),
        ("reserved", c_uint32),
    ]


class GlossItem(Structure):
    _fields_ = [
        ("id", c_uint32),
        ("flags", c_uint32),
        ("start_ns", c_int64),
        ("end_ns", c_int64),
        ("start_step", c_uint64),
        ("end_step", c_uint64),
        ("confidence", c_float),
        ("stability", c_float),
    ]


class StreamOptions(Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("chunk", c_uint32),
        ("shift", c_uint32),
        ("lookahead", c_uint32),
        ("queue", c_uint32),
        ("when_full", c_int32),
        ("resample", c_int32),
        ("joints", c_uint32),
        ("joint_names", POINTER(c_char_p)),
        ("decoder", POINTER(DecoderOptions)),
    ]


class Frame(Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("format", c_int32),
        ("width", c_uint32),
        ("height", c_uint32),
        ("timestamp_ns", c_int64),
        ("planes", c_void_p * 3),
        ("strides", c_uint32 * 3),
        ("colour", c_int32),
        ("crop_x", c_uint32),
        ("crop_y", c_uint32),
        ("crop_width", c_uint32),
        ("crop_height", c_uint32),
    ]


class Keypoints(Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("joints", c_uint32),
        ("points", c_void_p),
        ("timestamp_ns", c_int64),
        ("x_scale", c_float),
        ("y_scale", c_float),
    ]


class StatisticsItem(Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("frames_waiting", c_uint32),
        ("frames_pushed", c_uint64),
        ("frames_dropped", c_uint64),
        ("frames_skipped", c_uint64),
        ("frames_repeated", c_uint64),
        ("runs", c_uint64),
        ("retractions", c_uint64),
        ("prepare_ns", c_uint64),
        ("run_ns", c_uint64),
        ("decode_ns", c_uint64),
        ("last_run_ns", c_uint64),
        ("real_time_factor", c_double),
        ("chunk", c_uint32),
        ("shift", c_uint32),
        ("lookahead", c_uint32),
        ("reserved", c_uint32),
    ]


def library_path() -> str:
    """Where libsignedge is: $SIGNEDGE_LIBRARY, beside this file, where `make library` builds it, or the system's."""
    given = os.environ.get(LIBRARY_VARIABLE)
    if given:
        return given
    here = Path(__file__).resolve().parent
    for folder in (here, here.parent / "build" / "runtime"):
        for candidate in (folder / "libsignedge.so", folder / "libsignedge.so.1"):
            if candidate.exists():
                return str(candidate)
    return "libsignedge.so.1"


def backend_library(backend: str) -> Optional[str]:
    """The shared library of a backend's Python wheel; None where libsignedge itself shall look for one.

    It shall where $SIGNEDGE_<BACKEND>_LIBRARY names one, and where no wheel is installed: the system's may serve then.
    """
    package, pattern = {
        "onnxruntime": ("onnxruntime", "capi/libonnxruntime.so*"),
        "openvino": ("openvino", "libs/libopenvino_c.so*"),
        "tensorrt": ("tensorrt_libs", "libnvinfer.so*"),
    }.get(backend, ("", ""))
    spec = importlib.util.find_spec(package) if package else None
    if os.environ.get(f"SIGNEDGE_{backend.upper()}_LIBRARY") or spec is None or not spec.submodule_search_locations:
        return None
    found = sorted(Path(spec.submodule_search_locations[0]).glob(pattern))
    return str(found[0]) if found else None


_loaded: Dict[str, Any] = {}


def installed() -> bool:
    """Whether there is a libsignedge to load; one that is there and broken counts, so that its fault is told."""
    path = library_path()
    if os.sep in path:
        return Path(path).exists()
    try:
        return bool(ctypes.CDLL(path))
    except OSError:
        return False


def version() -> str:
    """Version of the library."""
    return load().signedge_version().decode()


def load() -> Any:
    """The library with its signatures declared. `BadInput` when it is not there, or older than this file."""
    path = library_path()
    if path not in _loaded:
        try:
            library = ctypes.CDLL(path)
        except OSError as error:
            raise BadInput(
                f"libsignedge was not found ({error}); build it with: make library, or set ${LIBRARY_VARIABLE}"
            ) from error
        try:
            outdated = library.signedge_abi_version() < ABI_VERSION
            _declare(library)
        except AttributeError as error:
            raise BadInput(f"{path} is no libsignedge, or an old one ({error}); build it with: make library") from error
        if outdated:
            raise BadInput(f"{path} is older than this binding: build it again with: make library")
        _loaded[path] = library
    return _loaded[path]


def _declare(library: Any) -> None:
    handle, out = c_void_p, POINTER(c_void_p)
    text = [c_char_p, c_uint32, POINTER(c_uint32)]
    items = [c_void_p, c_uint32, c_uint32, POINTER(c_uint32)]
    signatures = {
        "capabilities": text,
        "model_open": [c_char_p, POINTER(ModelOptions), out],
        "model_message": [handle, *text],
        "model_get_info": [handle, POINTER(ModelInfo)],
        "model_run": [handle, c_void_p, c_uint64, c_uint32, c_uint32, c_void_p, c_uint64, c_char_p, c_uint32],
        "lm_open": [c_char_p, out],
        "lm_message": [handle, *text],
        "decoder_create": [POINTER(c_char_p), c_uint32, POINTER(DecoderOptions), out],
        "decoder_message": [handle, *text],
        "decoder_push": [handle, c_void_p, c_uint32],
        "decoder_finish": [handle],
        "decoder_poll": [handle, *items],
        "decoder_nbest": [handle, c_uint32, *items, POINTER(c_double)],
        "decoder_reset": [handle],
        "stream_create": [handle, POINTER(StreamOptions), out],
        "stream_message": [handle, *text],
        "stream_push_frame": [handle, POINTER(Frame)],
        "stream_push_keypoints": [handle, POINTER(Keypoints)],
        "stream_step": [handle],
        "streams_step": [POINTER(c_void_p), c_uint32],
        "stream_finish": [handle],
        "stream_poll": [handle, *items],
        "stream_nbest": [handle, c_uint32, *items, POINTER(c_double)],
        "stream_reset": [handle],
        "stream_get_statistics": [handle, POINTER(StatisticsItem)],
    }
    for name, arguments in signatures.items():
        function = getattr(library, "signedge_" + name)
        function.argtypes, function.restype = arguments, c_int32
    for name in ("model_destroy", "lm_destroy", "decoder_destroy", "stream_destroy"):
        function = getattr(library, "signedge_" + name)
        function.argtypes, function.restype = [handle], None
    for name in ("model_gloss", "model_joint"):
        function = getattr(library, "signedge_" + name)
        function.argtypes, function.restype = [handle, c_uint32], c_char_p
    for name in ("model_contract", "model_backend"):
        function = getattr(library, "signedge_" + name)
        function.argtypes, function.restype = [handle], c_char_p
    library.signedge_abi_version.restype = c_uint32
    library.signedge_version.restype = c_char_p
    library.signedge_status_name.argtypes, library.signedge_status_name.restype = [c_int32], c_char_p
