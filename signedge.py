"""The front door: the `signedge` command. Imports a folder's commands when they are called, so help stays instant."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

# name -> (module, one line of help). A module offers `app`, a typer.Typer; it is imported when its command is called.
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("bench.demo", "the whole way on synthetic signing: corpus, teacher, students, engines, report"),
    "corpus": ("distill.corpus.cli", "make, build, read and judge a corpus folder (synth, compose, import, check)"),
    "distill": ("distill.cli", "train a teacher, or distil a student from one, as a recipe says"),
    "export": ("export.export_cli", "turn a trained run into one ONNX file that carries its contract"),
    "check": ("export.check_cli", "tell whether a model fits a target, and what would make it fit; needs no device"),
    "engine": ("export.engine_cli", "compile an ONNX file to an engine that has passed the WER gate"),
    "matrix": ("export.matrix_cli", "check and build networks for every target in every precision, in one table"),
    "bench": ("bench.cli", "measure engines: complexity, latency, memory, WER; one JSON line a record"),
    "run": ("runtime.cli", "the glosses of a video or a camera: live, as captions, or drawn over the video"),
    "report": ("bench.report.cli", "turn records into a self-contained page with plots and plain warnings"),
    "score": ("bench.score.cli", "word error rate of a ctm against an stm, exactly as NIST sclite counts"),
    "devices": ("devices.cli", "list and show targets, recognise the machine at hand"),
}


def _help() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items())
    return (
        "usage: signedge COMMAND [OPTIONS]\n\n"
        "Distil a light sign language recogniser from a heavy one, compile it for the edge,\n"
        "and prove with measurements what was gained and what was lost.\n\n"
        f"commands (each has --help):\n{rows}\n\n"
        "options:\n  --debug    show the traceback of an error\n  --version  print the version\n\n"
        "exit status: 0 done, 1 the work ran and failed its criterion, 2 wrong use or bad input, 3 refused by a rule"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. Errors meant for people become one line on stderr."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        if not words or words[0] in ("-h", "--help", "help"):
            print(_help(), flush=True)
            return 0
        if words[0] == "--version":
            from importlib.metadata import version

            print(f"signedge {version('signedge')}", flush=True)
            return 0
        if words[0] not in COMMANDS:
            print(f"signedge: no command '{words[0]}'; the commands are: {', '.join(COMMANDS)}", file=sys.stderr)
            return 2
        return _run(words[0], words[1:], debug)
    except BrokenPipeError:  # who read our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(command: str, words: list[str], debug: bool) -> int:
    from runtime.atomic import unwinding_on_sigterm
    from runtime.errors import SignedgeError

    try:
        with unwinding_on_sigterm():
            return _call(command, words)
    except SignedgeError as error:
        if debug:
            raise
        print(f"signedge {command}: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print(f"\nsignedge {command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise
    except Exception as error:
        if debug:
            raise
        line = f"{type(error).__name__}: {error}".splitlines()[0]
        print(f"signedge {command}: unexpected {line} (run again with --debug for the traceback)", file=sys.stderr)
        return 1


def _call(command: str, words: list[str]) -> int:
    try:
        import typer

        app = importlib.import_module(COMMANDS[command][0]).app
        status = typer.main.get_command(app).main(args=words, prog_name=f"signedge {command}", standalone_mode=False)
    except ModuleNotFoundError as error:  # some are imported only once they are needed
        from runtime.errors import MissingExtra

        extras = {"distill": "train", "corpus": "train", "run": "run"}
        extras.update(dict.fromkeys(("export", "check", "engine", "matrix"), "export"))
        missing = (error.name or "a module").partition(".")[0]
        raise MissingExtra(missing, extras.get(command, "bench")) from error
    except Exception as error:
        show = getattr(error, "show", None)  # click's usage errors print themselves
        if show is None:
            raise
        show()
        return int(getattr(error, "exit_code", 2))
    if status == 130:  # typer makes a status of it
        raise KeyboardInterrupt
    return status if isinstance(status, int) else 0


if __name__ == "__main__":
    sys.exit(main())
