"""Scoring protocols: what each clean-up makes of words, and what silence costs.

The expected words were obtained by running the published evaluation scripts of both corpora on the same lines.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from bench.score import protocol as protocols
from bench.score.ctm import CtmWord, read_ctm, write_ctm
from bench.score.protocol import Protocol, load_protocol, names
from bench.score.scoring import score, score_files
from bench.score.stm import read_stm, write_stm
from runtime.errors import BadInput
from runtime.wer import Counts

EMPTY = ["[EMPTY]"]
# word, 2014, 2014 T; [EMPTY]: nothing is left of the utterance, []: its only line is gone
CLEANED = [
    ("REGEN", ["REGEN"], ["REGEN"]),
    ("__ON__", ["__ON__"], []),
    ("__OFF__", ["__OFF__"], []),
    ("__EPENTHESIS__", [], []),
    ("__EPENTHESIS__A", [], []),
    ("__PU__", EMPTY, []),
    ("__EMOTION__", EMPTY, []),
    ("__LEFTHAND__", EMPTY, []),
    ("__LEFTHAND__X", ["X"], []),
    ("__A_B__", ["__A_B__"], ["__A_B__"]),
    ("[EMPTY]", EMPTY, EMPTY),
    ("HABEN2", ["HABEN"], ["HABEN2"]),
    ("S0NNE", ["SONNE"], ["S0NNE"]),
    ("ZEIGEN", ["ZEIGEN-BILDSCHIRM"], ["ZEIGEN"]),
    ("ANZEIGEN", ["ANZEIGEN-BILDSCHIRM"], ["ANZEIGEN"]),
    ("ZEITRAUM", ["ZEIT"], ["ZEIT"]),
    ("RAUM", ["RAUM"], ["RAUM"]),
    ("XRAUM", ["XRAUM"], ["X"]),
    ("NORDRAUMRAUM", ["NORDRAUM"], ["NORDRAUM"]),
    ("GRÜNRAUM", ["GRÜNRAUM"], ["GRÜN"]),
    ("loc-NORD", ["NORD"], ["NORD"]),
    ("loc-", EMPTY, EMPTY),
    ("cl-X-cl-Y", ["X-Y"], ["X-cl-Y"]),
    ("loc-cl-ALPEN", ["ALPEN"], ["ALPEN"]),
    ("qu-WAS", ["WAS"], ["qu-WAS"]),
    ("poss-ICH", ["ICH"], ["poss-ICH"]),
    ("lh-GUT", ["GUT"], ["lh-GUT"]),
    ("lh-", EMPTY, ["lh-"]),
    ("MAL-PLUSPLUS", ["MAL"], ["MAL"]),
    ("A-PLUSPLUSB", ["AB"], ["A-PLUSPLUSB"]),
    ("negalp-KEIN", ["negalp-KEIN"], ["negalp-KEIN"]),
]


def _words(*spoken: tuple[str, str], start: int = 0) -> list[CtmWord]:
    return [
        CtmWord(utterance, "1", f"{(start + index) / 100:.2f}", "0.01", word, index + 1)
        for index, (utterance, word) in enumerate(spoken)
    ]


@pytest.mark.parametrize(("word", "in_2014", "in_2014t"), CLEANED)
def test_words_are_cleaned_as_published(word: str, in_2014: list[str], in_2014t: list[str]) -> None:
    words = _words(("a", word), ("b", "REST"))
    assert load_protocol("phoenix2014").hypotheses(words).get("a", []) == in_2014
    assert load_protocol("phoenix2014t").hypotheses(words).get("a", []) == in_2014t
    assert load_protocol("plain").hypotheses(words)["a"] == [word]


def test_rules_over_several_words_do_nothing_to_a_ctm_but_clean_a_sentence() -> None:
    phoenix = load_protocol("phoenix2014")
    spelled = ["A", "B", "C", "WIE", "AUSSEHEN", "REGEN", "REGEN"]
    assert phoenix.hypotheses(_words(*(("u", word) for word in spelled))) == {"u": spelled}
    assert phoenix.clean("IX A B C WIE AUSSEHEN REGEN REGEN REGEN") == "IX A+B+C WIE-AUSSEHEN REGEN"
    assert phoenix.clean("IX __EPENTHESIS__") is None


def test_2014t_drops_repeated_words_within_an_utterance_only() -> None:
    words = _words(("u", "WIND"), ("u", "loc-WIND"), ("u", "__ON__"), ("u", "WIND"), ("u", "IX"), ("v", "IX"))
    assert load_protocol("phoenix2014t").hypotheses(words) == {"u": ["WIND", "IX"], "v": ["IX"]}
    assert load_protocol("phoenix2014").hypotheses(words)["u"] == ["WIND", "WIND", "__ON__", "WIND", "IX"]


def test_2014_orders_words_by_start_as_text() -> None:
    words = [CtmWord("u", "1", start, "0.1", f"W{start}", 1) for start in ("9.00", "10.00", "0.50")]
    assert load_protocol("phoenix2014").hypotheses(words)["u"] == ["W0.50", "W10.00", "W9.00"]
    assert load_protocol("plain").hypotheses(words)["u"] == ["W9.00", "W10.00", "W0.50"]


def test_2014_fills_an_emptied_run_of_lines_even_where_the_utterance_speaks_later() -> None:
    words = _words(("a", "__PU__"), ("b", "X"), ("a", "Y"), ("b", "__PU__"), ("c", "__PU__"))
    found = load_protocol("phoenix2014").hypotheses(words)
    assert found == {"a": ["[EMPTY]", "Y"], "b": ["X"]}  # the last run of the file, c, is not filled


def _reference(folder: Path, references: dict[str, str]) -> Path:
    write_stm(folder / "r.stm", {name: words.split() for name, words in references.items()})
    return folder / "r.stm"


def test_silence_costs_deletions_in_plain_and_one_substitution_in_phoenix(tmp_path: Path) -> None:
    references = read_stm(_reference(tmp_path, {"a": "REGEN WIND IX", "b": "SONNE", "c": "NORD"}))
    words = _words(("b", "SONNE"), ("c", "__PU__"))
    plain = score(words, references, load_protocol("plain"))
    assert plain.total == Counts(1, 1, 3, 0)
    assert plain.unanswered == ["a"]
    for name in ("phoenix2014", "phoenix2014t"):
        cleaned = score(words, references, load_protocol(name))
        assert [scored.counts for scored in cleaned.utterances] == [
            Counts(0, 1, 2, 0),
            Counts(1, 0, 0, 0),
            Counts(0, 1, 0, 0),
        ]


def test_nothing_recognised_at_all_is_a_rate_of_100(tmp_path: Path) -> None:
    reference = _reference(tmp_path, {"a": "REGEN WIND", "b": "SONNE"})
    write_ctm(tmp_path / "h.ctm", {})
    for name in names():
        assert score_files(tmp_path / "h.ctm", reference, load_protocol(name)).total.wer == 100.0


def test_utterances_are_matched_by_name_and_kept_in_the_order_of_the_reference(tmp_path: Path) -> None:
    reference = tmp_path / "r.stm"
    reference.write_text("z 1 s 0 9 A\na 1 s 0 9 B\n")
    write_ctm(tmp_path / "h.ctm", {"a": ["B"], "z": ["A"]})
    result = score_files(tmp_path / "h.ctm", reference, load_protocol("plain"))
    assert [scored.id for scored in result.utterances] == ["z", "a"]
    assert result.total.wer == 0.0


@pytest.mark.parametrize("name", ["plain", "phoenix2014", "phoenix2014t"])
def test_a_surplus_utterance_is_named(tmp_path: Path, name: str) -> None:
    reference = _reference(tmp_path, {"a": "REGEN"})
    hypothesis = tmp_path / "h.ctm"
    hypothesis.write_text("a 1 0.00 0.01 REGEN\nstranger 1 0.00 0.01 __EPENTHESIS__\n")
    with pytest.raises(BadInput, match=r"h\.ctm:2: utterance stranger is not in the reference"):
        score_files(hypothesis, reference, load_protocol(name))


def test_another_channel_is_named(tmp_path: Path) -> None:
    hypothesis = tmp_path / "h.ctm"
    hypothesis.write_text("a B 0.00 0.01 REGEN\n")
    with pytest.raises(BadInput, match=r"h\.ctm:1: utterance a has channel B, but the reference has 1"):
        score_files(hypothesis, _reference(tmp_path, {"a": "REGEN"}), load_protocol("plain"))


def test_an_utterance_written_twice_is_named_unless_the_protocol_sorts(tmp_path: Path) -> None:
    reference = _reference(tmp_path, {"a": "REGEN WIND", "b": "IX"})
    hypothesis = tmp_path / "h.ctm"
    hypothesis.write_text("a 1 0.00 0.01 REGEN\nb 1 0.00 0.01 IX\na 1 0.01 0.01 WIND\n")
    for name in ("plain", "phoenix2014t"):
        with pytest.raises(BadInput, match=r"h\.ctm:3: utterance a goes on after others \(before: line 1\)"):
            score_files(hypothesis, reference, load_protocol(name))
    assert score_files(hypothesis, reference, load_protocol("phoenix2014")).total.wer == 0.0


def test_every_protocol_loads_and_an_unknown_one_is_named() -> None:
    assert names() == ["phoenix2014", "phoenix2014t", "plain"]
    assert all(load_protocol(name).title for name in names())
    with pytest.raises(BadInput, match="no scoring protocol 'phoenix'; there are: phoenix2014, phoenix2014t, plain"):
        load_protocol("phoenix")


@pytest.mark.parametrize(
    "rule", [{"drop": "("}, {"replace": "a", "by": r"\1"}, {"replace": "a"}, {"drop": "a", "times": 0}]
)
def test_a_broken_rule_is_found_on_load(rule: dict[str, object]) -> None:
    good = load_protocol("plain").model_dump()
    with pytest.raises(ValidationError):
        Protocol.model_validate({**good, "rules": [rule]})


def test_a_broken_protocol_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocols, "FOLDER", tmp_path)
    (tmp_path / "own.yaml").write_text("title: own\nrules: [")
    with pytest.raises(BadInput, match=r"own\.yaml: not YAML"):
        load_protocol("own")
    (tmp_path / "own.yaml").write_text("title: own\n")
    with pytest.raises(BadInput, match=r"own\.yaml: source: Field required"):
        load_protocol("own")


def test_a_written_ctm_scores_like_the_words_in_memory(tmp_path: Path) -> None:
    references = {"a": ["A", "B"], "b": ["C"]}
    write_stm(tmp_path / "r.stm", references)
    write_ctm(tmp_path / "h.ctm", {"a": ["A", "X", "B"], "b": ["C"]})
    direct = score(read_ctm(tmp_path / "h.ctm"), read_stm(tmp_path / "r.stm"), load_protocol("plain"))
    assert direct.total == Counts(3, 0, 0, 1)
