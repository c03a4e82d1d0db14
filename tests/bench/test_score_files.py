"""Reading and writing ctm and stm files: right words, and errors that name file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.score.ctm import CtmWord, read_ctm, write_ctm
from bench.score.stm import read_stm, write_stm
from runtime.errors import BadInput


def _written(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_ctm_is_read_in_file_order_without_comments(tmp_path: Path) -> None:
    text = ";; made by hand\n\nu2 1 0.10 0.01 WIND\nu1\t1  0.00 0.01 SÜD 0.93\r\nu1 1 9 1 X NA\n"
    assert read_ctm(_written(tmp_path, "h.ctm", text)) == [
        CtmWord("u2", "1", "0.10", "0.01", "WIND", 3),
        CtmWord("u1", "1", "0.00", "0.01", "SÜD", 4),
        CtmWord("u1", "1", "9", "1", "X", 5),
    ]


def test_a_no_break_space_is_part_of_a_word_as_in_sclite(tmp_path: Path) -> None:
    assert read_ctm(_written(tmp_path, "h.ctm", "u 1 0 1 A\u00a0B\n"))[0].word == "A\u00a0B"


def test_a_ctm_without_words_is_a_hypothesis_of_silence(tmp_path: Path) -> None:
    assert read_ctm(_written(tmp_path, "h.ctm", "")) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("u 1 0.0", "got 3 fields"),
        ("u 1 0.0 0.1", "leave an utterance without words out"),
        ("u 1 0.0 0.1 A 0.5 lex", "got 7 fields"),
        ("u 1 zero 0.1 A", "start must be a number of seconds, got 'zero'"),
        ("u 1 0.0 nan A", "duration must be a number"),
        ("u 1 0.0 0.1 A B", "one word a line"),
        ("u 1 0.0 0.1 @", "'@'"),
        ("u 1 * * <ALT_BEGIN>", "alternative hypotheses"),
    ],
)
def test_a_bad_ctm_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = _written(tmp_path, "h.ctm", f"u 1 0.0 0.1 A\n{line}\n")
    with pytest.raises(BadInput) as caught:
        read_ctm(path)
    assert f"{path}:2: " in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_stm_is_read_with_and_without_labels(tmp_path: Path) -> None:
    text = ";; note\nu1 1 S01 0.0 1.79769e+308 REGEN  SÜD-OST\nu2 A S02 0 3.5 <o,f0> WIND\nu3 1 S02 0 1\n"
    found = read_stm(_written(tmp_path, "r.stm", text))
    assert list(found) == ["u1", "u2", "u3"]
    assert found["u1"].words == ("REGEN", "SÜD-OST")
    assert (found["u2"].words, found["u2"].channel, found["u2"].signer) == (("WIND",), "A", "S02")
    assert (found["u3"].words, found["u3"].line) == ((), 4)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("u2 1 S01 0.0", "got 4 fields"),
        ("u2 1 S01 begin 9 A", "start must be a number of seconds"),
        ("u2 1 S01 0 inf A", "end must be a number"),
        ("u2 1 S01 0 9 A { B / C }", "alternatives"),
        ("u2 1 S01 0 9 A @ B", "'@'"),
        ("u2 1 S01 0 9 IGNORE_TIME_SEGMENT_IN_SCORING", "ignored segments"),
        ("u1 1 S01 0 9 B", "utterance u1 was already on line 1"),
    ],
)
def test_a_bad_stm_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = _written(tmp_path, "r.stm", f"u1 1 S01 0 9 A\n{line}\n")
    with pytest.raises(BadInput) as caught:
        read_stm(path)
    assert f"{path}:2: " in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["", ";; nothing\n", "u1 1 S01 0 9\nu2 1 S01 0 9\n"])
def test_an_empty_reference_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadInput, match="the reference is empty"):
        read_stm(_written(tmp_path, "r.stm", text))


def test_a_file_that_is_absent_or_in_another_encoding_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"cannot read ctm .*none\.ctm: No such file"):
        read_ctm(tmp_path / "none.ctm")
    latin = _written(tmp_path, "latin.stm", "u1 1 s 0 9 A\nu2 1 s 0 9 SÜD\n".encode("latin-1"))
    with pytest.raises(BadInput, match=r"latin\.stm:2: not UTF-8; convert the stm"):
        read_stm(latin)


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    hypotheses = {"u10": ["REGEN", "SÜD"], "u1": ["IX"], "u2": []}
    write_ctm(tmp_path / "h.ctm", hypotheses)
    words = read_ctm(tmp_path / "h.ctm")
    assert [(word.utterance, word.word) for word in words] == [("u1", "IX"), ("u10", "REGEN"), ("u10", "SÜD")]
    assert [word.start for word in words] == ["0.00", "0.00", "0.01"]
    write_stm(tmp_path / "r.stm", hypotheses, {"u1": "S03"})
    references = read_stm(tmp_path / "r.stm")
    assert {name: list(found.words) for name, found in references.items()} == hypotheses
    assert [found.signer for found in references.values()] == ["S03", "unknown", "unknown"]


@pytest.mark.parametrize("name", ["", "two words", ";;u", "a\tb"])
def test_names_that_break_a_line_are_refused_and_nothing_is_left(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="cannot stand in a ctm or stm"):
        write_ctm(tmp_path / "h.ctm", {"u": [name]})
    with pytest.raises(BadInput, match="cannot stand in a ctm or stm"):
        write_stm(tmp_path / "r.stm", {name: ["A"]})
    assert list(tmp_path.iterdir()) == []
