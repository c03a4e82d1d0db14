"""The ABI: what the header promises, what the library exports, and programs built against older headers."""

from __future__ import annotations

import ctypes
import json
import re
import subprocess
from pathlib import Path

import pytest
from native_programs import NATIVE, needs
from test_engine import clip, write_engine

from runtime import abi
from runtime.binding import Model, capabilities

pytestmark = pytest.mark.usefixtures("library_in_use")

HEADER = Path(__file__).parents[2] / "runtime" / "include" / "signedge.h"
# Offsets of the first released header. Entries are added, never changed.
GOLDEN = json.loads((NATIVE / "struct_offsets.json").read_text())


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("standard", ["c89", "c99", "c11", "c++11", "c++20"])
def test_header_compiles_everywhere(compiler: str, standard: str) -> None:
    language = "c++" if "++" in standard else "c"
    command = [needs(compiler), f"-std={standard}", "-pedantic-errors", "-Wall", "-Wextra", "-Werror"]
    done = subprocess.run([*command, "-fsyntax-only", "-x", language, str(HEADER)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_library_exports_the_header_and_nothing_else(library: Path) -> None:
    listing = subprocess.run([needs("nm"), "-D", "--defined-only", str(library)], capture_output=True, text=True).stdout
    exported = {line.split()[-1].split("@")[0] for line in listing.splitlines()}
    declared = set(re.findall(r"\b(signedge_\w+)\(", re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)))
    assert exported - {"signedge_1"} == declared, "signedge_1 is the name of the symbols' version"


def test_library_needs_no_inference_library(library: Path) -> None:
    listing = subprocess.run([needs("readelf"), "-d", str(library)], capture_output=True, text=True).stdout
    wanted = set(re.findall(r"\(NEEDED\).*\[(\w+)", listing))
    assert wanted <= {"libstdc", "libm", "libgcc_s", "libc", "libdl", "libpthread", "ld"}
    assert re.search(r"SONAME.*\[libsignedge\.so\.1\]", listing)


def test_binding_and_header_agree_on_every_field(tmp_path: Path) -> None:
    """A C program prints what the compiler makes of the header; ctypes and the golden file must say the same."""
    structs = {
        "signedge_model_options": abi.ModelOptions,
        "signedge_model_info": abi.ModelInfo,
        "signedge_decoder_options": abi.DecoderOptions,
        "signedge_gloss": abi.GlossItem,
        "signedge_stream_options": abi.StreamOptions,
        "signedge_frame": abi.Frame,
        "signedge_keypoints": abi.Keypoints,
        "signedge_statistics": abi.StatisticsItem,
    }
    source = tmp_path / "offsets.c"
    prints = "".join(
        f'printf("{name} {field[0]} %u\\n", (unsigned)offsetof({name}, {field[0]}));\n'
        for name, struct in structs.items()
        for field in struct._fields_
    )
    source.write_text(
        f"#include <stddef.h>\n#include <stdio.h>\n#include <signedge.h>\nint main(void) {{\n{prints}return 0;\n}}\n"
    )
    program = tmp_path / "offsets"
    subprocess.run([needs("cc"), f"-I{HEADER.parent}", str(source), "-o", str(program)], check=True)
    compiled: dict[str, dict[str, int]] = {}
    for line in subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout.splitlines():
        name, field, offset = line.split()
        compiled.setdefault(name, {})[field] = int(offset)
    for name, struct in structs.items():
        assert compiled[name] == {field[0]: getattr(struct, field[0]).offset for field in struct._fields_}
        assert GOLDEN[name].items() <= compiled[name].items(), f"{name} moved a field: old programs would break"


def test_statuses_keep_their_numbers() -> None:
    numbers = dict(re.findall(r"\b(SIGNEDGE_\w+) = (\d+)", HEADER.read_text()))
    golden = GOLDEN["constants"]
    assert {name: int(numbers[name]) for name in golden} == golden
    library = abi.load()
    for number, name in enumerate(("SIGNEDGE_OK", "SIGNEDGE_INVALID_ARGUMENT", "SIGNEDGE_BAD_FILE")):
        assert library.signedge_status_name(number).decode() == name
    assert library.signedge_status_name(99).decode() == "an unknown status"


def test_a_client_of_the_first_header_runs_with_this_library(library: Path, tmp_path: Path) -> None:
    """client_1.c is compiled against the header as first released, which is kept beside it."""
    program = tmp_path / "client"
    command = [needs("cc"), "-std=c89", "-pedantic-errors", f"-I{NATIVE / 'released_1'}", str(NATIVE / "client_1.c")]
    subprocess.run([*command, "-o", str(program), str(library), f"-Wl,-rpath,{library.parent}"], check=True)
    engine = write_engine(tmp_path / "engine")
    video = tmp_path / "frames.rgb"
    clip(1, 0, 2, 2, 3).tofile(video)
    runtime = abi.backend_library("onnxruntime")
    assert runtime is not None
    done = subprocess.run([str(program), str(engine), runtime, str(video), "8", "8"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (0, ["RED", "GREEN", "BLUE"]), done.stderr


def test_shorter_and_longer_structs(tmp_path: Path) -> None:
    """Programs older and newer than the library: fields that one side lacks are at their defaults."""
    library = abi.load()
    model = Model(write_engine(tmp_path / "engine"), threads=1)
    info = abi.ModelInfo()
    info.struct_size = abi.ModelInfo.classes.offset
    info.classes = 77
    assert library.signedge_model_get_info(model._handle, ctypes.byref(info)) == 0
    assert (info.width, info.classes, info.struct_size) == (4, 77, abi.ModelInfo.classes.offset)

    class Newer(ctypes.Structure):
        _fields_ = (("options", abi.StreamOptions), ("addition", ctypes.c_uint64))

    newer = Newer()
    newer.options.struct_size = ctypes.sizeof(Newer)
    stream = ctypes.c_void_p()
    options = ctypes.cast(ctypes.pointer(newer), ctypes.POINTER(abi.StreamOptions))
    assert library.signedge_stream_create(model._handle, options, ctypes.byref(stream)) == 0
    library.signedge_stream_destroy(stream)
    newer.addition = 1
    assert library.signedge_stream_create(model._handle, options, ctypes.byref(stream)) == 5
    library.signedge_stream_destroy(stream)
    for wrong in (0, 3, 1 << 20):
        newer.options.struct_size = wrong
        assert library.signedge_stream_create(model._handle, options, ctypes.byref(stream)) == 1
        library.signedge_stream_destroy(stream)


def test_null_arguments_are_refused_and_harmless() -> None:
    library = abi.load()
    nothing = ctypes.c_void_p()
    count = ctypes.c_uint32()
    for destroy in ("model", "lm", "decoder", "stream"):
        getattr(library, f"signedge_{destroy}_destroy")(None)
    assert library.signedge_model_open(None, None, ctypes.byref(nothing)) == 1
    library.signedge_model_destroy(nothing)
    for call in ("stream_step", "stream_finish", "stream_reset", "decoder_finish", "decoder_reset"):
        assert getattr(library, f"signedge_{call}")(None) == 1
    assert library.signedge_stream_push_frame(None, None) == 1
    assert library.signedge_stream_poll(None, None, 0, 0, ctypes.byref(count)) == 1
    assert library.signedge_streams_step(None, 3) == 1
    assert library.signedge_model_gloss(None, 0) is None and library.signedge_model_contract(None) is None
    assert library.signedge_model_run(None, None, 1, 1, 1, None, 1, None, 0) == 1


def test_a_model_that_did_not_open_is_good_for_its_message_only(tmp_path: Path) -> None:
    library = abi.load()
    model, stream = ctypes.c_void_p(), ctypes.c_void_p()
    assert library.signedge_model_open(str(tmp_path).encode(), None, ctypes.byref(model)) == 2
    buffer, needed = ctypes.create_string_buffer(8), ctypes.c_uint32()
    assert library.signedge_model_message(model, buffer, 8, ctypes.byref(needed)) == 0
    assert len(buffer.value) == 7 and needed.value > 20, "the message is cut to the room there is"
    assert library.signedge_stream_create(model, None, ctypes.byref(stream)) == 1
    library.signedge_stream_destroy(stream)
    library.signedge_model_destroy(model)


def test_capabilities_are_json() -> None:
    found = json.loads(capabilities())
    assert found["abi_version"] == abi.ABI_VERSION
    assert {"onnxruntime", "openvino"} <= set(found["backends"])
    for backend in found["backends"].values():
        assert backend["reason"] or backend["version"] if not backend["available"] else backend["version"]


def test_log_tells_what_was_opened(tmp_path: Path) -> None:
    lines: list[tuple[int, str]] = []
    Model(write_engine(tmp_path / "engine"), threads=1, log=lambda level, words: lines.append((level, words)))
    assert any(level == 3 and "onnxruntime" in words for level, words in lines)
