"""What the report concludes: who the teacher is, the summary, the verdicts, and what it warns of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import report_records as made_up

from bench.record import (
    UNKNOWN,
    ComparisonRecord,
    CorpusRecord,
    CurveRecord,
    Interval,
    KeypointTrack,
    Record,
    RefusalRecord,
    SystemRecord,
    read_records,
)
from bench.report import formats
from bench.report.cast import gather_cast
from bench.report.comparisons import judge
from bench.report.obtained import methods
from bench.report.view import Report, view
from bench.report.write import markdown, page
from runtime.errors import BadInput


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return made_up.build()


def change(records: list[Record], system: str, **update: object) -> list[Record]:
    """The records with some fields of one system replaced."""
    return [r.model_copy(update=update) if isinstance(r, SystemRecord) and r.system == system else r for r in records]


def change_part(records: list[Record], system: str, part: str, **update: object) -> list[Record]:
    """The same for a field of the row's `wer`, `latency` or `complexity`."""
    row = next(r for r in records if isinstance(r, SystemRecord) and r.system == system)
    return change(records, system, **{part: getattr(row, part).model_copy(update=update)})


def leads(report: Report) -> list[str]:
    return [caution.lead for caution in report.cautions]


def text_of(report: Report, lead: str) -> str:
    return next(caution.text for caution in report.cautions if caution.lead == lead)


def test_teacher_is_the_one_that_others_are_compared_with(records: list[Record]) -> None:
    renamed = [r.model_copy(update={"run": "big"}) if getattr(r, "run", "") == "teacher" else r for r in records]
    cast = gather_cast(renamed)
    assert (cast.role, cast.reference) == ("teacher", {"teacher-eager", "teacher-fp32"})
    assert cast.baseline is not None
    assert cast.baseline.system == "teacher-fp32"


def test_nobody_is_called_the_teacher_from_whom_nobody_learnt(records: list[Record]) -> None:
    """What the user names by --against is the baseline, whatever the runs are, unless another row learnt from it."""
    rows = [r for r in records if isinstance(r, SystemRecord)]

    def named(against: str, taught_by: str) -> list[Record]:
        return [
            r.model_copy(update={
                "taught_by": taught_by if r.distillation else "",
                "wer": r.wer and r.wer.model_copy(update={"against": None if r.system == against else against}),
                "provenance": r.provenance.model_copy(update={"checkpoint": f"checkpoint of {r.run}"}),
            })
            for r in rows
        ]  # fmt: skip

    cast = gather_cast(named("lrinet-fp32", "checkpoint of teacher"))
    assert (cast.role, cast.reference) == ("baseline", {"lrinet-fp32"})
    cast = gather_cast(named("teacher-fp32", "checkpoint of teacher"))
    assert (cast.role, cast.reference) == ("teacher", {"teacher-eager", "teacher-fp32"})
    untaught = [r.model_copy(update={"distillation": "", "taught_by": ""}) for r in rows]
    assert gather_cast(untaught).role == "baseline"
    text = page(view(named("lrinet-fp32", "checkpoint of teacher")))
    assert "The systems against the baseline" in text and "against their teacher" not in text


def test_rows_stand_teacher_first_and_full_precision_first(records: list[Record]) -> None:
    names = list(gather_cast(records[::-1]).systems)
    assert names[:2] == ["teacher-eager", "teacher-fp32"]
    assert names.index("lrinet-crkd-fp32") + 1 == names.index("lrinet-crkd-int8")


def test_runs_that_would_share_a_name_are_told_apart(records: list[Record]) -> None:
    twin = next(r for r in records if isinstance(r, SystemRecord) and r.system == "lrinet-fp32")
    cast = gather_cast([*records, twin.model_copy(update={"system": "lrinet-b-fp32", "run": "lrinet-b"})])
    assert cast.name_of("lrinet-b-fp32") == "LRINet (lrinet-b) FP32"
    assert cast.name_of("lrinet-crkd-fp32") == "LRINet + CRKD FP32"


def test_a_system_named_twice_is_refused(records: list[Record]) -> None:
    with pytest.raises(BadInput, match="'teacher-eager' occurs 2 times"):
        view([*records, *(r for r in records if isinstance(r, SystemRecord) and r.system == "teacher-eager")])


def test_speedup_prefers_the_interleaved_ratio(records: list[Record]) -> None:
    ratios = [
        r.model_copy(update={"ratio": 99.0})
        if isinstance(r, ComparisonRecord) and (r.system, r.quantity) == ("lrinet-int8", "latency_ratio")
        else r
        for r in records
    ]
    rows = {row.system.system: row.cells["speedup"] for row in view(ratios).rows}
    assert rows["lrinet-int8"].main == "99×"
    without = [r for r in records if not (isinstance(r, ComparisonRecord) and r.system == "lrinet-int8")]
    cell = next(row for row in view(without).rows if row.system.system == "lrinet-int8").cells["speedup"]
    assert (cell.main, cell.detail) == ("17×", "of medians")
    assert rows["teacher-fp32"].detail == "reference"


def test_summary_speaks_of_the_fastest_row_of_the_best_network(records: list[Record]) -> None:
    summary = view(records).summary
    assert summary.best is not None
    assert summary.best.system == "lrinet-crkd-int8"
    text = " ".join(summary.sentences)
    assert "16.6 times as fast" in text
    assert "1.7 points more than the teacher [−1.5, +4.8], an interval that includes 0" in text
    assert "CRKD on LRINet lowers its WER" in text
    assert "TRKD on STGT changes its WER by" in text and "no gain is shown at this size" in text
    assert [figure.value for figure in summary.figures] == ["11.6", "13.4", "17", "20"]


def test_summary_passes_over_invalid_rows_and_names_the_missing_pose_estimator(records: list[Record]) -> None:
    for system in ("lrinet-fp32", "lrinet-int8", "lrinet-crkd-fp32", "lrinet-crkd-int8"):
        records = change(records, system, valid=False, reasons=["the machine throttled"])
    summary = view(records).summary
    assert summary.best is not None
    assert summary.best.system == "stgt-trkd-int8"
    assert "its pose estimator not included" in " ".join(summary.sentences)
    assert any("pose not included" in figure.detail for figure in summary.figures)
    measured = view(change(records, "stgt-trkd-int8", pose_ms_per_frame=0.4)).summary
    assert "0.400 ms a frame for its pose estimator, not included" in " ".join(measured.sentences)


def test_without_a_teacher_the_page_says_so(records: list[Record]) -> None:
    rows = [r for r in records if getattr(r, "run", "") != "teacher" and r.kind != "comparison"]
    report = view([r.model_copy(update={"wer": None}) if isinstance(r, SystemRecord) else r for r in rows])
    assert text_of(report, "No baseline").startswith("No row is compared with another: ")
    assert report.summary.best is None
    none = "No system is the one that all others are measured by; none are compared."
    assert report.summary.sentences == [none]
    for text in (page(report), markdown(report)):
        assert "The systems measured" in text and "against the teacher" not in text


def test_without_a_teacher_the_page_agrees_with_its_pairs(records: list[Record]) -> None:
    rows = [r for r in strangers(records) if getattr(r, "against", "") != "teacher-fp32"]
    report = view(rows)
    assert [group.kind for group in report.comparisons] == ["Lower precision against FP32", "Other pairs"]
    assert text_of(report, "No baseline").startswith("Only the pairs further down are compared: ")
    (sentence,) = report.summary.sentences
    assert sentence.endswith("measured by; 4 pairs of them are compared further down.")


def strangers(records: list[Record], against: str | None = None) -> list[Record]:
    """The records as they would be of engines whose run folders were not at hand, compared with `against` or none."""
    result: list[Record] = []
    for r in records:
        if isinstance(r, SystemRecord) and r.runtime != "pytorch":
            other = None if r.system == against else against
            wer = r.wer and r.wer.model_copy(
                update={"against": other, "difference": r.wer.difference or r.wer.wer if other else None}
            )
            run = "big" if r.run == "teacher" else r.run
            unknown = {"run": run, "architecture": UNKNOWN, "distillation": "", "complexity": None, "wer": wer}
            bare = r.provenance.model_copy(update={"seed": None})
            result.append(r.model_copy(update={**unknown, "provenance": bare}))
        elif not isinstance(r, CurveRecord | SystemRecord | RefusalRecord):
            result.append(r)
    return result


@pytest.mark.parametrize("against", [None, "lrinet-fp32"])
def test_nothing_is_claimed_of_how_a_stranger_was_trained(records: list[Record], against: str | None) -> None:
    rows = [r for r in strangers(records, against) if r.kind != "comparison"]
    report = view(rows)
    for text in (page(report).partition("</style>")[2], markdown(report)):
        for claim in ("tudent", "eacher's", "the teacher", "Teacher", "unknown", "CTC", "istill"):
            assert claim not in text, claim
        assert "lrinet-crkd INT8" in text
    assert "learned is not known: the run folders were not at hand" in report.foot
    assert "One seed" not in leads(report)
    assert not any(row.hollow for row in report.rows)
    keys = {column.key for column in report.columns}
    assert "distillation" not in keys and ({"difference", "speedup"} <= keys) == (against is not None)


def test_in_a_table_with_strangers_only_what_is_known_is_said(records: list[Record]) -> None:
    report = view(change(records, "lrinet-fp32", architecture=UNKNOWN))
    rows = {row.system.system: row for row in report.rows}
    told = {name: rows[name].cells["distillation"].main for name in ("lrinet-fp32", "stgt-fp32", "stgt-trkd-fp32")}
    assert told == {"lrinet-fp32": "–", "stgt-fp32": "none", "stgt-trkd-fp32": "TRKD"}
    assert [rows[name].hollow for name in told] == [False, True, False]
    assert "Hollow marks: trained with CTC alone. How lrinet learned is not known" in report.foot
    assert report.title == "The systems against the baseline"


def test_of_strangers_the_baseline_is_the_one_that_was_named(records: list[Record]) -> None:
    report = view([r for r in strangers(records, "lrinet-int8") if r.kind != "comparison"])
    assert report.title == "The systems against the baseline"
    assert report.table_title == "The table against the baseline"
    assert report.cast.baseline is not None and report.cast.baseline.system == "lrinet-int8"
    assert [row.system.system for row in report.rows if row.reference] == ["lrinet-int8"]
    assert "to baseline" in [column.head for column in report.columns]
    first, best = report.summary.sentences
    assert "the baseline, lrinet, reads with a WER of" in first and best.startswith("The best other system, big FP32,")
    kinds = {row.system: group.kind for group in report.comparisons for row in group.rows}
    assert set(kinds.values()) == {"Against the baseline"} and "lrinet-fp32" in kinds


def test_engines_of_one_network_in_one_precision_are_told_apart(records: list[Record]) -> None:
    twin = next(r for r in records if isinstance(r, SystemRecord) and r.system == "lrinet-int8")
    cast = gather_cast([*records, twin.model_copy(update={"system": "lrinet-again"})])
    assert cast.name_of("lrinet-again") == "LRINet INT8 (lrinet-again)"
    assert cast.name_of("lrinet-int8") == "LRINet INT8 (lrinet-int8)"
    assert cast.name_of("lrinet-fp32") == "LRINet FP32"


def test_a_precision_that_a_search_chose_is_explained(records: list[Record]) -> None:
    assert "AUTO" not in view(records).foot
    found = change(records, "lrinet-int8", precision="auto")
    assert "AUTO: a search chose the precision of each node within the WER budget." in view(found).foot
    counted = change(found, "lrinet-int8", nodes={"fp32": 1, "int8": 19})
    assert "budget (lrinet-int8 has 19 nodes in INT8 and 1 node in FP32)." in view(counted).foot


def with_wer(records: list[Record], **update: object) -> list[Record]:
    """The records with some fields of every row's WER replaced."""
    return [
        r.model_copy(update={"wer": r.wer.model_copy(update=update)}) if isinstance(r, SystemRecord) and r.wer else r
        for r in records
    ]


def test_a_worthless_result_is_not_flattered(records: list[Record]) -> None:
    useless = Interval(value=96.0, low=93.0, high=99.0, resamples=400, pairs=120)
    few = next(r for r in records if isinstance(r, SystemRecord) and r.wer).wer
    assert few is not None
    cases = [
        (with_wer(records, wer=useless), "Nothing learnt", "the teacher has a WER of 96.0 % and the best student"),
        (with_wer(records, utterances=few.utterances[:29]), "Too few clips or words", "the test split has 29 clips"),
        (with_wer(records, reference_words=99), "Too few clips or words", "the test split has 99 reference words"),
    ]
    for changed, lead, words in cases:
        report = view(changed)
        assert words in text_of(report, lead)
        assert next(caution for caution in report.cautions if caution.lead == lead).grave
        headline = " ".join([*report.summary.sentences, *(figure.of for figure in report.summary.figures)])
        assert headline.startswith("The accuracy is no basis for a comparison: ")
        assert words in headline
        assert not any(claim in headline for claim in ("best student,", "times as fast", "level with", "as fast as"))


def test_speedups_across_runtimes_are_cautioned_with_both_names(records: list[Record]) -> None:
    rows = [r for r in records if getattr(r, "system", "") != "teacher-fp32"]
    text = text_of(view(rows), "Speed-ups across runtimes")
    assert "PyTorch eager" in text and "ONNX Runtime" in text


@pytest.mark.parametrize(("shift", "sentences"), [(-5.0, 1), (5.0, 2)])
def test_a_lower_precision_gain_is_told_only_where_its_verdict_differs(
    records: list[Record], shift: float, sentences: int
) -> None:
    pair = next(r for r in records if isinstance(r, ComparisonRecord) and r.name == "CRKD gain" and r.quantity == "wer")
    low = Interval(value=shift, low=shift - 1, high=shift + 1, resamples=10)
    names = {"system": "lrinet-crkd-int8", "against": "lrinet-int8", "difference": low}
    told = view([*records, pair.model_copy(update=names)]).summary.sentences
    assert len([sentence for sentence in told if sentence.startswith("CRKD on LRINet")]) == sentences


def test_equal_counts_of_errors_are_not_called_the_same_errors(records: list[Record]) -> None:
    equal = Interval(value=0, low=0, high=0, resamples=10)
    changed = [
        r.model_copy(update={"difference": equal}) if getattr(r, "name", "") == "CRKD gain" else r for r in records
    ]
    assert "CRKD on LRINet changes the number of errors on no clip." in view(changed).summary.sentences


@pytest.mark.parametrize(
    ("low", "value", "high", "shown"),
    [(-3, -2, -1, "better"), (1, 2, 3, "worse"), (-1, 0.5, 2, "open"), (-1, -0.5, 0, "open"), (0, 0, 0, "same")],
)
def test_verdicts_follow_the_interval(low: float, value: float, high: float, shown: str) -> None:
    assert judge(Interval(value=value, low=low, high=high, resamples=10)) == shown


def test_pairs_are_grouped_and_wer_and_latency_of_a_pair_share_a_row(records: list[Record]) -> None:
    groups = {group.kind: group.rows for group in view(records).comparisons}
    assert list(groups) == [
        "Distilled against CTC alone",
        "Lower precision against FP32",
        "Student against teacher",
        "Other pairs",
    ]
    assert all(row.difference and row.ratio for rows in groups.values() for row in rows)
    assert len(groups["Student against teacher"]) == 7
    verdicts = [row.verdict for row in groups["Distilled against CTC alone"]]
    assert verdicts == [
        "Interval includes 0: no difference shown at this size.",
        "Better by 5.3 points; interval excludes 0.",
    ]
    assert groups["Other pairs"][0].verdict == "As many errors on every clip."


def test_a_pair_with_an_unknown_system_is_still_shown(records: list[Record]) -> None:
    pair = next(r for r in records if isinstance(r, ComparisonRecord) and r.quantity == "latency_ratio")
    rows = view([*records, pair.model_copy(update={"system": "ghost"})]).comparisons[-1].rows
    assert ("ghost", "Only the times were compared.") in [(row.system, row.verdict) for row in rows]


def test_every_made_up_doubt_is_warned_of(records: list[Record]) -> None:
    report = view(records)
    assert leads(report) == [
        "stgt-int8 does not exist",
        "",
        "Synthetic signing",
        "Pose estimator not included",
        "STGT + TRKD FP32 against STGT FP32",
        "One seed",
        "Tail latency",
    ]
    assert text_of(report, "stgt-int8 does not exist").endswith("the budget is 0.5.")
    assert "662" in text_of(report, "Tail latency")


def test_invalid_rows_are_grave_and_more_so_the_reference(records: list[Record]) -> None:
    report = view(change(records, "teacher-fp32", valid=False, reasons=["times had not settled"]))
    assert report.cautions[0].lead == "Teacher FP32 is invalid"
    assert report.cautions[0].text == "Times had not settled. Every speed-up divides by this row's time."
    other = view(change(records, "lrinet-fp32", valid=False, reasons=[]))
    assert "No reason was recorded. Greyed in the plots" in other.cautions[0].text


@pytest.mark.parametrize(
    ("update", "lead"),
    [
        ({"reasons": ["compiled elsewhere"]}, "LRINet FP32"),
        ({"target": "other-cpu"}, "Several targets"),
    ],
)
def test_remarks_and_mixed_rows(records: list[Record], update: dict, lead: str) -> None:
    assert lead in leads(view(change(records, "lrinet-fp32", **update)))


@pytest.mark.parametrize(
    ("part", "update", "lead"),
    [
        ("latency", {"threads": 2}, "Several numbers of threads"),
        ("latency", {"stable": False}, "Unsettled times"),
        ("latency", {"real_time_factor": 1.3}, "Slower than the signing"),
        ("wer", {"split": "dev"}, "Several splits"),
        ("wer", {"decoder": "beam10"}, "Several decoders"),
        ("complexity", {"agreement": 1.4}, "MACs"),
    ],
)
def test_doubts_about_one_row(records: list[Record], part: str, update: dict, lead: str) -> None:
    assert lead in leads(view(change_part(records, "lrinet-fp32", part, **update)))


def test_operators_that_were_not_counted_are_named(records: list[Record]) -> None:
    row = next(r for r in records if isinstance(r, SystemRecord) and r.system == "stgt-fp32")
    assert row.complexity is not None
    counts = [row.complexity.counts[0].model_copy(update={"unsupported": {"aten::odd": 3}})]
    report = view(change_part(records, "stgt-fp32", "complexity", counts=counts))
    assert text_of(report, "MACs") == "Fvcore cannot count aten::odd: STGT."


def test_other_corpora_and_machines_are_not_compared_silently(records: list[Record]) -> None:
    origin = made_up.provenance("lrinet-fp32", corpus="d1" * 32, host={"cpu": "Another"})
    found = leads(view(change(records, "lrinet-fp32", provenance=origin)))
    assert {"Several corpora", "Several machines"} <= set(found)


def test_a_development_split_and_composed_sentences_are_called_so(records: list[Record]) -> None:
    changed: list[Record] = []
    for record in records:
        if isinstance(record, SystemRecord) and record.wer:
            record = record.model_copy(update={"wer": record.wer.model_copy(update={"split": "dev"})})
        if isinstance(record, CorpusRecord):
            record = record.model_copy(update={"corpus_kind": "composed"})
        changed.append(record)
    assert {"Not the test split", "Composed sentences"} <= set(leads(view(changed)))


def with_corpus(records: list[Record], **update: object) -> list[Record]:
    """The records with some fields of the corpus replaced."""
    return [r.model_copy(update=update) if isinstance(r, CorpusRecord) else r for r in records]


def test_what_the_check_of_the_corpus_warned_of_is_cautioned(records: list[Record]) -> None:
    told = ["dev: there are no clips", "test: never in train, so they cannot be recognised: OTHER"]
    found = [c.text for c in view(with_corpus(records, warnings=told)).cautions if c.lead == "Corpus 'synthetic-demo'"]
    assert found == [f"{text[0].upper()}{text[1:]}." for text in told]


def test_the_track_of_the_keypoints_is_told(records: list[Record]) -> None:
    hard = with_corpus(records, keypoint_track=KeypointTrack(name="hard", noise=0.12, lost=0.15))
    words = "hard track: each point off by 0.12 hand lengths (deviation) and each hand lost 15 % of the time"
    assert words in text_of(view(hard), "Key points made poor")
    full = view(with_corpus(records, keypoint_track=KeypointTrack(name="full")))
    assert "Key points made poor" not in leads(full)
    assert all(f"This is the {words}." in text for text in (page(view(hard)), markdown(view(hard))))
    assert all("This is the full track." in text for text in (page(full), markdown(full)))
    assert "This is the" not in page(view(records))
    frames = [r for r in hard if getattr(r, "modality", "") != "keypoints" and r.kind != "comparison"]
    assert "Key points made poor" not in leads(view(frames))


@pytest.mark.parametrize(
    ("others", "load", "words"),
    [
        (0.9, 0.1, "Other processes kept 0.9 of 2 cores busy while times were taken: "),
        (0.4, 1.9, ""),  # the load is signedge's own
        (None, 1.9, "The load average was 1.9 on 2 cores when the measurement began: "),
        (None, 0.8, ""),
        (None, None, ""),
    ],
)
def test_a_busy_machine_is_cautioned(
    records: list[Record], others: float | None, load: float | None, words: str
) -> None:
    for row in [r for r in records if isinstance(r, SystemRecord)]:
        records = change(records, row.system, provenance=row.provenance.model_copy(update={"load": load}))
        records = change_part(records, row.system, "latency", other_work=others)
    texts = [caution.text for caution in view(records).cautions if caution.lead == "Busy machine"]
    assert len(texts) == bool(words) and all(text.startswith(words) for text in texts)
    told = {method.figure: method.text for method in methods(gather_cast(records))}["Latency"]
    assert ("Meanwhile other processes kept" in told) == (others is not None)


def test_commit_and_load_stand_in_the_provenance(records: list[Record]) -> None:
    origin = made_up.provenance("lrinet-fp32", commit="ab" * 20, dirty=True, load=0.25)
    report = view(change(records, "lrinet-fp32", provenance=origin))
    for text in (page(report), markdown(report)):
        assert "abababababab, with uncommitted changes" in text and "0.25" in text
    clean = view(change(records, "lrinet-fp32", provenance=origin.model_copy(update={"dirty": False})))
    assert [o.commit for o in clean.origins] == ["", "abababababab"]
    assert "at commit" not in page(view(records))


def test_records_of_earlier_versions_are_read(records: list[Record], tmp_path: Path) -> None:
    corpus = next(r for r in records if isinstance(r, CorpusRecord))
    row = next(r for r in records if isinstance(r, SystemRecord))
    new = {"keypoint_track", "warnings", "commit", "dirty", "load", "other_work"}

    def old(value: object) -> object:
        if isinstance(value, dict):
            return {key: old(inner) for key, inner in value.items() if key not in new}
        return [old(inner) for inner in value] if isinstance(value, list) else value

    lines = [json.dumps(old(record.model_dump(mode="json"))) for record in (corpus, row)]
    (tmp_path / "old.jsonl").write_text("\n".join(lines))
    assert read_records(tmp_path / "old.jsonl") == [corpus, row]


def test_a_second_seed_and_a_measured_pose_estimator_end_their_warnings(records: list[Record]) -> None:
    for system in ("stgt-fp32", "stgt-trkd-fp32", "stgt-trkd-int8"):
        records = change(records, system, pose_ms_per_frame=0.4, pose_note="measured on the same machine")
    curve = next(r for r in records if isinstance(r, CurveRecord) and r.run == "lrinet")
    report = view([*records, curve.model_copy(update={"provenance": made_up.provenance("lrinet", seed=2)})])
    assert not {"One seed", "Pose estimator not included"} & set(leads(report))
    cell = next(row for row in report.rows if row.system.system == "stgt-fp32").cells["pose"]
    assert (cell.main, cell.detail) == ("+\u202f0.400", "a frame")
    assert "ends where its pose estimator's time is added; the front is without it" in report.tradeoffs[0].caption
    assert "hatch" in report.tradeoffs[2].inline or "pattern" in report.tradeoffs[2].inline


def test_refusals_without_figures_are_listed(records: list[Record]) -> None:
    refusal = next(r for r in records if isinstance(r, RefusalRecord))
    report = view([*records, refusal.model_copy(update={"system": "x", "wer_rise": None, "budget": None})])
    assert [r.system for r in report.refusals] == ["stgt-int8", "x"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (formats.significant(0.012345), "0.0123"),
        (formats.significant(1234.5), "1\u202f234"),
        (formats.significant(-2.5), "−2.50"),
        (formats.significant(0), "0"),
        (formats.signed(-0.04), "0.0"),
        (formats.signed(1.26), "+1.3"),
        (formats.ratio(0.6093), "0.61×"),
        (formats.ratio(123.4), "123×"),
        (formats.scaled(41.2e6), "41.2\u202fM"),
        (formats.scaled(12), "12.0"),
        (formats.megabytes(None), "–"),
        (formats.duration(42.4), "42 s"),
        (formats.duration(3725), "1 h 02 min"),
        (formats.plural(1, "clip"), "1 clip"),
        (formats.plural(2, "gloss"), "2 glosses"),
        (formats.listing(["a", "b", "c"]), "a, b and c"),
    ],
)
def test_figures_as_text(text: str, expected: str) -> None:
    assert text == expected


def test_how_figures_were_obtained_is_told_as_it_is_done(records: list[Record]) -> None:
    told = {method.figure: method.text for method in methods(gather_cast(records))}
    assert "every operator goes before one that cannot; where that does not tell, fvcore's figure" in told["MACs"]
    assert "if the two agree within 5 %" in told["MACs"]
    assert "repeated calls on the same clips as independent samples" in told["Latency"]
