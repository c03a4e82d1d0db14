"""NIST's own sclite as the judge: same alignment, same counts, file by file. Skipped where sclite is not installed."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.score.ctm import read_ctm, write_ctm
from bench.score.protocol import load_protocol
from bench.score.scoring import Score, score_files
from bench.score.stm import write_stm
from runtime.wer import aligned

Judged = dict[str, tuple[tuple[int, int, int, int], list[str], list[str]]]
Judge = Callable[[Path, Path], Judged]

# Words that the clean-ups touch, and words that sclite might take for something else.
# fmt: off
ODD = [
    "[EMPTY]", "Ü", "ü", "ÄRAUM", "ß", "é", "É", "WIE-AUSSEHEN", "WIE", "AUSSEHEN", "A-", "-A", "A", "(B)", "B",
    "A+B", "A/B", "}", ";", ":", "*", "***", "%", "%A", "#", "&", "<x>", "__ON__", "__OFF__", "__PU__", "__EMOTION__",
    "__EPENTHESIS__", "loc-", "lh-", "loc-NORD", "cl-NORD", "NORD", "ZEIGEN", "ZEITRAUM", "ZEIT", "HABEN2", "HABEN",
    "MAL-PLUSPLUS", "MAL",
]
# fmt: on


@pytest.fixture(scope="session")
def sclite() -> Judge:
    program = shutil.which("sclite") or "/usr/lib/sctk/bin/sclite"
    if not Path(program).is_file():
        pytest.skip("sclite is not installed; on Debian: apt-get install sctk")

    def judge(hypothesis: Path, reference: Path) -> Judged:
        command = [program, "-h", str(hypothesis), "ctm", "-r", str(reference), "stm", "-f", "0", "-o", "pra", "stdout"]
        done = subprocess.run(command, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        return _parse(done.stdout.decode())

    return judge


def _parse(printed: str) -> Judged:
    """sclite's alignment listing -> lower-cased utterance: counts (C, S, D, I), words of both sides with gaps."""
    found: Judged = {}
    for block in printed.split("\nid: ")[1:]:
        name = re.search(r"^File: (\S+)", block, re.MULTILINE)
        counts = re.search(r"^Scores: \(#C #S #D #I\) (\d+) (\d+) (\d+) (\d+)", block, re.MULTILINE)
        sides = [re.search(rf"^{side}:(.*)", block, re.MULTILINE) for side in ("REF", "HYP")]
        assert name and counts and all(sides)
        c, s, d, i = map(int, counts.groups())
        found[name[1]] = ((c, s, d, i), *(side[1].split() for side in sides if side))  # type: ignore[assignment]
    return found


def _counts(result: Score) -> dict[str, tuple[int, int, int, int]]:
    return {
        scored.id: (
            scored.counts.correct,
            scored.counts.substitutions,
            scored.counts.deletions,
            scored.counts.insertions,
        )
        for scored in result.utterances
    }


def _corpus(seed: int, vocabulary: list[str], utterances: int) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """References, and hypotheses that are the references misread."""
    rng = random.Random(seed)
    references, hypotheses = {}, {}
    for index in range(utterances):
        words = rng.choices(vocabulary, k=rng.randint(1, 14))
        heard: list[str] = []
        for word in words:
            fate = rng.random()
            if fate < 0.55:
                heard.append(word)
            elif fate < 0.7:
                heard.append(rng.choice(vocabulary))
            elif fate < 0.85:
                heard.extend([word, rng.choice([word, *vocabulary])])
        references[f"u{index:04d}"] = words
        hypotheses[f"u{index:04d}"] = heard if rng.random() > 0.05 else []
    return references, hypotheses


@pytest.mark.parametrize("size", [2, 4, 8, 30])
def test_alignments_are_sclites_word_for_word(tmp_path: Path, sclite: Judge, size: int) -> None:
    references, hypotheses = _corpus(size, [f"w{letter}" for letter in "abcdefghijklmnopqrstuvwxyzåäöé"[:size]], 400)
    write_stm(tmp_path / "r.stm", references)
    write_ctm(tmp_path / "h.ctm", hypotheses)
    judged = sclite(tmp_path / "h.ctm", tmp_path / "r.stm")
    result = score_files(tmp_path / "h.ctm", tmp_path / "r.stm", load_protocol("plain"))
    assert _counts(result) == {name: counts for name, (counts, _, _) in judged.items()}
    for name, (_, upper, lower) in judged.items():
        steps = aligned(references[name], hypotheses[name])
        assert [wanted or "*" for wanted, _ in steps] == [_unstarred(word) for word in upper]
        assert [heard or "*" for _, heard in steps] == [_unstarred(word) for word in lower]


def _unstarred(word: str) -> str:
    """sclite prints a gap as stars and an error in capitals."""
    return "*" if set(word) == {"*"} else word.translate({code: code + 32 for code in range(65, 91)})


@pytest.mark.parametrize("seed", [1, 2])
def test_odd_words_count_alike_without_clean_up(tmp_path: Path, sclite: Judge, seed: int) -> None:
    vocabulary = [word for word in ODD if not (word.startswith("<") and word.endswith(">"))]
    references, hypotheses = _corpus(seed, vocabulary, 300)
    write_stm(tmp_path / "r.stm", references)
    write_ctm(tmp_path / "h.ctm", hypotheses)
    judged = sclite(tmp_path / "h.ctm", tmp_path / "r.stm")
    result = score_files(tmp_path / "h.ctm", tmp_path / "r.stm", load_protocol("plain"))
    assert _counts(result) == {name: counts for name, (counts, _, _) in judged.items()}


@pytest.mark.parametrize("name", ["phoenix2014", "phoenix2014t"])
def test_a_cleaned_ctm_given_to_sclite_scores_alike(tmp_path: Path, sclite: Judge, name: str) -> None:
    """The whole way: read, clean, fill, order, align; sclite gets what the clean-up left, written out by itself."""
    references, hypotheses = _corpus(5, ODD[:40], 300)
    references = {key: [word for word in words if word[0] != "<"] or ["IX"] for key, words in references.items()}
    protocol = load_protocol(name)
    write_stm(tmp_path / "r.stm", references)
    write_ctm(tmp_path / "h.ctm", hypotheses)
    result = score_files(tmp_path / "h.ctm", tmp_path / "r.stm", protocol)
    cleaned = protocol.hypotheses(read_ctm(tmp_path / "h.ctm"))
    write_ctm(tmp_path / "clean.ctm", {key: cleaned.get(key, ["[EMPTY]"]) for key in references})
    judged = sclite(tmp_path / "clean.ctm", tmp_path / "r.stm")
    assert _counts(result) == {key: counts for key, (counts, _, _) in judged.items()}
    assert result.total.substitutions and result.total.deletions and result.total.insertions
