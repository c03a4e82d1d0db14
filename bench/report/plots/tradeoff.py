"""WER against what it costs: latency or MACs on a log axis, intervals as bars, the Pareto front drawn."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.record import SystemRecord
from bench.report import formats
from bench.report.cast import Cast, family
from bench.report.palette import Style, colour
from bench.report.plots.labels import Box, place
from bench.report.plots.svg import Plot, drawing, finish

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIZE = (9.0, 4.6)  # inches of 72 points
_MARK = 6.5


@dataclass(frozen=True)
class _Point:
    """One mark. `reach`: where the cost would end with the pose estimator, if that was measured.

    A point that is not `valid` is greyed and takes no part in the front.
    """

    system: SystemRecord
    label: str
    cost: float
    wer: float
    low: float
    high: float
    hollow: bool
    tip: str
    valid: bool
    reach: float | None = None


def wer_against_latency(cast: Cast, styles: dict[str, Style]) -> Plot | None:
    """All rows with a WER and a latency; None where there are fewer than two."""
    points = [
        _point(system, cast, system.latency.median_ms, f"{formats.milliseconds(system.latency.median_ms)} ms", True)
        for system in cast.systems.values()
        if system.wer and system.latency
    ]
    if len(points) < 2:
        return None
    caption = (
        "Lower left is better. Bars are bootstrap intervals of the WER. The line is the Pareto front: no other row is "
        "both faster and more accurate than a row on it. Thin dotted lines join the rows of one network."
    )
    return _tradeoff(points, styles, "wer-latency", "WER against latency", "median latency, ms a clip", caption)


def wer_against_macs(cast: Cast, styles: dict[str, Style]) -> Plot | None:
    """One point a run (precision changes no MACs); None where there are fewer than two."""
    chosen = [cast.representative(run) for run in dict.fromkeys(system.run for system in cast.systems.values())]
    points = [
        _point(system, cast, macs, f"{formats.scaled(macs)} MACs a frame", False)
        for system in chosen
        if system and system.wer and system.complexity and (macs := system.complexity.macs_per_frame) > 0
    ]
    if len(points) < 2:
        return None
    caption = (
        "One point a network, since precision changes no operation count. MACs are counted, not timed: this is what "
        "the networks ask for on any machine."
    )
    return _tradeoff(points, styles, "wer-macs", "WER against MACs", "multiply-accumulates a frame", caption)


def _point(system: SystemRecord, cast: Cast, cost: float, cost_text: str, precisions: bool) -> _Point:
    assert system.wer is not None
    value = system.wer.wer
    bare = system.modality == "keypoints" and system.pose_ms_per_frame is None
    name = cast.full_name(system) if precisions else cast.run_name(system)
    reach = None
    if precisions and system.pose_ms_per_frame and system.latency:
        reach = cost + system.pose_ms_per_frame * system.latency.frames_per_clip
    interval = formats.span(value.low, value.high)
    return _Point(
        system=system,
        label=f"{name}{' †' if bare else ''}{'' if system.valid else ' (invalid)'}",
        cost=cost,
        wer=value.value,
        low=value.low,
        high=value.high,
        hollow=cast.trained_plainly(system),
        tip=f"{name}: WER {formats.points(value.value)} % {interval}, {cost_text}",
        valid=system.valid,
        reach=reach,
    )


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The (cost, wer) pairs that no other pair beats in both, by rising cost."""
    front: list[tuple[float, float]] = []
    for cost, wer in sorted(points):
        if not front or wer < front[-1][1]:
            front.append((cost, wer))
    return front


def _tradeoff(points: list[_Point], styles: dict[str, Style], name: str, title: str, axis: str, caption: str) -> Plot:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with drawing():
        figure = Figure(figsize=_SIZE, layout=None)
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0.05, 0.098, 0.94, 0.835))
        _frame(axes, points, axis)
        front = pareto_front([(point.cost, point.wer) for point in points if point.valid])
        if front:
            _draw_front(axes, front)
        _join_precisions(axes, points, styles)
        tips = {f"tip-{index}": point.tip for index, point in enumerate(points)}
        for index, point in enumerate(points):
            _draw_point(axes, point, styles[family(point.system)], f"tip-{index}")
        _draw_labels(figure, axes, points, front)
        _legend(figure, points)
        best = [point.label for point in points if point.valid and (point.cost, point.wer) in front]
        alt = f"{'; '.join(point.tip for point in points)}. On the Pareto front: {formats.listing(best or ['none'])}."
        notes = []
        if any("†" in point.label for point in points):
            notes.append("† without the pose estimator that makes its skeletons.")
        if any(point.reach for point in points):
            notes.append(
                "The tail of a skeleton row ends where its pose estimator's time is added; the front is without it."
            )
        return finish(figure, name, title, alt, " ".join([caption, *notes]), tips)


def _frame(axes: Axes, points: list[_Point], axis: str) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    costs = [cost for point in points for cost in (point.cost, point.reach or point.cost)]
    low, high = math.log10(min(costs)), math.log10(max(costs))
    room = max(0.12 * (high - low), 0.12)
    left, right = 10 ** (low - 2.2 * room), 10 ** (high + room)  # labels of the fastest fit at its left
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    wide = high - low > 2.2
    steps = (1.0,) if wide else (1.0, 2.0, 5.0)
    ticks = [step * 10.0**power for power in range(math.floor(low) - 1, math.ceil(high) + 2) for step in steps]
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if left <= tick <= right]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
    axes.grid(True, axis="x")
    axes.set_ylim(0, max(point.high for point in points) * 1.08 + 0.5)
    axes.set_xlabel(f"{axis} (log scale)", loc="right")
    axes.set_title("WER, %", fontsize=8.5, fontweight="normal", color=colour("muted"), x=-0.034, pad=6)


def _tick(value: float) -> str:
    for factor, prefix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= factor:
            return f"{value / factor:g}{prefix}"
    return f"{value:g}"


def _draw_front(axes: Axes, front: list[tuple[float, float]]) -> None:
    xs, ys = [front[0][0]], [axes.get_ylim()[1]]
    for cost, wer in front:
        xs += [cost, cost]
        ys += [ys[-1], wer]
    xs.append(axes.get_xlim()[1])
    ys.append(front[-1][1])
    axes.fill_between(xs, ys, axes.get_ylim()[1], color=colour("grid"), alpha=0.55, linewidth=0, zorder=0.5)
    axes.plot(xs, ys, color=colour("muted"), linewidth=1.1, zorder=1.5)


def _join_precisions(axes: Axes, points: list[_Point], styles: dict[str, Style]) -> None:
    runs: dict[str, list[_Point]] = {}
    for point in points:
        runs.setdefault(point.system.run, []).append(point)
    for joined in runs.values():
        joined.sort(key=lambda point: point.cost)
        if len(joined) > 1:
            costs, wers = [point.cost for point in joined], [point.wer for point in joined]
            ink = styles[family(joined[0].system)].colour
            axes.plot(costs, wers, color=ink, linewidth=0.9, linestyle=":", zorder=2)


def _draw_point(axes: Axes, point: _Point, style: Style, gid: str) -> None:
    ink = style.colour if point.valid else colour("line")
    axes.plot([point.cost, point.cost], [point.low, point.high], color=ink, linewidth=1.1, alpha=0.55, zorder=2.5)
    if point.reach:
        axes.plot([point.cost, point.reach], [point.wer, point.wer], color=ink, linewidth=1.1, linestyle="--", zorder=2)
        axes.plot([point.reach], [point.wer], marker="|", markersize=8, color=ink, zorder=2)
    (mark,) = axes.plot(
        [point.cost],
        [point.wer],
        marker=style.marker,
        markersize=_MARK,
        linestyle="none",
        color=ink,
        markerfacecolor=colour("surface") if point.hollow else ink,
        markeredgewidth=1.4,
        zorder=3,
    )
    mark.set_gid(gid)


def _draw_labels(figure: Figure, axes: Axes, points: list[_Point], front: list[tuple[float, float]]) -> None:
    """Measure every label with matplotlib's own renderer, place them, and draw leader lines where they are far."""
    to_figure = axes.transData.transform
    anchors: list[tuple[float, float]] = []
    obstacles: list[Box] = []
    for point in points:
        x, y = (float(value) for value in to_figure((point.cost, point.wer)))
        low, high = (float(to_figure((point.cost, value))[1]) for value in (point.low, point.high))
        anchors.append((x, y))
        obstacles += [(x - 6, y - 6, x + 6, y + 6), (x - 2, low, x + 2, high)]
        if point.reach:
            tail = float(to_figure((point.reach, point.wer))[0])
            obstacles.append((x, y - 2, tail + 3, y + 2))
    obstacles += _front_boxes(axes, front) if front else []
    texts = [axes.text(0, 0, point.label, fontsize=8.5, zorder=4) for point in points]
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    sizes = [(box.width, box.height) for box in (text.get_window_extent(renderer) for text in texts)]
    bounds = axes.get_window_extent(renderer)
    frame = (bounds.x0 + 3, bounds.y0 + 3, bounds.x1 - 3, bounds.y1 - 3)
    back = axes.transData.inverted().transform
    for point, anchor, size, text, spot in zip(
        points, anchors, sizes, texts, place(anchors, sizes, obstacles, frame), strict=True
    ):
        side, edge = _anchor(spot.left, size[0], anchor[0])
        text.set_position(tuple(back((edge, spot.bottom + size[1] / 2))))
        text.set(horizontalalignment=side, verticalalignment="center_baseline")
        if not point.valid:
            text.set_color(colour("muted"))
        if spot.leader:
            end_x, end_y = back(spot.leader)
            style: dict[str, Any] = {"color": colour("muted"), "linewidth": 0.6, "alpha": 0.7, "zorder": 1.8}
            axes.plot([point.cost, end_x], [point.wer, end_y], **style)


def _anchor(left: float, width: float, x: float) -> tuple[str, float]:
    """Alignment and edge of a label so that, in a font narrower than the measured one, it stays close to its point."""
    middle = left + width / 2
    if middle > x + width / 4:
        return "left", left
    if middle < x - width / 4:
        return "right", left + width
    return "center", middle


def _front_boxes(axes: Axes, front: list[tuple[float, float]]) -> list[Box]:
    """The steps of the front as thin boxes that labels keep off."""
    corners = [(front[0][0], axes.get_ylim()[1])]
    for cost, wer in front:
        corners += [(cost, corners[-1][1]), (cost, wer)]
    corners.append((axes.get_xlim()[1], front[-1][1]))
    spots = [tuple(map(float, axes.transData.transform(corner))) for corner in corners]
    return [
        (min(a[0], b[0]) - 1, min(a[1], b[1]) - 1, max(a[0], b[0]) + 1, max(a[1], b[1]) + 1)
        for a, b in itertools.pairwise(spots)
    ]


def _legend(figure: Figure, points: list[_Point]) -> None:
    from matplotlib.lines import Line2D

    ink = colour("muted")
    mark: dict[str, Any] = {"color": ink, "marker": "o", "markersize": 5.5, "linestyle": "none"}
    entries = [("Pareto front", Line2D([], [], color=ink, linewidth=1.1))]
    if any(point.hollow for point in points):
        entries.append(("trained with CTC alone", Line2D([], [], markerfacecolor=colour("surface"), **mark)))
    if any(point.system.distillation for point in points):
        entries.append(("distilled", Line2D([], [], **mark)))
    figure.legend(
        [handle for _, handle in entries],
        [text for text, _ in entries],
        loc="upper right",
        bbox_to_anchor=(0.99, 1.0),
        ncols=len(entries),
        frameon=False,
        fontsize=8,
        labelcolor=ink,
        handletextpad=0.4,
        columnspacing=1.4,
        borderaxespad=0.1,
    )
