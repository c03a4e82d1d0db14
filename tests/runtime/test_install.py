"""What the README tells people who link libsignedge: installed, its page of C runs; a few files serve Python."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from native_programs import environment, needs
from test_engine import write_engine
from test_run_command import GLOSSES, SENTENCE

ROOT = Path(__file__).parents[2]
CAMERA = """
#include <stdint.h>
#include <string.h>
int next_frame(unsigned char *pixels, int64_t *time_ns);
int next_frame(unsigned char *pixels, int64_t *time_ns) {{
    static const unsigned char sentence[] = {{{}}};
    static unsigned number = 0;
    unsigned i;
    if (number == 4 * sizeof sentence) return 0;
    memset(pixels, 0, 640 * 480 * 3);
    for (i = 0; i < 640 * 480 && sentence[number / 4]; i++) pixels[3 * i + sentence[number / 4] - 1] = 255;
    *time_ns = (int64_t)number++ * 40000000;
    return 1;
}}
"""
PROJECT = """
cmake_minimum_required(VERSION 3.22)
project(app C CXX)
find_package(signedge REQUIRED)
foreach(kind signedge signedge_static)
    add_executable(with_${kind} app.c camera.c)
    target_link_libraries(with_${kind} PRIVATE signedge::${kind})
endforeach()
"""


@pytest.fixture(scope="module")
def installed(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (library.parent / "cmake_install.cmake").exists():
        pytest.skip("the library under test is not in a folder where CMake built it")
    prefix = tmp_path_factory.mktemp("prefix")
    subprocess.run(
        ["cmake", "--install", str(library.parent), "--prefix", str(prefix)], check=True, capture_output=True
    )
    return prefix


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A folder with the README's program and a camera that signs."""
    (code,) = re.findall(r"```c\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "app.c").write_text(code)
    (tmp_path / "camera.c").write_text(CAMERA.format(", ".join(map(str, SENTENCE))))
    (tmp_path / "CMakeLists.txt").write_text(PROJECT)
    write_engine(tmp_path / "engine")
    return tmp_path


def glosses_of(program: Path, **more: str) -> list[str]:
    done = subprocess.run([str(program)], cwd=program.parent, capture_output=True, text=True, env=environment(**more))
    assert done.returncode == 0, done.stderr
    return [line.split()[-1] for line in done.stdout.splitlines()]


def test_with_pkg_config(installed: Path, app: Path) -> None:
    pkg_config = needs("pkg-config")
    (where,) = installed.rglob("signedge.pc")
    paths = {**os.environ, "PKG_CONFIG_PATH": str(where.parent)}
    flags = subprocess.run(
        [pkg_config, "--cflags", "--libs", "signedge"], check=True, capture_output=True, text=True, env=paths
    ).stdout.split()
    strict = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    subprocess.run(["cc", *strict, "app.c", "camera.c", *flags, "-o", "app"], cwd=app, check=True)
    assert glosses_of(app / "app", LD_LIBRARY_PATH=str(where.parents[1])) == GLOSSES
    failed = subprocess.run([str(app / "app"), "nowhere"], capture_output=True, text=True,
                            env={**os.environ, "LD_LIBRARY_PATH": str(where.parents[1])})  # fmt: skip
    assert (failed.returncode, failed.stderr) == (1, "SIGNEDGE_BAD_FILE: missing file nowhere\n")


def test_with_cmake(installed: Path, app: Path) -> None:
    for command in (["cmake", "-B", "build", f"-DCMAKE_PREFIX_PATH={installed}"], ["cmake", "--build", "build"]):
        done = subprocess.run(command, cwd=app, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    for kind in ("signedge", "signedge_static"):
        program = shutil.copy(app / "build" / f"with_{kind}", app)
        assert glosses_of(Path(program)) == GLOSSES


def test_four_files_and_the_library_are_enough_for_python(library: Path, app: Path) -> None:
    folder = app / "runtime"
    folder.mkdir()
    for name in ("__init__.py", "binding.py", "abi.py", "errors.py"):
        shutil.copy(ROOT / "runtime" / name, folder)
    shutil.copy(library, folder / "libsignedge.so")
    code = (
        "import numpy as np\nfrom runtime import Model\n"
        "frames = np.zeros((8, 8, 8, 3), np.uint8)\nframes[4:, :, :, 1] = 255\n"
        "model = Model('engine')\nprint(*model.recognise(frames), *__import__('sys').modules)"
    )
    cleared = {name: value for name, value in os.environ.items() if name not in ("SIGNEDGE_LIBRARY", "PYTHONPATH")}
    done = subprocess.run([sys.executable, "-c", code], cwd=app, capture_output=True, text=True, env=cleared)
    assert done.returncode == 0, done.stderr
    plan = app / "plan"
    plan.mkdir()
    (plan / "manifest.json").write_text('{"runtime": "tensorrt"}')
    code = (  # an editable install would find what is not in the folder
        "import sys\nsys.meta_path = [item for item in sys.meta_path if 'editable' not in str(item).lower()]\n"
        "from runtime import Model\nModel('plan', trust=True)"
    )
    refused = subprocess.run([sys.executable, "-c", code], cwd=app, capture_output=True, text=True, env=cleared)
    assert "put all of runtime/ beside binding.py" in refused.stderr.splitlines()[-1]
    gloss, *modules = done.stdout.split()
    assert gloss == "GREEN" and not {"typer", "rich", "onnxruntime", "av", "pydantic"} & set(modules)
