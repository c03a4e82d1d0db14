"""Everything that the page and the Markdown show, computed once from the records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from bench.record import CorpusRecord, CurveRecord, NoteRecord, Record, RefusalRecord
from bench.report import cautions, comparisons, examples, obtained, palette, summary, table
from bench.report.cast import Cast, family, gather_cast
from bench.report.plots import breakdown, curves, tradeoff
from bench.report.plots.svg import Plot


@dataclass(frozen=True)
class Report:
    """The view model. Templates lay it out and compute nothing."""

    title: str
    subtitle: str
    cast: Cast
    styles: dict[str, palette.Style]
    summary: summary.Summary
    cautions: list[cautions.Caution]
    columns: tuple[table.Column, ...]
    rows: list[table.Row]
    foot: str
    comparisons: list[comparisons.Group]
    examples: list[examples.Example]
    corpora: list[CorpusRecord]
    refusals: list[RefusalRecord]
    notes: list[str]
    runs: list[CurveRecord]
    methods: list[obtained.Method]
    origins: list[obtained.Origin]
    sources: list[obtained.Source]
    records: Sequence[Record]

    @property
    def table_title(self) -> str:
        """Heading of the table: it is against the teacher, or the baseline, only where there is one."""
        return f"The table against the {self.cast.role}" if self.cast.reference else "The systems measured"

    @cached_property
    def tradeoffs(self) -> list[Plot]:
        """What accuracy costs: drawn on first use, like all plots."""
        plots = (
            tradeoff.wer_against_latency(self.cast, self.styles),
            tradeoff.wer_against_macs(self.cast, self.styles),
            breakdown.latency_breakdown(self.cast, self.styles),
        )
        return [plot for plot in plots if plot]

    @cached_property
    def training(self) -> list[Plot]:
        """How the runs learned."""
        plots = (
            curves.dev_wer_curves(self.records, self.cast, self.styles),
            curves.loss_curves(self.records, self.cast),
        )
        return [plot for plot in plots if plot]

    @property
    def plots(self) -> list[Plot]:
        """All plots, in the order of the page."""
        return [*self.tradeoffs, *self.training]


def view(records: Sequence[Record]) -> Report:
    """Build the view model. Raises `BadInput` for records that contradict each other or carry no real pictures."""
    cast = gather_cast(records)
    reference = family(cast.baseline) if cast.baseline else None
    styles = palette.styles([family(system) for system in cast.systems.values()], reference)
    groups = comparisons.groups(records, cast)
    corpora = [record for record in records if isinstance(record, CorpusRecord)]
    return Report(
        title=_title(cast),
        subtitle=_subtitle(records, cast, corpora),
        cast=cast,
        styles=styles,
        summary=summary.summarise(cast, groups),
        cautions=cautions.gather_cautions(records, cast, groups),
        columns=table.columns(cast),
        rows=table.rows(cast),
        foot=table.foot(cast),
        comparisons=groups,
        examples=examples.gather_examples(records, cast),
        corpora=corpora,
        refusals=[record for record in records if isinstance(record, RefusalRecord)],
        notes=[record.text for record in records if isinstance(record, NoteRecord) and record.level == "info"],
        runs=[record for record in records if isinstance(record, CurveRecord)],
        methods=obtained.methods(cast),
        origins=obtained.origins(records),
        sources=obtained.sources(records),
        records=records,
    )


def _title(cast: Cast) -> str:
    if not cast.systems:
        return "What the records hold"
    if not cast.others():
        return "The systems measured"
    return "The students against their teacher" if cast.role == "teacher" else "The systems against the baseline"


def _subtitle(records: Sequence[Record], cast: Cast, corpora: list[CorpusRecord]) -> str:
    """Corpus, target, CPU and the day of the last record."""
    parts = [corpus.name for corpus in corpora]
    parts += dict.fromkeys(system.target for system in cast.systems.values())
    parts += dict.fromkeys(r.provenance.host["cpu"] for r in records if "cpu" in r.provenance.host)
    days = sorted(r.provenance.time[:10] for r in records)
    return " · ".join([*parts, days[-1]])
