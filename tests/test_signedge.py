"""The front door as a shell meets it: light help, exit statuses, errors of one line, tracebacks only on request."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pytest

from signedge import COMMANDS, main

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "lightning", "matplotlib", "onnx", "onnxruntime", "pydantic", "typer")


def shell(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "signedge", *words], capture_output=True, text=True, cwd=ROOT)


def imported(words: list[str], names: tuple[str, ...]) -> tuple[int, list[str]]:
    """Exit status of a command in a process of its own, and which of `names` it imported."""
    code = (
        "import sys, signedge\n"
        f"status = signedge.main({words!r})\n"
        f"print(*[name for name in {names!r} if name in sys.modules], sep=',', file=sys.stderr)\n"
        "sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    return done.returncode, [name for name in done.stderr.splitlines()[-1].split(",") if name]


def without(module: str, words: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command where `module` is not installed."""
    code = f"import sys; sys.modules[{module!r}] = None; import signedge; sys.exit(signedge.main({words!r}))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)


def test_help_names_every_command_and_imports_nothing_heavy(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--help"], ["-h"], ["help"]):
        assert main(words) == 0
        shown = capsys.readouterr().out
        assert all(f"  {name} " in shown for name in COMMANDS) and "exit status" in shown
    assert imported(["--help"], HEAVY) == (0, [])


def test_light_commands_stay_light(tmp_path: Path) -> None:
    (tmp_path / "h.ctm").write_text("u1 1 0.0 0.1 RAIN\n")
    (tmp_path / "r.stm").write_text("u1 1 s1 0.0 9.0 RAIN\n")
    heavy = ("torch", "lightning", "matplotlib", "onnx")
    for words in (
        ["devices", "list"],
        ["devices", "detect"],
        ["score", str(tmp_path / "h.ctm"), str(tmp_path / "r.stm")],
        ["corpus", "check", "--help"],
        ["demo", "--help"],
        ["run", "--help"],
    ):
        assert imported(words, heavy) == (0, []), words


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"signedge {command}" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"signedge {version('signedge')}\n"


def test_unknown_commands_and_options_are_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["frobnicate"]) == 2
    shown = capsys.readouterr()
    assert not shown.out and len(shown.err.splitlines()) == 1
    assert "frobnicate" in shown.err and "distill" in shown.err
    assert main(["devices", "list", "--frobnicate"]) == 2
    assert "--frobnicate" in capsys.readouterr().err
    assert main(["devices", "frobnicate"]) == 2


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    done = shell("corpus", "check", str(tmp_path))
    assert done.returncode == 2 and not done.stdout
    assert done.stderr == f"signedge corpus: {tmp_path} is not a corpus folder: it has no corpus.yaml\n"


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    for words in (["--debug", "corpus", "check", str(tmp_path)], ["corpus", "check", str(tmp_path), "--debug"]):
        done = shell(*words)
        assert done.returncode != 0
        assert "Traceback (most recent call last)" in done.stderr and "BadInput" in done.stderr


@pytest.mark.parametrize(
    ("module", "words", "extra"),
    [
        ("torch", ["distill", "demo/teacher", "--corpus", "c", "--out", "o"], "train"),
        ("torch", ["export", "run", "--out", "model.onnx"], "export"),
        ("jinja2", ["report", "results.jsonl", "--out", "page"], "bench"),
    ],
)
def test_a_missing_package_names_what_to_install(module: str, words: list[str], extra: str) -> None:
    done = without(module, words)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"signedge {words[0]}: '{module}' is not installed; it comes with: pip install 'signedge[{extra}]'"
    ]


@pytest.mark.parametrize(("number", "status", "said"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "")])
def test_an_interrupt_is_no_traceback_and_leaves_nothing_half(
    tmp_path: Path, number: int, status: int, said: str
) -> None:
    words = ["corpus", "synth", "--out", str(tmp_path / "corpus"), "--sentences", "2000,1,1", "--size", "128"]
    # A shell's background job, which a test run may be, ignores interrupts and hands that on to its children.
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(
        [sys.executable, "-m", "signedge", *words], **pipes, text=True, cwd=ROOT, preexec_fn=heeding
    ) as process:
        while process.poll() is None and not list(tmp_path.glob(".corpus.*/frames/*.npy")):
            time.sleep(0.05)
        process.send_signal(number)
        _, error = process.communicate(timeout=30)
    assert process.returncode == status
    assert said in error and "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["--help"], ["devices", "list"]])
def test_a_reader_that_has_gone_is_no_error(words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "signedge", *words], stdout=writing, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
    finally:
        os.close(writing)
    assert not done.stderr
