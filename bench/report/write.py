"""Write the report's folder: index.html (self-contained), report.md and the figures it refers to."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.record import Interval, read_records
from bench.report import formats, palette
from bench.report.view import Report, view
from runtime.atomic import atomic_folder
from runtime.errors import BadInput

if TYPE_CHECKING:
    from jinja2 import Environment

_OWN = {"index.html", "report.md", "figures"}  # a folder that holds nothing else may be replaced


def write_report(results: Path, out: Path) -> Path:
    """Read a results file and write the report's folder, whole or not at all. Returns the path of the page.

    An older report in `out` is replaced. Raises `BadInput` for a broken results file, for an `out` that holds anything
    but a report, and where it cannot be written.
    """
    out = Path(out).resolve()
    records = read_records(Path(results))
    _refuse_foreign(out)
    report = view(records)
    with atomic_folder(out, replace=True) as folder:
        (folder / "index.html").write_text(page(report), encoding="utf-8")
        (folder / "report.md").write_text(markdown(report), encoding="utf-8")
        _write_figures(report, folder / "figures")
    return out / "index.html"


def page(report: Report) -> str:
    """The self-contained HTML page."""
    from markupsafe import Markup

    environment = _environment(autoescape=True)
    style = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    environment.globals |= {
        "style": Markup(style.replace("/* tokens */", _tokens())),
        "svg": Markup,
        "glyph": partial(_glyph, report),
        "interval_bar": _interval_bar,
    }
    return environment.get_template("index.html.j2").render(report=report)


def markdown(report: Report) -> str:
    """The Markdown twin; its pictures are files under figures/."""
    environment = _environment(autoescape=False, finalize=escape_markdown)
    environment.globals |= {"raw": _Raw, "fence": _fence, "picture_path": picture_path}
    text = environment.get_template("report.md.j2").render(report=report)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def picture_path(example: int, picture: int, ending: str) -> str:
    """Where the Markdown finds a frame of an example; made of numbers only, never of a name in the records."""
    return f"figures/example-{example}-{picture}.{ending}"


class _Raw(str):
    """Text that is already Markdown."""


def escape_markdown(value: Any) -> Any:
    """Make a value safe inside a Markdown paragraph or table cell: one line, no markup, no HTML."""
    if not isinstance(value, str) or isinstance(value, _Raw):
        return value
    text = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", text).replace("\r", " ").replace("\n", " ")


def _fence(text: str) -> _Raw:
    """A fenced block that no run of backticks inside the text can close."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    marks = "`" * max(3, longest + 1)
    return _Raw(f"{marks}yaml\n{text.rstrip()}\n{marks}")


def _environment(**options: Any) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **options,
    )
    names = ("signed", "ratio", "whole", "duration", "plural", "track")
    environment.filters |= {name: getattr(formats, name) for name in names}
    environment.globals |= {"signed_span": formats.signed_span}
    return environment


def _tokens() -> str:
    """The palette as CSS variables, light by default, dark where the reader's system is dark."""
    light = "".join(f"--{name}:{values[0]};" for name, values in palette.TOKENS.items())
    dark = "".join(f"--{name}:{values[1]};" for name, values in palette.TOKENS.items())
    return f":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"


def _glyph(report: Report, family: str, hollow: bool) -> Any:
    """The mark of a family of rows as in the plots."""
    from markupsafe import Markup

    style = report.styles[family]
    fill = "none" if hollow else f"var(--{style.token})"
    return Markup(
        f'<svg class="glyph" viewBox="0 0 12 12" aria-hidden="true" style="fill:{fill};stroke:var(--{style.token})">'
        f"{palette.GLYPHS[style.marker]}</svg>"
    )


def _interval_bar(difference: Interval, reach: float, shown: str) -> Any:
    """A paired interval as a bar on a scale from -reach to +reach. The figures stand beside it, so it is decoration."""
    from markupsafe import Markup

    low, value, high = (100 + 94 * end / (reach or 1.0) for end in (difference.low, difference.value, difference.high))
    return Markup(
        f'<svg class="interval {shown}" viewBox="0 0 200 16" aria-hidden="true"><path class="zero" d="M100 0V16"/>'
        f'<path class="range" d="M{low:.1f} 8H{high:.1f}"/><circle cx="{value:.1f}" cy="8" r="3.6"/></svg>'
    )


def _write_figures(report: Report, folder: Path) -> None:
    folder.mkdir()
    for plot in report.plots:
        (folder / f"{plot.name}.svg").write_text(plot.standalone, encoding="utf-8")
    for place, example in enumerate(report.examples, start=1):
        for number, picture in enumerate(example.pictures, start=1):
            (folder.parent / picture_path(place, number, picture.ending)).write_bytes(picture.data)


def _refuse_foreign(out: Path) -> None:
    if not out.is_dir():
        return
    foreign = sorted(path.name for path in out.iterdir() if path.name not in _OWN)
    if foreign:
        raise BadInput(f"{out} holds '{foreign[0]}', which is no part of a report; choose a folder of its own")
