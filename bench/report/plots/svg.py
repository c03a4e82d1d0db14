"""From a matplotlib figure to SVG text: one form for inside the page (themed by CSS), one for a file of its own."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.report.palette import TOKENS, colour

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif"


@dataclass(frozen=True)
class Plot:
    """One plot: `name` is its file name, `alt` says what it shows, `caption` how to read it."""

    name: str
    title: str
    alt: str
    caption: str
    inline: str  # <svg> for the page: colours are CSS variables, ids are its own
    standalone: str  # a whole SVG file


@contextmanager
def drawing() -> Iterator[None]:
    """Settings under which all plots are drawn; the same records give the same bytes."""
    import matplotlib as mpl

    settings: dict[Any, Any] = {
        "svg.fonttype": "none",  # text stays text: small, selectable, in the page's own font
        "svg.hashsalt": "signedge",
        "font.family": "DejaVu Sans",  # only to measure with: it comes with matplotlib, and it is wider than most
        "font.size": 8.5,
        "axes.edgecolor": colour("line"),
        "axes.labelcolor": colour("muted"),
        "axes.titlecolor": colour("ink"),
        "axes.facecolor": colour("surface"),
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 9,
        "axes.titlelocation": "left",
        "axes.titleweight": "bold",
        "axes.labelsize": 8.5,
        "axes.axisbelow": True,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "grid.color": colour("grid"),
        "grid.linewidth": 0.8,
        "figure.facecolor": colour("surface"),
        "figure.dpi": 72,
        "text.color": colour("ink"),
        "xtick.color": colour("line"),
        "ytick.color": colour("line"),
        "xtick.labelcolor": colour("muted"),
        "ytick.labelcolor": colour("muted"),
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "xtick.major.size": 3,
        "ytick.major.size": 0,
        "xtick.minor.size": 0,
        "text.parse_math": False,  # a `$` in a name of the records is a dollar sign
        "lines.solid_capstyle": "round",
        "hatch.linewidth": 0.8,
    }
    with mpl.rc_context(settings):
        yield


def finish(
    figure: Figure, name: str, title: str, alt: str, caption: str, tips: Mapping[str, str] | None = None
) -> Plot:
    """Render `figure`. `tips` maps an artist's gid to the text shown when the pointer rests on it."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    body = buffer.getvalue()
    body = body[body.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r" ?font-family: [^;\"]*;?", "", body)  # the reader's own font
    body = _unique_ids(body, name, tips or {})
    start = body.index(">") + 1
    inside = f"\n <desc>{html.escape(alt)}</desc>{body[start:]}"
    size = re.search(r'viewBox="[^"]*"', body)
    assert size is not None
    return Plot(
        name=name,
        title=title,
        alt=alt,
        caption=caption,
        inline=_themed(f'<svg role="img" {size[0]} aria-label="{html.escape(f"{title}. {alt}")}">{inside}'),
        standalone=_standalone(size[0], inside),
    )


def _unique_ids(body: str, name: str, tips: Mapping[str, str]) -> str:
    """Keep only the ids that something refers to, made unique to this plot; tips become <title> elements."""
    referred = set(re.findall(r'(?:href="#|url\(#)([^")]+)', body))
    for gid, text in tips.items():
        body = body.replace(f'<g id="{gid}">', f"<g><title>{html.escape(text)}</title>", 1)
    body = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in referred else "", body)
    return re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", body)


def _themed(body: str) -> str:
    """Replace each colour of the palette by its CSS variable, so that the plot follows the page into the dark."""
    for token, (light, _) in TOKENS.items():
        body = re.sub(re.escape(light), f"var(--{token})", body, flags=re.IGNORECASE)
    return body.replace("xlink:href", "href")


def _standalone(size: str, inside: str) -> str:
    width, height = re.findall(r"[\d.]+", size)[2:]
    style = (
        f"<style>svg{{font-family:{_FONTS}}}"
        f"text{{paint-order:stroke;stroke:{colour('surface')};stroke-width:2.5px;stroke-linejoin:round}}</style>"
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{float(width) * 1.4:.0f}" height="{float(height) * 1.4:.0f}" {size}>\n {style}{inside}'
    )
