"""libsignedge from Python: models, streams, decoding. ctypes, numpy in, nothing copied that need not be.

    from runtime import Model
    model = Model("out/demo/engines/lrinet-crkd.int8.x86-cpu")
    print(model.recognise(frames))                 # a whole clip: (T,H,W,3) uint8 RGB

    stream = model.stream()                        # or live
    for number, frame in enumerate(camera):
        stream.push(frame, time_ns=number * 40_000_000)
        stream.step()
        for gloss in stream.poll():
            print(gloss.text, gloss.start, gloss.end, "final" if gloss.final else "may change")

Standard library and numpy only, Python 3.8 and later: this file, abi.py, errors.py, __init__.py and the library are
enough on a device. A TensorRT plan is code, and whose it is is checked by the rest of `runtime`.
"""

from __future__ import annotations

import ctypes
import json
import os
from ctypes import (
    byref,
    c_char,
    c_char_p,
    c_double,
    c_float,
    c_uint32,
    c_void_p,
)
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from runtime import abi
from runtime.abi import BGR, BLOCK, BT601, RGB, WHOLE_CLIP
from runtime.errors import BadInput, Refused, SignedgeError


class LibraryError(SignedgeError):
    """libsignedge refused a call. `status` is its `signedge_status`, the message its own words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class QueueFull(LibraryError):
    """The stream's queue is full and it was told to refuse: step it, then push the frame again."""


class Gloss(NamedTuple):
    """A recognised gloss: times in seconds on the frames' clock (0 from a decoder alone), steps since the start."""

    text: str
    start: float
    end: float
    start_step: int
    end_step: int
    confidence: float
    stability: float
    final: bool


def _copied(function: Callable[..., int], *handle: Any) -> str:
    needed = c_uint32()
    function(*handle, None, 0, byref(needed))
    buffer = ctypes.create_string_buffer(max(1, needed.value))
    function(*handle, buffer, len(buffer), None)
    return buffer.value.decode("utf-8", "replace")


def capabilities() -> str:
    """What the library can do here, as JSON: backends with their versions, instruction set, decoders, pixel formats."""
    return _copied(abi.load().signedge_capabilities)


class _Handle:
    """A handle of the library: checks statuses, raises its messages, destroys it in the end."""

    _kind = ""

    def __init__(self) -> None:
        self._library = abi.load()
        self._handle = c_void_p()

    def _create(self, function: str, *arguments: Any) -> None:
        status = getattr(self._library, "signedge_" + function)(*arguments, byref(self._handle))
        try:
            self._check(status)
        except SignedgeError:
            self.close()
            raise

    def _open(self) -> c_void_p:
        if not self._handle:
            raise BadInput(f"this {self._kind} was closed")
        return self._handle

    def _call(self, function: str, *arguments: Any) -> None:
        self._check(getattr(self._library, f"signedge_{function}")(self._open(), *arguments))

    def _check(self, status: int) -> None:
        if status != abi.OK:
            message = _copied(getattr(self._library, f"signedge_{self._kind}_message"), self._handle)
            message = message or self._library.signedge_status_name(status).decode()
            if status in (abi.INVALID_ARGUMENT, abi.BAD_FILE, abi.NO_BACKEND):
                raise BadInput(message)
            raise (QueueFull if status == abi.QUEUE_FULL else LibraryError)(status, message)

    def close(self) -> None:
        """Free it now; it is freed anyway when nothing refers to it any more."""
        if getattr(self, "_handle", None):
            getattr(self._library, f"signedge_{self._kind}_destroy")(self._handle)
            self._handle = c_void_p()

    def __del__(self) -> None:
        self.close()

    def _items(self, function: str, glosses: Sequence[str], *before: Any, after: Tuple[Any, ...] = ()) -> List[Gloss]:
        found: List[Gloss] = []
        room, count = 64, c_uint32()
        while True:
            items = (abi.GlossItem * room)()
            self._call(function, *before, items, ctypes.sizeof(abi.GlossItem), room, byref(count), *after)
            taken = [_gloss(item, glosses) for item in items[: min(room, count.value)]]
            if count.value <= room:
                return found + taken
            # What was final was taken and will not come again; nothing else is.
            found += [gloss for gloss in taken if gloss.final] if not before else []
            room = count.value


def _gloss(item: abi.GlossItem, glosses: Sequence[str]) -> Gloss:
    return Gloss(
        glosses[item.id],
        item.start_ns * 1e-9,
        item.end_ns * 1e-9,
        item.start_step,
        item.end_step,
        item.confidence,
        item.stability,
        bool(item.flags & abi.GLOSS_FINAL),
    )


def _strings(texts: Sequence[str]) -> Any:
    return (c_char_p * len(texts))(*[text.encode() for text in texts])


class LanguageModel(_Handle):
    """An n-gram model over glosses from an ARPA file, for beam search. May serve many streams."""

    _kind = "lm"

    def __init__(self, path: Union[str, Path]) -> None:
        super().__init__()
        self._create("lm_open", os.fsencode(path))


class Decoding(NamedTuple):
    """How log-probabilities become glosses; 0 takes the library's default. `beam_width` 1 or more means beam search."""

    beam_width: int = 0
    top_k: int = 0
    class_threshold: float = 0.0
    beam_threshold: float = 0.0
    nbest: int = 0
    lm: Optional[LanguageModel] = None
    lm_weight: float = 0.0
    gloss_bonus: float = 0.0
    hot_words: Mapping[str, float] = {}

    def options(self) -> Tuple[abi.DecoderOptions, Any]:
        """The struct, and what must live as long as it does."""
        words = _strings(list(self.hot_words))
        boosts = (c_float * len(self.hot_words))(*self.hot_words.values())
        return abi.DecoderOptions(
            kind=abi.BEAM if self.beam_width else abi.GREEDY,
            beam_width=self.beam_width,
            top_k=self.top_k,
            class_threshold=self.class_threshold,
            beam_threshold=self.beam_threshold,
            nbest=self.nbest,
            lm=self.lm._open() if self.lm else None,
            lm_weight=self.lm_weight,
            gloss_bonus=self.gloss_bonus,
            hot_words=words,
            hot_boosts=boosts,
            hot_count=len(self.hot_words),
        ), (words, boosts)


PLAIN = Decoding()  # greedy


class Decoder(_Handle):
    """CTC decoding of log-probabilities (steps, classes) that come from anywhere. glosses[0] is the blank."""

    _kind = "decoder"

    def __init__(self, glosses: Sequence[str], decoding: Decoding = PLAIN) -> None:
        super().__init__()
        self.glosses = tuple(glosses)
        self._lm = decoding.lm
        options, alive = decoding.options()
        self._create("decoder_create", _strings(self.glosses), len(self.glosses), byref(options))
        del alive

    def push(self, log_probs: np.ndarray) -> None:
        """(steps, classes) float32, the next ones."""
        log_probs = np.ascontiguousarray(log_probs, dtype=np.float32)
        if log_probs.ndim != 2 or log_probs.shape[1] != len(self.glosses):
            raise BadInput(f"log-probabilities must be (steps, {len(self.glosses)}); these are {log_probs.shape}")
        self._call("decoder_push", log_probs.ctypes.data, len(log_probs))

    def finish(self) -> None:
        """No more steps: everything becomes final."""
        self._call("decoder_finish")

    def poll(self) -> List[Gloss]:
        """The glosses that became final since the last poll, then those that may still change."""
        return self._items("decoder_poll", self.glosses)

    def nbest(self, rank: int) -> Tuple[float, List[Gloss]]:
        """After `finish`: score (log) and glosses of a hypothesis, 0 is the best: the rest, after what was final."""
        score = c_double()
        glosses = self._items("decoder_nbest", self.glosses, rank, after=(byref(score),))
        return score.value, glosses

    def reset(self) -> None:
        """Forget everything: ready for the next clip."""
        self._call("decoder_reset")


def _named_backend(engine: Path) -> str:
    """The backend that an engine is for. What may be wrong with its manifest is for the library to say."""
    manifest = engine / "manifest.json"
    try:
        if manifest.is_file():  # a pipe would keep its reader waiting
            return str(json.loads(manifest.read_text(encoding="utf-8"))["runtime"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        pass
    return "onnxruntime"


def _admit(engine: Path, backend: str, trust: bool) -> None:
    """Raise where `backend` would run code that is not the user's own, or is for another GPU or version."""
    if backend in _INTERPRETERS:
        return
    try:
        from runtime.engine import admit
    except ImportError as error:
        raise Refused(
            f"{engine} is for {backend}: code, whose signature is checked by files that are not here ({error}); put "
            "all of runtime/ beside binding.py"
        ) from error
    admit(engine, backend, trust)


_INTERPRETERS = ("onnxruntime", "openvino")  # backends to which an engine is data
_LONGEST = 1024  # bytes of a message
_Words = c_char * _LONGEST


class Model(_Handle):
    """An engine, opened and checked. Threads may share it.

    `path` is an engine folder or a bare ONNX file with a contract; `threads` inside one run, 0: all cores; `workers`:
    runs at once in `step_together`; `backend` None: the one the engine was made for; `library`: path of the backend's
    shared library, None: the one that $SIGNEDGE_<BACKEND>_LIBRARY names, that of its Python wheel, or the system's,
    whichever is there first; `trust` runs a plan (code) that is not signed with the user's own key. Raises `BadInput`
    that says what is wrong, `Refused` for a plan that is not to be trusted, or is for another GPU or version.
    """

    _kind = "model"

    def __init__(
        self,
        path: Union[str, Path],
        threads: int = 0,
        workers: int = 1,
        backend: Optional[str] = None,
        library: Optional[str] = None,
        log: Optional[Callable[[int, str], None]] = None,
        trust: bool = False,
    ) -> None:
        super().__init__()
        backend = backend or _named_backend(Path(path))  # what was admitted is what loads
        _admit(Path(path), backend, trust)
        library = library or abi.backend_library(backend)
        self._log = abi.LogFunction(
            lambda _, level, words: log(level, words.decode("utf-8", "replace")) if log else None
        )
        options = abi.ModelOptions(
            threads=threads,
            workers=workers,
            backend=backend.encode(),
            library=os.fsencode(library) if library else None,
            log=self._log if log else abi.LogFunction(),
        )
        self._create("model_open", os.fsencode(path), byref(options))
        self.info = abi.ModelInfo()
        self._call("model_get_info", byref(self.info))
        name, joint = self._library.signedge_model_gloss, self._library.signedge_model_joint
        self.glosses = tuple(name(self._handle, i).decode() for i in range(self.info.classes))
        self.layout = tuple(joint(self._handle, i).decode() for i in range(self.info.joints))
        self.contract: str = self._library.signedge_model_contract(self._handle).decode()
        joints = len(json.loads(self.contract)["input"].get("joints", ()))
        self._frame_shape = (joints, 5) if joints else (3, self.info.height, self.info.width)
        self.backend: str = self._library.signedge_model_backend(self._handle).decode()
        self._run = self._library.signedge_model_run

    @property
    def modality(self) -> str:
        """`rgb` or `keypoints`."""
        return "keypoints" if self.info.input == abi.INPUT_KEYPOINTS else "rgb"

    def run(self, x: np.ndarray, steps: int) -> np.ndarray:
        """The network alone: prepared input (B,T',...) float32 -> log-probabilities (B,steps,K)."""
        x = np.ascontiguousarray(x, dtype=np.float32)
        if x.shape[2:] != self._frame_shape:
            raise BadInput(f"the network's input must be (batch, frames, *{self._frame_shape}); this is {x.shape}")
        log_probs = np.empty((len(x), steps, len(self.glosses)), dtype=np.float32)
        message = _Words()
        status = self._run(
            self._open(), x.ctypes.data, x.size, *x.shape[:2], log_probs.ctypes.data, log_probs.size, message, _LONGEST
        )
        if status != abi.OK:
            raise LibraryError(status, message.value.decode("utf-8", "replace"))
        return log_probs

    def stream(
        self,
        chunk: int = 0,
        shift: int = 0,
        lookahead: int = 0,
        queue: int = 0,
        when_full: int = BLOCK,
        resample: bool = False,
        joint_names: Sequence[str] = (),
        decoding: Decoding = PLAIN,
    ) -> Stream:
        """A stream of this model; the options are `signedge_stream_options`'s, 0 takes the engine's or the default."""
        decoder, alive = decoding.options()
        options = abi.StreamOptions(
            chunk=chunk,
            shift=shift,
            lookahead=lookahead,
            queue=queue,
            when_full=when_full,
            resample=resample,
            joints=len(joint_names),
            joint_names=_strings(joint_names),
            decoder=ctypes.pointer(decoder),
        )
        stream = Stream(self, options, decoding.lm)
        del alive
        return stream

    def recognise(
        self,
        frames: Optional[np.ndarray] = None,
        keypoints: Optional[np.ndarray] = None,
        decoding: Decoding = PLAIN,
    ) -> List[str]:
        """The glosses of one clip: frames (T,H,W,3) uint8 RGB or keypoints (T,V,3), whichever the model reads."""
        given = keypoints if self.modality == "keypoints" else frames
        if given is None:
            raise BadInput(f"this model reads {self.modality}; the clip has none")
        stream = self.stream(chunk=WHOLE_CLIP, decoding=decoding)
        for number, frame in enumerate(given):
            stream.push(frame, round(number * 1e9 / self.info.fps))
        stream.finish()
        stream.step()
        return [gloss.text for gloss in stream.poll()]


class Stream(_Handle):
    """One signer in front of one camera, or one clip. Made by `Model.stream`; belongs to one thread at a time."""

    _kind = "stream"

    def __init__(self, model: Model, options: abi.StreamOptions, lm: Optional[LanguageModel] = None) -> None:
        super().__init__()
        self.model = model
        self._lm = lm
        self._create("stream_create", model._handle, byref(options))
        self._frame, self._points = abi.Frame(), abi.Keypoints()

    def push(self, frame: np.ndarray, time_ns: int, pixels: int = RGB) -> None:
        """Give a frame (H,W,3) uint8 (RGB or BGR; (H,W) for GRAY), or keypoints (V,3) float32, taken at `time_ns`."""
        if self.model.modality == "keypoints":
            self._push_keypoints(frame, time_ns)
            return
        shape = (3,) if pixels in (RGB, BGR) else ()
        if frame.dtype != np.uint8 or frame.ndim != 2 + len(shape) or frame.shape[2:] != shape:
            raise BadInput(
                f"a frame must be (height,width,3) uint8, gray: (height,width); this is {frame.shape} {frame.dtype}"
            )
        self.push_planes([frame], frame.shape[1], frame.shape[0], time_ns, pixels)

    def push_planes(
        self,
        planes: Sequence[np.ndarray],
        width: int,
        height: int,
        time_ns: int,
        pixels: int,
        colour: int = BT601,
        crop: Tuple[int, int, int, int] = (0, 0, 0, 0),
    ) -> None:
        """Give a frame by its planes: uint8 arrays, (rows, ...) or flat; rows may be apart."""
        sizes = _plane_sizes(width, height).get(pixels)
        if sizes is None or len(planes) != len(sizes):
            raise BadInput(f"pixel format {pixels} does not come in {len(planes)} planes")
        rows = [_rows(planes[i], *sizes[i]) for i in range(len(sizes))]
        given = self._frame
        given.format, given.width, given.height = pixels, width, height
        given.timestamp_ns, given.colour = time_ns, colour
        given.crop_x, given.crop_y, given.crop_width, given.crop_height = crop
        for i in range(3):
            given.planes[i] = rows[i].ctypes.data if i < len(rows) else None
            given.strides[i] = rows[i].strides[0] if i < len(rows) else 0
        self._call("stream_push_frame", byref(given))

    def _push_keypoints(self, points: np.ndarray, time_ns: int) -> None:
        points = np.ascontiguousarray(points, dtype=np.float32)
        if points.ndim != 2 or points.shape[1] != 3:
            raise BadInput(f"keypoints of a frame must be (joints, 3): x, y, confidence; these are {points.shape}")
        given = self._points
        given.joints, given.points, given.timestamp_ns = len(points), points.ctypes.data, time_ns
        self._call("stream_push_keypoints", byref(given))

    def step(self) -> None:
        """Run the network as often as the waiting frames allow, and decode."""
        self._call("stream_step")

    def finish(self) -> None:
        """No more frames will come: the next step runs what is left and makes everything final."""
        self._call("stream_finish")

    def poll(self) -> List[Gloss]:
        """The glosses that became final since the last poll, then those that may still change."""
        return self._items("stream_poll", self.model.glosses)

    def nbest(self, rank: int) -> Tuple[float, List[Gloss]]:
        """After the end: score (log) and glosses of a hypothesis, 0 is the best: the rest, after what was final."""
        score = c_double()
        glosses = self._items("stream_nbest", self.model.glosses, rank, after=(byref(score),))
        return score.value, glosses

    def reset(self) -> None:
        """Forget everything: ready for the next clip."""
        self._call("stream_reset")

    def statistics(self) -> Dict[str, Union[int, float]]:
        """Counts of frames, runs and retractions, nanoseconds a stage, real-time factor: `signedge_statistics`."""
        counts = abi.StatisticsItem()
        self._call("stream_get_statistics", byref(counts))
        return {name: getattr(counts, name) for name in (field[0] for field in abi.StatisticsItem._fields_[1:])}


def _plane_sizes(width: int, height: int) -> Dict[int, List[Tuple[int, int]]]:
    """Rows and bytes of a row of each plane, by pixel format."""
    full, half = (height, width), ((height + 1) // 2, (width + 1) // 2)
    packed, pairs = [(height, 3 * width)], (half[0], 2 * half[1])
    return {abi.RGB: packed, abi.BGR: packed, abi.GRAY: [full], abi.NV12: [full, pairs], abi.I420: [full, half, half]}


def _rows(plane: np.ndarray, rows: int, row: int) -> np.ndarray:
    """A plane whose rows can be read one by one: itself, or a copy where they are turned round or have gaps."""
    if plane.dtype != np.uint8 or plane.size < rows * row or rows < 1:
        raise BadInput(f"a plane must have {rows} rows of {row} bytes; this is {plane.shape} {plane.dtype}")
    if plane.ndim == 1:
        plane = plane[: rows * row].reshape(rows, row)
    if plane.shape[0] < rows or plane[0].size < row:
        raise BadInput(f"a plane must have {rows} rows of {row} bytes; this is {plane.shape} {plane.dtype}")
    return plane if plane[0].flags.c_contiguous and plane.strides[0] >= row else np.ascontiguousarray(plane)


def step_together(streams: Sequence[Stream]) -> None:
    """Step streams of one model together: runs of equal length share a batch. Results are those of stepping each."""
    if streams:
        handles = (c_void_p * len(streams))(*[stream._open() for stream in streams])
        streams[0]._check(streams[0]._library.signedge_streams_step(handles, len(streams)))
