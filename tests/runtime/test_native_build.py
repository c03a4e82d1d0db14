"""libsignedge as it is installed: its files, programs that find it by pkg-config or CMake, silent compilers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from native_programs import INCLUDES, RUNTIME, needs

from runtime.benchmarks.native import KERNEL_FLAGS

ROOT = Path(__file__).parents[2]
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
# A model that cannot open makes the library throw and catch: the C++ runtime is there and linked rightly.
PROGRAM = """\
#include <signedge.h>
#include <stdio.h>

int main(void) {
    signedge_model *model = NULL;
    const signedge_status status = signedge_model_open("/nowhere", NULL, &model);
    signedge_model_destroy(model);
    printf("%s %s\\n", signedge_version(), signedge_status_name(status));
    return 0;
}
"""
SAYS = "0.1.0 SIGNEDGE_BAD_FILE"
# A project of C alone, as an embedded product may be.
PROJECT = """\
cmake_minimum_required(VERSION 3.22)
project(product LANGUAGES C)
find_package(signedge 0.1 REQUIRED)
add_executable(shared program.c)
target_link_libraries(shared PRIVATE signedge::signedge)
add_executable(static program.c)
target_link_libraries(static PRIVATE signedge::signedge_static)
"""


def run(command: Sequence[str | Path], **environment: str) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, env={**os.environ, **environment})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="session")
def installed(plain_library: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prefix that the library is installed to: not the one that it was configured for."""
    prefix = tmp_path_factory.mktemp("prefix")
    run([needs("cmake"), "--install", plain_library.parent, "--prefix", prefix])
    return prefix


@pytest.fixture(scope="session")
def libraries(installed: Path) -> Path:
    return next(installed.rglob("libsignedge.so")).parent


@pytest.fixture
def product(tmp_path: Path) -> Path:
    """A folder with the program of somebody who uses the library."""
    (tmp_path / "program.c").write_text(PROGRAM)
    (tmp_path / "CMakeLists.txt").write_text(PROJECT)
    return tmp_path


def found_by_pkg_config(libraries: Path) -> dict[str, str]:
    return {"PKG_CONFIG_PATH": str(libraries / "pkgconfig")}


def test_what_is_installed(installed: Path, libraries: Path) -> None:
    assert (installed / "include/signedge.h").read_bytes() == (RUNTIME / "include/signedge.h").read_bytes()
    assert (libraries / "libsignedge.so").readlink() == Path("libsignedge.so.1")
    assert (libraries / "libsignedge.so.1").readlink() == Path("libsignedge.so.0.1.0")
    folders = {libraries: "libsignedge.so*", libraries / "pkgconfig": "*.pc", libraries / "cmake/signedge": "*.cmake"}
    for folder, names in folders.items():
        assert list(folder.glob(names)), f"{folder} has no {names}"
    assert (libraries / "libsignedge.a").is_file()
    texts = [path for path in installed.rglob("*") if path.suffix in (".cmake", ".pc")]
    assert not [path for path in texts if str(ROOT) in path.read_text()], "a path of the build was installed"


def test_pkg_config_shared(installed: Path, libraries: Path, product: Path) -> None:
    flags = run([needs("pkg-config"), "--cflags", "--libs", "signedge"], **found_by_pkg_config(libraries))
    run([needs("cc"), product / "program.c", *flags.split(), "-o", product / "program"])
    assert run([product / "program"], LD_LIBRARY_PATH=str(libraries)) == SAYS
    version = run(["pkg-config", "--modversion", "signedge"], **found_by_pkg_config(libraries))
    assert version == SAYS.split()[0]


def test_pkg_config_static(installed: Path, libraries: Path, product: Path) -> None:
    """Linked by a C compiler: what C++ needs comes from the .pc file."""
    flags = run([needs("pkg-config"), "--static", "--cflags", "--libs", "signedge"], **found_by_pkg_config(libraries))
    archive = flags.replace("-lsignedge", "-l:libsignedge.a").split()
    run([needs("cc"), product / "program.c", *archive, "-o", product / "program"])
    assert run([product / "program"]) == SAYS


def test_find_package(installed: Path, product: Path) -> None:
    run([needs("cmake"), "-S", product, "-B", product / "build", f"-DCMAKE_PREFIX_PATH={installed}"])
    run(["cmake", "--build", product / "build"])
    for program in ("shared", "static"):
        assert run([product / "build" / program]) == SAYS


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_no_source_has_a_warning(compiler: str) -> None:
    """Those that a compiler sees without generating code; test_both_compilers_build_without_a_warning sees all."""
    command = [needs(compiler), "-std=c++17", "-fsyntax-only", *WARNINGS, '-DSIGNEDGE_VERSION="0"', *INCLUDES]
    sources = [path for path in (RUNTIME / "src").rglob("*.cpp") if path.stem != "tensorrt"]

    def check(source: Path) -> str:
        kernel = KERNEL_FLAGS.get(source.stem, []) if os.uname().machine == "x86_64" else []
        done = subprocess.run([*command, *kernel, str(source)], capture_output=True, text=True)
        return done.stderr if done.returncode != 0 else ""

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        assert not "".join(pool.map(check, sources))


@pytest.mark.slow
@pytest.mark.parametrize("compiler", [("gcc", "g++"), ("clang", "clang++")])
def test_both_compilers_build_without_a_warning(compiler: tuple[str, str], tmp_path: Path) -> None:
    needs(compiler[1])
    tools = [f"-DCMAKE_C_COMPILER={compiler[0]}", f"-DCMAKE_CXX_COMPILER={compiler[1]}"]
    strict = [f"-DCMAKE_{language}_FLAGS={' '.join(WARNINGS)}" for language in ("C", "CXX")]
    run([needs("cmake"), "-S", RUNTIME, "-B", tmp_path, *tools, *strict])
    run(["cmake", "--build", tmp_path, "--parallel", "2"])
    (tmp_path / "program.c").write_text(PROGRAM)
    command: list[str | Path] = [
        compiler[0],
        f"-I{RUNTIME / 'include'}",
        tmp_path / "program.c",
        f"-L{tmp_path}",
        "-lsignedge",
    ]
    run([*command, "-o", tmp_path / "program"])
    assert run([tmp_path / "program"], LD_LIBRARY_PATH=str(tmp_path)) == SAYS
