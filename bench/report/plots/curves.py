"""Training curves as small multiples: WER on the development split an architecture, loss terms a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.record import CurveRecord, Record, SystemRecord
from bench.report import formats
from bench.report.cast import Cast, family, known
from bench.report.palette import Style, colour
from bench.report.plots.svg import Plot, drawing, finish

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 648  # points
_COLUMNS = 3
_TERMS = ("ink", "vermillion", "blue", "green", "purple", "orange", "sky")
_DASHES = ("-", (0, (5, 1.5)), (0, (2, 1.2)), (0, (5, 1.2, 1.2, 1.2)))


def dev_wer_curves(records: Sequence[Record], cast: Cast, styles: dict[str, Style]) -> Plot | None:
    """One panel an architecture, plain and distilled runs in it; None where no run has such a WER."""
    curves = [r for r in records if isinstance(r, CurveRecord) and any(p.dev_wer is not None for p in r.points)]
    if not curves:
        return None
    panels: dict[str, list[CurveRecord]] = {}
    for curve in curves:
        system = cast.representative(curve.run)
        title = curve.run
        if system:
            title = "Teacher" if cast.is_teacher(system) else cast.architecture(system)
        panels.setdefault(title, []).append(curve)
    top = max(p.dev_wer for c in curves for p in c.points if p.dev_wer is not None)
    ends = []
    with drawing():
        longest = max((_training(cast.representative(curve.run)) for curve in curves), key=len)
        figure, axes = _grid(len(panels), 172, f"00.0 {longest}")
        for place, (panel, (title, runs)) in enumerate(zip(axes, panels.items(), strict=False)):
            lines = []
            for curve in runs:
                system = cast.representative(curve.run)
                plain = system is None or cast.trained_plainly(system)
                ink = styles[family(system)].colour if system else colour("muted")
                points = [(p.epoch + 1, p.dev_wer) for p in curve.points if p.dev_wer is not None]
                xs, ys = [x for x, _ in points], [y for _, y in points]
                panel.plot(xs, ys, color=ink, linewidth=1.5, linestyle=(0, (3, 1.6)) if plain else "-")
                lines.append((xs[-1], ys[-1], f"{formats.points(ys[-1])} {_training(system)}", ink))
                ends.append(f"{cast.run_name(system) if system else curve.run} ends at {formats.points(ys[-1])} %")
            panel.set_ylim(0, min(top * 1.03, 105))
            panel.set_title(title)
            _label_ends(panel, lines)
            _axis_names(panel, place, "WER, %")
        caption = (
            "WER on the development split after each epoch, greedy decoding, in PyTorch. Dashed: CTC alone. "
            "The figure at the end of a line is the last epoch's."
        )
        return finish(figure, "curves-wer", "WER on the development split", "; ".join(ends) + ".", caption)


def _training(system: SystemRecord | None) -> str:
    return (system.distillation or "CTC") if system and known(system) else ""


def loss_curves(records: Sequence[Record], cast: Cast) -> Plot | None:
    """One panel a run with each loss term on a log axis; None where no run has losses."""
    curves = [r for r in records if isinstance(r, CurveRecord) and any(p.losses for p in r.points)]
    if not curves:
        return None
    names = list(dict.fromkeys(term for curve in curves for point in curve.points for term in point.losses))
    ink = {name: colour(_TERMS[i % len(_TERMS)]) for i, name in enumerate(names)}
    dash = {name: _DASHES[i % len(_DASHES)] for i, name in enumerate(names)}
    described = []
    with drawing():
        figure, axes = _grid(len(curves), 150, max(names, key=len))
        for place, (panel, curve) in enumerate(zip(axes, curves, strict=False)):
            system = cast.representative(curve.run)
            title = cast.run_name(system) if system else curve.run
            lines = []
            for name in names:
                points = [(p.epoch + 1, p.losses[name]) for p in curve.points if name in p.losses]
                points = [(x, y) for x, y in points if math.isfinite(y) and y > 0]
                if not points:
                    continue
                xs, ys = [x for x, _ in points], [y for _, y in points]
                panel.plot(xs, ys, color=ink[name], linewidth=1.3, linestyle=dash[name])
                lines.append((xs[-1], ys[-1], name, ink[name]))
            panel.set_yscale("log")
            _plain_log(panel)
            panel.set_title(title)
            _label_ends(panel, lines)
            _axis_names(panel, place, "loss")
            described.append(f"{title}: {formats.listing([name for _, _, name, _ in lines]) if lines else 'none'}")
        caption = "Mean of each term over an epoch, on a log scale. Terms differ in kind: compare shapes, not heights."
        return finish(figure, "curves-loss", "Loss terms", "; ".join(described) + ".", caption)


def _grid(panels: int, height: float, label: str) -> tuple[Figure, list[Axes]]:
    """A figure of `panels` axes, `height` points each, with room at the right of each for `label`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, max(panels, 2))
    rows = -(-panels // columns)
    width, total = _WIDTH / columns, rows * height
    figure = Figure(figsize=(_WIDTH / 72, total / 72), layout=None)
    FigureCanvasAgg(figure)
    left, right, top, bottom = 32, min(10 + 5.2 * len(label), width / 2), 24, 36
    axes = []
    for place in range(panels):
        row, column = divmod(place, columns)
        x, y = column * width + left, total - (row + 1) * height + bottom
        size = ((width - left - right) / _WIDTH, (height - top - bottom) / total)
        axes.append(figure.add_axes((x / _WIDTH, y / total, *size)))
    return figure, axes


def _axis_names(panel: Axes, place: int, name: str) -> None:
    from matplotlib.ticker import MaxNLocator

    panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    panel.set_xlabel("epoch", loc="right", labelpad=1)
    if place == 0:
        panel.set_title(name, loc="right", fontsize=8, fontweight="normal", color=colour("muted"))


def _plain_log(panel: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    panel.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0), numticks=12))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.yaxis.set_minor_locator(NullLocator())


def _label_ends(panel: Axes, lines: Sequence[tuple[float, float, str, str]]) -> None:
    """Write each line's name at its end, moved apart where the ends are closer than a line of text."""
    if not lines:
        return
    height = 10.5
    to_points = panel.transData.transform
    spots = sorted((float(to_points((x, y))[1]), x, y, text, ink) for x, y, text, ink in lines)
    targets: list[float] = []
    for spot, *_ in spots:
        targets.append(max(spot, targets[-1] + height) if targets else spot)
    shift = sum(target - spot[0] for target, spot in zip(targets, spots, strict=True)) / len(spots)
    floor = float(panel.get_window_extent().y0)
    shift = min(shift, targets[0] - floor)
    for target, (spot, x, y, text, ink) in zip(targets, spots, strict=True):
        panel.annotate(
            text,
            (x, y),
            xytext=(5, target - shift - spot),
            textcoords="offset points",
            fontsize=8,
            color=ink,
            verticalalignment="center_baseline",
            annotation_clip=False,
        )
