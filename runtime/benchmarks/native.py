"""The preprocessing of libsignedge compiled apart: its C ABI shows what it makes only through a network."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import List

from runtime.errors import BadInput

RUNTIME = Path(__file__).resolve().parents[1]
DRIVER = RUNTIME.parent / "tests" / "runtime" / "native" / "preprocess_driver.cpp"
SOURCES = ["image", "image_dispatch", "image_generic", "image_avx2", "image_avx512", "keypoints", "text"]
FLAGS = ["-std=c++17", "-O3", "-fPIC", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
# As in runtime/CMakeLists.txt.
KERNEL_FLAGS = {
    "image_avx2": ["-mavx2", "-mfma"],
    "image_avx512": ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma", "-mprefer-vector-width=512"],
}


def compiler() -> str:
    """The C++ compiler: $CXX, else g++, else clang++; "" when there is none."""
    return next((found for found in map(shutil.which, (os.environ.get("CXX", ""), "g++", "clang++")) if found), "")


def build_driver(folder: Path) -> ctypes.CDLL:
    """Compile the sources with their driver into a shared library in `folder` and load it. `BadInput` if it fails."""
    if not compiler():
        raise BadInput("no C++ compiler: install g++ or clang++, or set CXX")
    includes = [f"-I{RUNTIME / 'include'}", f"-I{RUNTIME / 'src'}"]
    objects: List[str] = []
    for source in [DRIVER, *(RUNTIME / "src" / f"{name}.cpp" for name in SOURCES)]:
        flags = KERNEL_FLAGS.get(source.stem, []) if platform.machine() == "x86_64" else []
        objects.append(str(folder / f"{source.stem}.o"))
        _compile([*FLAGS, *flags, *includes, "-c", str(source), "-o", objects[-1]])
    library = folder / "preprocess_driver.so"
    _compile(["-shared", *objects, "-o", str(library)])
    driver = ctypes.CDLL(str(library))
    driver.image_create.restype = ctypes.c_void_p
    driver.driver_instruction_set.restype = ctypes.c_char_p
    driver.driver_allocations.restype = ctypes.c_uint64
    return driver


def _compile(arguments: List[str]) -> None:
    done = subprocess.run([compiler(), *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BadInput(f"{compiler()} {' '.join(arguments)} failed:\n{done.stderr}")
