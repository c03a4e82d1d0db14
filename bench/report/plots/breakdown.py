"""Where the time of one clip goes: preprocessing, recogniser, and the pose estimator where it was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.report import formats
from bench.report.cast import Cast, family
from bench.report.palette import Style, colour
from bench.report.plots.svg import Plot, drawing, finish

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def latency_breakdown(cast: Cast, styles: dict[str, Style]) -> Plot | None:
    """One bar a valid row whose preprocessing was timed; None where no row was."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [s for s in cast.systems.values() if s.valid and s.latency and s.latency.preprocess_ms is not None]
    if not rows:
        return None
    described = []
    with drawing():
        height = 0.42 + 0.27 * len(rows) + 0.25
        figure = Figure(figsize=(9.0, height), layout=None)
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0.19, 0.36 / height, 0.79, 1 - 0.66 / height))
        totals = []
        for place, system in enumerate(rows):
            assert system.latency is not None and system.latency.preprocess_ms is not None
            ink = styles[family(system)].colour
            before, own = system.latency.preprocess_ms, system.latency.median_ms
            pose = (system.pose_ms_per_frame or 0.0) * system.latency.frames_per_clip
            axes.barh(place, pose, height=0.62, color=colour("surface"), edgecolor=ink, hatch="////", linewidth=0.8)
            axes.barh(place, before, left=pose, height=0.62, color=colour("line"), linewidth=0)
            axes.barh(place, own, left=pose + before, height=0.62, color=ink, linewidth=0)
            parts = [f"{formats.milliseconds(before)} + {formats.milliseconds(own)}"]
            if pose:
                parts.insert(0, f"pose {formats.milliseconds(pose)} +")
            if system.modality == "keypoints" and system.pose_ms_per_frame is None:
                parts.append("+ pose estimator, not measured")
            totals.append((place, pose + before + own, " ".join(parts)))
            described.append(f"{cast.full_name(system)} {' '.join(parts)} ms")
        longest = max(total for _, total, _ in totals)
        for place, total, text in totals:
            axes.annotate(
                text,
                (total, place),
                xytext=(5, 0),
                textcoords="offset points",
                fontsize=8,
                color=colour("muted"),
                verticalalignment="center_baseline",
            )
        axes.set_xlim(0, longest * 1.16)
        axes.set_ylim(len(rows) - 0.45, -0.55)
        axes.set_yticks(range(len(rows)), [cast.full_name(system) for system in rows])
        axes.tick_params(axis="y", labelcolor=colour("ink"), pad=6)
        axes.spines["left"].set_visible(False)
        axes.grid(False, axis="y")
        axes.grid(True, axis="x")
        axes.set_xlabel("ms a clip", loc="right", labelpad=1)
        _legend(axes, any(system.pose_ms_per_frame for system in rows))
        caption = (
            "Medians of preprocessing (grey) and of the recogniser (in colour), batch 1, on a linear scale. "
            "The speed-ups in the table are of the recogniser alone; what stands before it does not shrink with it."
        )
        return finish(figure, "latency-parts", "Where the time of a clip goes", "; ".join(described) + ".", caption)


def _legend(axes: Axes, pose: bool) -> None:
    from matplotlib.patches import Patch

    entries = [("preprocessing", Patch(color=colour("line"))), ("recogniser", Patch(color=colour("teacher")))]
    if pose:
        hatched = Patch(facecolor=colour("surface"), edgecolor=colour("muted"), hatch="////")
        entries.insert(0, ("pose estimator", hatched))
    axes.legend(
        [handle for _, handle in entries],
        [text for text, _ in entries],
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=len(entries),
        frameon=False,
        fontsize=8,
        labelcolor=colour("muted"),
        handlelength=1.2,
        handleheight=0.8,
        columnspacing=1.4,
        borderaxespad=0.2,
    )
