"""The examples give what the engine gives, and tell what is wrong: C, Python and Node, a camera that is imitated."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import native_programs
import pytest
from native_programs import needs
from test_engine import write_engine
from test_run_command import GLOSSES, SENTENCE, keypoints, picture, write_pose_engine

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "runtime" / "examples"
FRAME = ["64", "48", "25"]
CAMERA_FORMATS = {  # of Video4Linux: that of FFmpeg, bytes of a pixel in the first plane
    "NV12": ("nv12", 1), "YU12": ("yuv420p", 1), "RGB3": ("rgb24", 3), "BGR3": ("bgr24", 3), "YUYV": ("yuyv422", 2),
}  # fmt: skip

Command = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def environment(library: Path) -> dict[str, str]:
    return native_programs.environment(SIGNEDGE_LIBRARY=str(library), PYTHONPATH=str(ROOT))


@pytest.fixture
def example(library: Path, environment: dict[str, str]) -> Command:
    def run(name: str, *words: object, given: bytes = b"", **more: str) -> subprocess.CompletedProcess[bytes]:
        program = library.parent / "examples" / name
        if not program.exists():
            pytest.skip(f"the library under test came without {name}")
        command = [str(program), *map(str, words)]
        return subprocess.run(command, input=given, capture_output=True, env={**environment, **more}, timeout=120)

    return run


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    return write_engine(tmp_path / "engine")


@pytest.fixture
def frames() -> bytes:
    return picture(*SENTENCE).tobytes()


def words(output: bytes, column: int) -> list[str]:
    return [line.split()[column] for line in output.decode().splitlines()]


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_they_compile_as_c99_without_a_warning(compiler: str) -> None:
    flags = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", f"-I{ROOT}/runtime/include"]
    for source in sorted(EXAMPLES.glob("*.c")):
        done = subprocess.run([needs(compiler), *flags, str(source)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_recognise_file_reads_frames(example: Command, engine: Path, frames: bytes, tmp_path: Path) -> None:
    done = example("recognise_file", engine, *FRAME, given=frames)
    assert done.returncode == 0 and words(done.stdout, 2) == GLOSSES and not done.stderr
    assert [float(start) for start in words(done.stdout, 0)] == pytest.approx([0.16, 0.64, 0.96, 2.4])
    (tmp_path / "frames.rgb").write_bytes(frames)
    assert example("recognise_file", engine, *FRAME, tmp_path / "frames.rgb").stdout == done.stdout


def test_recognise_file_reads_keypoints(example: Command, tmp_path: Path) -> None:
    pose = write_pose_engine(tmp_path / "pose.onnx")
    done = example("recognise_file", pose, 25, given=keypoints().tobytes())
    assert done.returncode == 0 and words(done.stdout, 2) == ["A", "B", "B"]


def test_recognise_file_prints_what_it_had_before_a_failure(example: Command, engine: Path, frames: bytes) -> None:
    done = example("recognise_file", engine, *FRAME, given=frames[:-100])
    assert done.returncode == 1 and words(done.stdout, 2) == GLOSSES
    assert done.stderr == b"the input ends in the middle of a frame, after 67 whole ones\n"


def test_recognise_file_says_what_is_wrong(example: Command, engine: Path, tmp_path: Path) -> None:
    pose = write_pose_engine(tmp_path / "pose.onnx")
    for given, status, said in (
        ([], 2, "usage"),
        ([engine, 0, 48, 25], 2, "usage"),
        ([engine, 64, 48, "fast"], 2, "usage"),
        ([engine, *FRAME, tmp_path / "nowhere"], 2, "No such file"),
        ([tmp_path / "nowhere", *FRAME], 1, "nowhere"),
        ([engine, *FRAME], 1, "no whole frame"),
        ([engine, 25], 1, "reads frames"),
        ([pose, *FRAME], 1, "reads keypoints"),
    ):
        done = example("recognise_file", *given)
        assert (done.returncode, done.stdout) == (status, b"") and said in done.stderr.decode(), (given, done)
    lost = example("recognise_file", engine, *FRAME, SIGNEDGE_ONNXRUNTIME_LIBRARY="/nowhere.so")
    assert lost.returncode == 1 and b"SIGNEDGE_ONNXRUNTIME_LIBRARY" in lost.stderr


def test_many_streams_give_the_same_together(example: Command, engine: Path, tmp_path: Path) -> None:
    for model in (engine, write_pose_engine(tmp_path / "pose.onnx")):
        done = example("many_streams", model, 5, 70)
        assert done.returncode == 0, done
        assert b"5 streams of 70 frames" in done.stdout and b"the same" in done.stdout
    assert example("many_streams", engine, 0).returncode == 2
    assert b"nowhere" in example("many_streams", tmp_path / "nowhere").stderr


# ---------------------------------------------------------------------------------------------------------- camera ---


@pytest.fixture(scope="session")
def imitation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that makes a camera of a regular file; see native/fake_camera.c."""
    if shutil.which("cc") is None:
        pytest.skip("a C compiler is needed to imitate a camera")
    built = tmp_path_factory.mktemp("camera") / "libcamera.so"
    source = Path(__file__).parent / "native" / "fake_camera.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(built), str(source), "-ldl"], check=True)
    return built


def camera(path: Path, form: str) -> dict[str, str]:
    """Write the signing as a camera of that format; what its imitation must be told."""
    name, bytes_a_pixel = CAMERA_FORMATS[form]
    pictures = [av.VideoFrame.from_ndarray(frame, format="rgb24") for frame in picture(*SENTENCE)]
    raw = [item.reformat(format=name).to_ndarray().tobytes() for item in pictures]
    pages = -(-len(raw[0]) // 4096) * 4096
    path.write_bytes(bytes(4 * pages) + b"".join(raw))
    return {"FAKE_CAMERA": f"{form} 64 48 {64 * bytes_a_pixel} {len(raw[0])} {len(raw)}"}


@pytest.mark.parametrize("form", list(CAMERA_FORMATS))
def test_recognise_camera(example: Command, engine: Path, imitation: Path, tmp_path: Path, form: str) -> None:
    told = camera(tmp_path / "video0", form)
    told["LD_PRELOAD"] = str(imitation)
    done = example("recognise_camera", engine, tmp_path / "video0", FAKE_CAMERA_END="interrupt", **told)
    assert done.returncode == 0 and words(done.stdout, 1) == GLOSSES and not done.stderr
    assert words(done.stdout, 0) == ["0.16", "0.64", "0.96", "2.40"]
    unplugged = example("recognise_camera", engine, tmp_path / "video0", **told)
    assert unplugged.returncode == 1 and words(unplugged.stdout, 1) == GLOSSES
    assert unplugged.stderr == b"the camera gives no more frames\n"


def test_recognise_camera_says_what_is_wrong(example: Command, engine: Path, imitation: Path, tmp_path: Path) -> None:
    assert b"No such file" in example("recognise_camera", engine, tmp_path / "nowhere").stderr
    assert b"nowhere" in example("recognise_camera", tmp_path / "nowhere").stderr
    assert example("recognise_camera").returncode == 2
    told = {**camera(tmp_path / "video0", "NV12"), "LD_PRELOAD": str(imitation)}
    told["FAKE_CAMERA"] = told["FAKE_CAMERA"].replace("NV12", "MJPG")
    assert b"none of NV12" in example("recognise_camera", engine, tmp_path / "video0", **told).stderr


@pytest.mark.parametrize("end", ["interrupt", "unplugged"])
def test_signedge_run_reads_a_camera(
    environment: dict[str, str], engine: Path, imitation: Path, tmp_path: Path, end: str
) -> None:
    code = (
        "import sys, signedge, runtime.source, runtime.live\n"
        f"runtime.source.FIRST_CAMERA, runtime.live._CAMERA_FRAMES = {str(tmp_path / 'video0')!r}, 1000\n"
        f"sys.exit(signedge.main(['run', {str(engine)!r}, 'camera', '--out', {str(tmp_path / 'c.srt')!r}]))"
    )
    told = {**camera(tmp_path / "video0", "YUYV"), "LD_PRELOAD": str(imitation), "FAKE_CAMERA_END": end}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env={**environment, **told}, timeout=120)
    assert words(done.stdout, 2) == GLOSSES, done.stderr
    assert "RED GREEN BLUE" in (tmp_path / "c.srt").read_text()
    if end == "unplugged":
        assert (
            done.returncode == 2 and b"after frame 68: No such device; what comes before was recognised" in done.stderr
        )
    else:
        assert done.returncode == 0, done.stderr


# -------------------------------------------------------------------------------------------------- other languages ---


def test_python_live(environment: dict[str, str], engine: Path, frames: bytes) -> None:
    command = [sys.executable, str(EXAMPLES / "python" / "live.py")]
    done = subprocess.run([*command, str(engine), *FRAME], input=frames, capture_output=True, env=environment)
    assert done.returncode == 0 and words(done.stdout, 1) == GLOSSES, done.stderr
    lost = subprocess.run([*command, "/nowhere", *FRAME], input=frames, capture_output=True, env=environment)
    assert lost.returncode == 1 and b"/nowhere" in lost.stderr and b"Traceback" not in lost.stderr


def test_node(environment: dict[str, str], engine: Path, frames: bytes) -> None:
    node = needs("node")
    if not (EXAMPLES / "node" / "node_modules" / "koffi").is_dir():
        pytest.skip("koffi is not installed: npm install --prefix runtime/examples/node")
    command = [node, str(EXAMPLES / "node" / "recognise.mjs")]
    done = subprocess.run([*command, str(engine), *FRAME], input=frames, capture_output=True, env=environment)
    assert done.returncode == 0 and words(done.stdout, 1) == GLOSSES, done.stderr
    lost = subprocess.run([*command, "/nowhere", *FRAME], input=frames, capture_output=True, env=environment)
    assert lost.returncode == 1 and b"missing file /nowhere" in lost.stderr
