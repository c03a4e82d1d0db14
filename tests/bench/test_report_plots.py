"""The plots: labels keep clear of each other, the front is right, hard cases still draw."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import report_records as made_up

from bench.record import CurveRecord, Record, SystemRecord
from bench.report.palette import TOKENS, styles
from bench.report.plots.labels import place
from bench.report.plots.tradeoff import pareto_front
from bench.report.view import view


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return made_up.build()


@pytest.mark.parametrize("seed", range(5))
def test_labels_do_not_overlap_and_stay_inside(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = [tuple(map(float, rng.uniform((60, 40), (560, 280)))) for _ in range(14)]
    sizes = [(float(rng.uniform(40, 110)), 10.0) for _ in points]
    marks = [(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    boxes = [
        (spot.left, spot.bottom, spot.left + width, spot.bottom + height)
        for spot, (width, height) in zip(place(points, sizes, marks, (0, 0, 620, 320)), sizes, strict=True)
    ]
    assert all(box[0] >= 0 and box[1] >= 0 and box[2] <= 620 and box[3] <= 320 for box in boxes)
    overlaps = [
        pair
        for pair in itertools.combinations(boxes, 2)
        if min(pair[0][2], pair[1][2]) > max(pair[0][0], pair[1][0])
        and min(pair[0][3], pair[1][3]) > max(pair[0][1], pair[1][1])
    ]
    assert overlaps == []


def test_labels_of_points_in_one_place_move_away_with_a_line() -> None:
    spots = place([(100.0, 100.0)] * 8, [(60.0, 10.0)] * 8, [(95, 95, 105, 105)], (0, 0, 200, 200))
    assert any(spot.leader for spot in spots)
    assert len({(spot.left, spot.bottom) for spot in spots}) == 8


def test_front_holds_what_nothing_beats() -> None:
    assert pareto_front([(5, 20), (1, 30), (5, 10), (7, 12), (9, 10), (10, 9)]) == [(1, 30), (5, 10), (10, 9)]


def test_plots_say_in_words_what_they_show(records: list[Record]) -> None:
    report = view(records)
    assert [plot.name for plot in report.plots] == [
        "wer-latency",
        "wer-macs",
        "latency-parts",
        "curves-wer",
        "curves-loss",
    ]
    assert "LRINet + CRKD INT8: WER 13.4 % [10.2, 16.6], 6.28 ms" in report.plots[0].alt
    assert report.plots[0].alt.endswith(
        "On the Pareto front: Teacher FP32, STGT + TRKD INT8 †, LRINet + CRKD FP32 and LRINet + CRKD INT8."
    )
    assert report.plots[0].inline.count("<title>") == 9


def test_invalid_rows_are_greyed_and_off_the_front(records: list[Record]) -> None:
    rows = [
        r.model_copy(update={"valid": False}) if isinstance(r, SystemRecord) and r.system == "lrinet-crkd-int8" else r
        for r in records
    ]
    plot = view(rows).tradeoffs[0]
    assert "LRINet + CRKD INT8 (invalid)" in plot.inline
    assert "(invalid)" not in plot.alt.partition("On the Pareto front")[2]
    everything = [r.model_copy(update={"valid": False}) if isinstance(r, SystemRecord) else r for r in records]
    assert view(everything).tradeoffs[0].alt.endswith("On the Pareto front: none.")


def test_one_row_makes_no_tradeoff(records: list[Record]) -> None:
    report = view([r for r in records if isinstance(r, SystemRecord)][:1])
    assert [plot.name for plot in report.tradeoffs] == ["latency-parts"]


def test_curves_of_a_run_without_rows_and_with_gaps(records: list[Record]) -> None:
    curve = next(r for r in records if isinstance(r, CurveRecord) and r.run == "lrinet-crkd")
    points = [p.model_copy(update={"dev_wer": None}) if p.epoch % 2 else p for p in curve.points]
    points[0] = points[0].model_copy(update={"losses": {"ctc": float("nan"), "crkd": 0.0}})
    report = view([curve.model_copy(update={"points": points, "run": "elsewhere"})])
    assert [plot.name for plot in report.training] == ["curves-wer", "curves-loss"]
    silent = [p.model_copy(update={"dev_wer": None, "losses": {}}) for p in points]
    assert view([curve.model_copy(update={"points": silent})]).training == []


def test_a_dollar_sign_in_a_name_is_no_formula(records: list[Record]) -> None:
    rows = [r.model_copy(update={"architecture": "a$b$_c"}) for r in records if isinstance(r, SystemRecord)]
    assert "a$b$_c + TRKD FP32" in view(rows).tradeoffs[0].inline


def test_palette_is_unambiguous_and_legible() -> None:
    light = [values[0] for values in TOKENS.values()]
    assert len(set(light)) == len(light)
    for token in ("ink", "muted", "teacher", "vermillion", "blue", "green", "purple"):
        for theme in (0, 1):
            assert contrast(TOKENS[token][theme], TOKENS["surface"][theme]) >= 4.5, (token, theme)


def test_known_architectures_keep_their_style_whoever_stands_beside_them() -> None:
    alone, crowded = styles(["lrinet"], None), styles(["x", "teacher", "y", "lrinet"], "teacher")
    assert alone["lrinet"] == crowded["lrinet"]
    assert len(set(crowded.values())) == 4


def contrast(one: str, other: str) -> float:
    """Contrast ratio as WCAG 2 defines it."""

    def luminance(text: str) -> float:
        channels = [int(text[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)
