"""The page: self-contained, escaped, the same for the same records, and saying what the records hold."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
import report_records as made_up

from bench.record import (
    ComparisonRecord,
    CurveRecord,
    ExampleRecord,
    NoteRecord,
    Record,
    SystemRecord,
    write_records,
)
from bench.report.view import view
from bench.report.write import markdown, page, write_report
from runtime.errors import BadInput

VOID = {"meta", "img", "br", "hr", "link", "input", "path", "circle", "rect", "use"}


class Outline(HTMLParser):
    """Collects what the checks below need, and finds tags that do not close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.broken: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.broken.append(tag)

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text.append(data)


def outline(text: str) -> Outline:
    parser = Outline()
    parser.feed(text)
    parser.close()
    return parser


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return made_up.build()


@pytest.fixture(scope="module")
def folder(records: list[Record], tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("report")
    write_records(place / "results.jsonl", records)
    return write_report(place / "results.jsonl", place / "out").parent


@pytest.fixture(scope="module")
def html(folder: Path) -> str:
    return (folder / "index.html").read_text(encoding="utf-8")


def test_page_refers_to_nothing_outside_itself(html: str) -> None:
    parsed = outline(html)
    links = [value for _, attributes in parsed.tags for name, value in attributes.items() if name in ("src", "href")]
    assert links
    assert all(link and link.startswith(("data:image/", "#")) for link in links)
    assert not re.search(r"https?://|@import|url\((?!#)", html)


def test_page_is_well_formed(html: str) -> None:
    parsed = outline(html)
    assert (parsed.broken, parsed.open) == ([], [])
    ids = Counter(attributes["id"] for _, attributes in parsed.tags if "id" in attributes)
    assert [name for name, count in ids.items() if count > 1] == []
    targets = set(re.findall(r'(?:href="#|url\(#)([^")]+)', html))
    assert targets <= set(ids)


def test_pictures_and_plots_are_described(html: str) -> None:
    parsed = outline(html)
    assert all(attributes.get("alt") for tag, attributes in parsed.tags if tag == "img")
    plots = [attributes for tag, attributes in parsed.tags if tag == "svg" and attributes.get("role") == "img"]
    assert len(plots) == 5
    assert all("WER" in (plot["aria-label"] or "") or "ms" in (plot["aria-label"] or "") for plot in plots[:3])
    assert all(a.get("aria-hidden") for tag, a in parsed.tags if tag == "svg" and a.get("role") != "img")


def test_plots_follow_the_theme_on_the_page_but_not_in_their_files(html: str, folder: Path) -> None:
    assert "fill: var(--ink)" in html
    for file in sorted((folder / "figures").glob("*.svg")):
        text = file.read_text(encoding="utf-8")
        assert "var(--" not in text
        assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"


def test_the_same_records_give_the_same_bytes(records: list[Record], folder: Path, tmp_path: Path) -> None:
    write_records(tmp_path / "results.jsonl", records)
    again = write_report(tmp_path / "results.jsonl", tmp_path / "elsewhere").parent
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert all((folder / file).read_bytes() == (again / file).read_bytes() for file in files)


def test_figures_of_the_records_stand_in_page_and_markdown(html: str, folder: Path) -> None:
    text = (folder / "report.md").read_text(encoding="utf-8")
    for words in ("LRINet + CRKD", "STGT + TRKD", "[9.9, 15.9]", "40 / 27 / 15", "17×", "PyTorch eager", "612\u202fk"):
        assert words in html
        assert words.replace("[", "\\[").replace("]", "\\]") in text
    assert "Made-up CPU 9000" in html
    assert "name: lrinet-crkd" in html


def test_markdown_shows_files_that_exist_and_nothing_else(folder: Path) -> None:
    text = (folder / "report.md").read_text(encoding="utf-8")
    shown = re.findall(r"!\[[^\n]*?\]\(([^)]+)\)", text)
    assert len(shown) == 5 + 4 * 8
    assert set(shown) == {f"figures/{path.name}" for path in (folder / "figures").iterdir()}


def test_markdown_tables_keep_their_columns(folder: Path) -> None:
    text = (folder / "report.md").read_text(encoding="utf-8")
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1


HOSTILE = '<script>alert("x")</script>|`$x$`\n![y](javascript:z) &amp; "\'--'


@pytest.fixture(scope="module")
def hostile(records: list[Record]) -> list[Record]:
    """The made-up records with hostile text wherever a record holds free text."""
    changed: list[Record] = []
    for record in records:
        origin = record.provenance.model_copy(update={"command": HOSTILE, "host": {HOSTILE: HOSTILE}})
        update: dict = {"provenance": origin}
        if isinstance(record, SystemRecord):
            assert record.wer is not None
            first = record.wer.utterances[3].model_copy(update={"hypothesis": [HOSTILE, "RAIN"]})
            utterances = [*record.wer.utterances[:3], first, *record.wer.utterances[4:]]
            update["wer"] = record.wer.model_copy(update={"utterances": utterances, "decoder": HOSTILE})
            update |= {"reasons": [HOSTILE], "pose_note": HOSTILE, "target": HOSTILE}
            if record.architecture != "cnn2d1d":
                update["architecture"] = record.architecture + HOSTILE
        if isinstance(record, ExampleRecord):
            update |= {"reference": [*record.reference, HOSTILE], "signer": HOSTILE}
        if isinstance(record, CurveRecord):
            points = [p.model_copy(update={"losses": p.losses | {HOSTILE: 1.0}}) for p in record.points]
            update |= {"recipe": f"```\n{HOSTILE}\n````", "points": points}
        if isinstance(record, NoteRecord):
            update["text"] = HOSTILE
        changed.append(record.model_copy(update=update))
    return changed


def test_hostile_text_is_only_text_on_the_page(hostile: list[Record]) -> None:
    parsed = outline(page(view(hostile)))
    assert [tag for tag, _ in parsed.tags].count("script") == 1  # the page's own
    assert parsed.broken == []
    assert 'alert("x")' in "".join(parsed.text)


def test_hostile_text_is_only_text_in_the_markdown_and_its_figures(hostile: list[Record]) -> None:
    report = view(hostile)
    text = markdown(report)
    outside = re.sub(r"^(`{3,})yaml\n.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert "<script" not in outside
    assert "![y]" not in outside
    assert "`````yaml" in text  # a fence longer than any in the recipe
    for plot in report.plots:
        assert b"script" not in {
            element.tag.split("}")[-1].encode() for element in ElementTree.fromstring(plot.standalone).iter()
        }


@pytest.mark.parametrize(
    "uri", ["https://example.org/x.png", "data:text/html;base64,AAAA", "data:image/png;base64,A", ""]
)
def test_only_embedded_pictures_are_accepted(records: list[Record], uri: str) -> None:
    example = next(r for r in records if isinstance(r, ExampleRecord)).model_copy(update={"pictures": [uri]})
    with pytest.raises(BadInput, match=r"test-003.*picture 1"):
        view([example])


def test_a_long_sentence_goes_on_in_a_further_block(records: list[Record]) -> None:
    example = next(r for r in records if isinstance(r, ExampleRecord))
    words = [f"W{i}" for i in range(25)]
    shown = view([*records, example.model_copy(update={"clip": "long", "reference": words})]).examples[-1]
    assert [len(block.reference) for block in shown.blocks] == [11, 11, 3]


def test_readings_stand_under_the_words_they_were_aligned_with(records: list[Record]) -> None:
    for example in view(records).examples:
        columns = [word for block in example.blocks for word in block.reference]
        assert [word for word in columns if word] == example.reference
        for reading in example.readings:
            assert len(reading.marks) == len(columns)
            for word, mark in zip(columns, reading.marks, strict=True):
                assert (mark.kind in ("insertion", "empty")) == (word == "")
                assert mark.due == word


@pytest.mark.parametrize("kind", ["note", "curve", "corpus", "refusal", "example", "comparison", "system"])
def test_records_of_one_kind_alone_make_a_page(records: list[Record], kind: str) -> None:
    report = view([record for record in records if record.kind == kind])
    assert outline(page(report)).broken == []
    assert markdown(report).startswith("# ")


def test_sparse_rows_show_what_is_missing(records: list[Record]) -> None:
    bare = {"wer": None, "latency": None, "complexity": None, "peak_memory_mb": None}
    rows = [r.model_copy(update=bare) if isinstance(r, SystemRecord) else r for r in records]
    rows = [r for r in rows if not isinstance(r, ComparisonRecord)]
    report = view(rows)
    assert report.summary.best is None
    assert all(row.cells["clip_time"].main == "–" for row in report.rows)
    assert outline(page(report)).broken == []
