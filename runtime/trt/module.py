"""The module at hand, tensorrt or tensorrt_rtx: its import, version, log, and which optional names it has."""

from __future__ import annotations

import contextlib
import importlib
import threading
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional

from runtime.errors import MissingExtra

EXTRAS = {"tensorrt": "tensorrt", "tensorrt_rtx": "rtx"}  # module -> extra that it comes with
_LOGGERS: Dict[str, Any] = {}
_BUSY = threading.RLock()  # the log of a module is one for the process: who collects it is alone


class Line(NamedTuple):
    """One line of a module's log."""

    severity: str  # INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE
    text: str


def load(name: str) -> Any:
    """The module `name`: tensorrt or tensorrt_rtx. Raises `MissingExtra` where it cannot be imported."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:  # OSError: a library below it is missing
        raise MissingExtra(name, EXTRAS[name]) from error


def label(trt: Any) -> str:
    """`tensorrt 10.3.0`: for people and manifests."""
    return f"{trt.__name__} {trt.__version__}"


def has(trt: Any, name: str) -> bool:
    """Whether the module has `name`, such as "BuilderFlag.FP16" or "IBuilderConfig.set_memory_pool_limit".

    The names that come and go with versions are asked for here and nowhere else; a test holds every other name that
    this folder uses against the list of each version.
    """
    owner = trt
    for part in name.split("."):
        if not hasattr(owner, part):
            return False
        owner = getattr(owner, part)
    return True


@contextlib.contextmanager
def collected(trt: Any, follow: Optional[Callable[[Line], None]] = None) -> Iterator[List[Line]]:
    """The lines that `trt` logs meanwhile, from every thread; `follow` sees each as it comes.

    A process has one logger: TensorRT keeps the first that it is given and ignores later ones.
    """
    with _BUSY:
        logger = logger_of(trt)
        logger.lines, logger.follow = [], follow
        try:
            yield logger.lines
        finally:
            logger.lines, logger.follow = [], None


def logger_of(trt: Any) -> Any:
    """The logger that every builder, parser and runtime of this module is given."""
    if trt.__name__ not in _LOGGERS:

        class Log(trt.ILogger):
            """Keeps lines; TensorRT itself prints nothing."""

            def __init__(self) -> None:
                trt.ILogger.__init__(self)
                self.lines: List[Line] = []
                self.follow: Optional[Callable[[Line], None]] = None

            def log(self, severity: Any, msg: str) -> None:
                line = Line(str(severity).rsplit(".", 1)[-1], msg)
                self.lines.append(line)
                if self.follow is not None:
                    self.follow(line)

        _LOGGERS[trt.__name__] = Log()
    return _LOGGERS[trt.__name__]


def errors(lines: List[Line]) -> List[str]:
    """The texts of errors among lines, in order."""
    return [line.text.strip() for line in lines if line.severity in ("ERROR", "INTERNAL_ERROR")]
