"""Decoders of libsignedge against the plain Python ones, and those against the sum over all alignments."""

from __future__ import annotations

import itertools
import math
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference_ctc as reference
from native_programs import INCLUDES, NATIVE, RUNTIME
from reference_ctc import Arpa, Beam, Options, Token

from runtime.benchmarks.native import compiler
from runtime.binding import Decoder, Decoding, Gloss, LanguageModel
from runtime.decode import greedy
from runtime.errors import BadInput

pytestmark = pytest.mark.usefixtures("library_in_use")

DRIVER = NATIVE / "decoder_driver.cpp"
DRIVER_SOURCES = ("arpa", "arpa_reader", "beam", "decoder", "greedy", "plain_file", "text")

# What a toolkit writes of a few weather forecasts; back-off weights are left out where they are zero.
WEATHER = """\
This line is a comment.

\\data\\
ngram 1=9
ngram 2=9
ngram 3=5

\\1-grams:
-1.9031\t<unk>
-99\t<s>\t-0.6532
-0.9031\t</s>
-1.1249\tHEUTE\t-0.3979
-1.0458\tREGEN\t-0.2218
-1.3010\tMORGEN\t-0.3979
-1.1549\tSONNE\t-0.3010
-1.4472\tNORD
-1.6021\tWOLKE\t-0.1249

\\2-grams:
-0.3010\t<s> HEUTE\t-0.1761
-0.5229\t<s> MORGEN\t-0.1461
-0.4437\tHEUTE REGEN\t-0.2041
-0.7782\tHEUTE NORD
-0.4771\tMORGEN SONNE\t-0.0969
-0.6021\tREGEN NORD\t-0.0792
-0.3680\tREGEN </s>
-0.2840\tSONNE </s>
-0.8451\tWOLKE REGEN

\\3-grams:
-0.1761\t<s> HEUTE REGEN
-0.2218\t<s> MORGEN SONNE
-0.3010\tHEUTE REGEN NORD
-0.3979\tREGEN NORD </s>
-0.1549\tMORGEN SONNE </s>

\\end\\
"""
WORDS = ["<blank>", "HEUTE", "REGEN", "MORGEN", "SONNE", "NORD", "WOLKE", "SCHNEE"]  # SCHNEE is unknown to it


def names(classes: int) -> list[str]:
    return ["<blank>", *(f"g{label}" for label in range(1, classes))]


def posteriors(rng: np.random.Generator, steps: int, classes: int) -> np.ndarray:
    """Log-probabilities, anything from sure to flat; often with a strong blank, now and then with equal values."""
    logits = rng.normal(size=(steps, classes)) * rng.choice([0.0, 0.3, 1.0, 3.0, 8.0])
    logits[:, 0] += rng.choice([0.0, 3.0, 6.0])
    if rng.random() < 0.2:
        logits = logits.round()
    logits -= logits.max(axis=1, keepdims=True)
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def random_arpa(rng: np.random.Generator, words: list[str], order: int) -> str:
    """A model in which every context is an n-gram, while many an ending is not."""
    grams = [[("<s>",), ("</s>",), *((word,) for word in words)]]
    if rng.random() < 0.5:
        grams[0].append(("<unk>",))
    for _ in range(1, order):
        contexts = [gram for gram in grams[-1] if gram[-1] != "</s>"]
        chosen = {
            (*contexts[rng.integers(len(contexts))], str(rng.choice(["</s>", *words]))) for _ in range(4 * len(words))
        }
        grams.append(sorted(chosen))
    lines = ["\\data\\", *(f"ngram {n} = {len(section)}" for n, section in enumerate(grams, 1))]
    for n, section in enumerate(grams, 1):
        lines += ["", f"\\{n}-grams:"]
        for gram in section:
            backoff = f"\t{rng.normal() * 0.3:.4f}" if n < order and rng.random() < 0.7 else ""
            lines.append(f"{-rng.exponential():.4f}\t{' '.join(gram)}{backoff}")
    return "\n".join([*lines, "", "\\end\\", ""])


def language_model(tmp_path: Path, text: str) -> LanguageModel:
    path = tmp_path / "model.arpa"
    path.write_bytes(text.encode())
    return LanguageModel(path)


def tokens(glosses: list[Gloss], table: list[str]) -> list[Token]:
    index = {name: label for label, name in enumerate(table)}
    return [Token(index[gloss.text], gloss.start_step, gloss.end_step, gloss.confidence) for gloss in glosses]


def same(found: list[Token], expected: list[Token]) -> bool:
    return [token[:3] for token in found] == [token[:3] for token in expected] and np.allclose(
        [token.confidence for token in found], [token.confidence for token in expected], atol=1e-5
    )


def feed(decoder: Decoder, log_probs: np.ndarray, cuts: list[int]) -> list[Token]:
    """Push piece by piece, polling after each; all glosses in the end. What was final may not come again or change."""
    table = list(decoder.glosses)
    final: list[Token] = []
    for piece in np.split(log_probs, cuts):
        decoder.push(piece)
        final += tokens([gloss for gloss in decoder.poll() if gloss.final], table)
    decoder.finish()
    rest = decoder.poll()
    assert all(gloss.final for gloss in rest)
    return final + tokens(rest, table)


def cuts(rng: np.random.Generator, steps: int) -> list[int]:
    return sorted(int(cut) for cut in rng.integers(0, steps + 1, rng.integers(0, 6)))


# --- greedy


@pytest.mark.parametrize("seed", range(8))
def test_greedy_equals_the_python_one_however_the_steps_are_cut(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(25):
        classes, steps = int(rng.integers(2, 70)), int(rng.integers(1, 60))
        log_probs = posteriors(rng, steps, classes)
        decoder = Decoder(names(classes))
        found = feed(decoder, log_probs, cuts(rng, steps))
        assert [token.id for token in found] == greedy(log_probs)
        assert same(found, reference.greedy(log_probs))
        score, best = decoder.nbest(0)
        assert score == pytest.approx(log_probs.max(axis=1).sum(dtype=np.float64), abs=1e-4)
        assert same(tokens(best, list(decoder.glosses)), found[len(found) - len(best) :])


def test_greedy_makes_a_gloss_final_when_its_steps_end() -> None:
    decoder = Decoder(names(3))
    decoder.push(np.log(np.float32([[0.1, 0.8, 0.1], [0.1, 0.6, 0.3]])))
    (trial,) = decoder.poll()
    assert (trial.text, trial.start_step, trial.end_step, trial.final) == ("g1", 0, 2, False)
    decoder.push(np.log(np.float32([[0.1, 0.2, 0.7]])))
    final, trial = decoder.poll()
    assert (final.text, final.end_step, final.final, trial.text, trial.final) == ("g1", 2, True, "g2", False)
    assert final.confidence == pytest.approx(0.7)


def test_greedy_takes_not_a_number_as_impossible_and_the_lowest_of_equals() -> None:
    decoder = Decoder(names(40))
    rows = np.full((4, 40), -4.0, np.float32)
    rows[0, [5, 33]] = -1.0
    rows[1] = np.nan
    rows[2] = -np.inf
    rows[3, :39] = np.nan
    assert [token[:3] for token in feed(decoder, rows, [])] == [(5, 0, 1), (39, 3, 4)]


# --- beam search


def random_options(rng: np.random.Generator, classes: int) -> dict[str, Any]:
    width = int(rng.integers(1, 14))
    return {
        "beam_width": width,
        "top_k": int(rng.integers(1, classes + 10)),
        "class_threshold": float(rng.choice([-7.0, -2.0, -20.0])),
        "beam_threshold": float(rng.choice([15.0, 4.0, 40.0])),
        "nbest": int(rng.integers(1, width + 1)),
        "gloss_bonus": float(rng.choice([0.25, 1.5, -1.0])),
    }


def check_beam(
    rng: np.random.Generator, classes: int, steps: int, text: str = "", lm: LanguageModel | None = None
) -> None:
    table = names(classes)
    log_probs = posteriors(rng, steps, classes)
    options = random_options(rng, classes)
    hot = {int(label): float(np.float32(rng.normal() * 2)) for label in rng.integers(1, classes, rng.integers(0, 3))}
    weight = float(rng.choice([0.25, 0.5, 2.0]))
    decoder = Decoder(
        table, Decoding(**options, lm=lm, lm_weight=weight, hot_words={table[label]: hot[label] for label in hot})
    )
    arpa = Arpa(text) if lm else None
    final, hypotheses = reference.beam(
        log_probs, Options(**options, lm=arpa, words=table, lm_weight=weight, boosts=hot)
    )
    assert same(feed(decoder, log_probs, cuts(rng, steps)), final)
    for rank, expected in enumerate(hypotheses):
        score, glosses = decoder.nbest(rank)
        assert score == pytest.approx(expected.score, abs=1e-4)
        assert same(tokens(glosses, table), expected.tokens)
    with pytest.raises(BadInput):
        decoder.nbest(len(hypotheses))


@pytest.mark.parametrize("seed", range(12))
def test_beam_equals_the_python_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(12):
        check_beam(rng, int(rng.integers(2, 60)), int(rng.integers(1, 40)))
    check_beam(rng, 400, 25)


@pytest.mark.parametrize("order", range(1, 7))
def test_beam_with_a_language_model_equals_the_python_one(tmp_path: Path, order: int) -> None:
    rng = np.random.default_rng(100 + order)
    for _ in range(12):
        classes = int(rng.integers(3, 20))
        text = random_arpa(rng, names(classes)[1 : int(rng.integers(2, classes + 1))], order)
        check_beam(rng, classes, int(rng.integers(1, 30)), text, language_model(tmp_path, text))


@pytest.mark.parametrize("seed", range(10))
def test_a_wide_beam_sums_all_alignments_and_times_the_best_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes, steps = [(2, 8), (3, 6), (4, 5)][seed % 3]
    log_probs = posteriors(rng, steps, classes)
    probability: dict[tuple[int, ...], float] = defaultdict(float)
    best: dict[tuple[int, ...], tuple[float, tuple[int, ...]]] = {}
    for path in itertools.product(range(classes), repeat=steps):
        sentence = tuple(label for label, _ in itertools.groupby(path) if label)
        score = sum(float(log_probs[step, label]) for step, label in enumerate(path))
        probability[sentence] += math.exp(score)
        best[sentence] = max(best.get(sentence, (-math.inf, ())), (score, path))
    decoder = Decoder(names(classes), Decoding(1000, classes, -1e6, 1e6, 1000))
    decoder.push(log_probs)
    decoder.finish()
    ranked = sorted(probability.values(), reverse=True)
    for rank, expected in enumerate(ranked):
        score, glosses = decoder.nbest(rank)
        found = tokens(glosses, names(classes))
        sentence = tuple(token.id for token in found)
        assert score == pytest.approx(math.log(expected), abs=1e-5)
        assert score == pytest.approx(math.log(probability.pop(sentence)), abs=1e-5)
        path = [0] * steps
        for token in found:
            path[token.start : token.end] = [token.id] * (token.end - token.start)
        score = sum(float(log_probs[step, label]) for step, label in enumerate(path))
        assert score == pytest.approx(best[sentence][0], abs=1e-5)
    assert not probability


def test_what_is_not_final_is_shown_as_it_stands() -> None:
    rng = np.random.default_rng(4)
    log_probs = posteriors(rng, 60, 12)
    decoder, search = Decoder(names(12), Decoding(6)), Beam(Options(beam_width=6))
    shown = 0
    for row in log_probs:
        decoder.push(row[None])
        search.push(row[None])
        glosses = decoder.poll()
        assert same(tokens(glosses, names(12)), search.final[shown:] + search.trial())
        assert [gloss.final for gloss in glosses].count(True) == len(search.final) - shown
        shown = len(search.final)


def test_a_doubt_that_never_ends_keeps_no_later_gloss_waiting() -> None:
    """Two first glosses alike, then certainty: both prefixes would share the beam for ever."""
    steps = 400
    rows = np.full((steps, 5), -30.0, np.float32)
    rows[0, [1, 2]] = np.log(0.5)
    rows[1::2, 0] = rows[2::4, 3] = rows[4::4, 4] = 0.0
    decoder, final, longest = Decoder(names(5), Decoding(10)), [], 0
    for row in rows:
        decoder.push(row[None])
        glosses = decoder.poll()
        final += [gloss for gloss in glosses if gloss.final]
        longest = max(longest, len(glosses) - [gloss.final for gloss in glosses].count(True))
    assert longest == reference.MOST_UNDECIDED
    decoder.finish()
    assert same(tokens(final + decoder.poll(), names(5)), reference.beam(rows, Options())[0])


def test_steps_without_any_number_change_nothing() -> None:
    rng = np.random.default_rng(9)
    log_probs = posteriors(rng, 20, 9)
    broken = np.insert(log_probs, [0, 7, 7, 20], np.nan, axis=0)
    broken[broken[:, 0] != broken[:, 0], 3] = -np.inf
    decoder = Decoder(names(9), Decoding(8, nbest=8))
    final, hypotheses = reference.beam(broken, Options(beam_width=8, nbest=8))
    assert same(feed(decoder, broken, [5, 9]), final)
    assert decoder.nbest(1)[0] == pytest.approx(hypotheses[1].score, abs=1e-4)


def test_infinite_values_have_a_defined_result() -> None:
    rng = np.random.default_rng(10)
    log_probs = posteriors(rng, 30, 9)
    log_probs[rng.random(log_probs.shape) < 0.1] = np.inf
    log_probs[rng.random(log_probs.shape) < 0.3] = -np.inf
    for decoding in (Decoding(), Decoding(8)):
        found = feed(Decoder(names(9), decoding), log_probs, [])
        assert all(0 <= token.confidence <= 1 and token.start < token.end <= 30 for token in found)


def test_a_reset_decoder_is_as_new() -> None:
    rng = np.random.default_rng(11)
    decoder = Decoder(names(9), Decoding(5))
    decoder.push(posteriors(rng, 30, 9))
    decoder.reset()
    assert decoder.poll() == []
    log_probs = posteriors(rng, 30, 9)
    assert same(feed(decoder, log_probs, []), reference.beam(log_probs, Options(beam_width=5))[0])


def test_an_hour_and_more_of_signing_takes_no_more_memory() -> None:
    """100,000 steps; what Python itself holds hardly moves while glosses are polled and dropped."""

    def resident() -> int:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])

    if not Path("/proc/self/status").exists():
        pytest.skip("resident memory is read from /proc")
    rng = np.random.default_rng(12)
    decoder = Decoder(names(30), Decoding(10))
    pieces = [posteriors(rng, 500, 30) for _ in range(20)]
    count, before = 0, 0
    for round_number in range(200):
        decoder.push(pieces[round_number % len(pieces)])
        count += sum(gloss.final for gloss in decoder.poll())
        if round_number == 40:
            before = resident()
    assert count > 1000
    assert resident() - before < 1024  # KiB


def test_previews_show_what_comes_and_long_streams_ask_for_no_memory(tmp_path: Path) -> None:
    if not compiler():
        pytest.skip("g++ or clang++ is needed to build the driver")
    sources = [str(DRIVER), *(str(RUNTIME / "src" / f"{name}.cpp") for name in DRIVER_SOURCES)]
    program = tmp_path / "decoder_driver"
    built = subprocess.run(
        [compiler(), "-std=c++17", "-O2", *INCLUDES, *sources, "-o", str(program)], capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    done = subprocess.run([str(program)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("decoding", "message"),
    [
        (Decoding(5000), "beam_width is 5000: give 1 to 1024"),
        (Decoding(4, nbest=5), "nbest is 5: give 1 to beam_width, which is 4"),
        (Decoding(4, class_threshold=0.5), "class_threshold is 0.5: give -1e\\+06 to 0"),
        (Decoding(4, beam_threshold=-1), "beam_threshold is -1"),
        (Decoding(4, beam_threshold=math.nan), "beam_threshold is nan"),
        (Decoding(4, lm_weight=-1), "lm_weight is -1"),
        (Decoding(4, gloss_bonus=math.inf), "gloss_bonus is inf"),
        (Decoding(4, hot_words={"g1": math.nan}), "a hot word's boost is nan"),
        (Decoding(4, hot_words={"g9": 1}), "the hot word 'g9' is no gloss of the model"),
        (Decoding(4, hot_words={"<blank>": 1}), "the hot word '<blank>' is no gloss of the model"),
        (Decoding(hot_words={"g1": 1}), "hot words need kind SIGNEDGE_DECODER_BEAM"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(decoding: Decoding, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Decoder(names(3), decoding)


# --- language model


def test_a_language_model_settles_what_the_signs_leave_open(tmp_path: Path) -> None:
    """REGEN and SONNE look alike after HEUTE; the model knows which is said, and how sentences end."""
    rows = np.full((5, len(WORDS)), 0.001, np.float32)
    rows[0, 1] = rows[1, 0] = rows[3, 0] = 0.9
    rows[2, [2, 4]] = 0.4, 0.5
    rows[4, [5, 6]] = 0.45, 0.5
    log_probs = np.log(rows / rows.sum(axis=1, keepdims=True))

    def decode(**options: Any) -> list[str]:
        decoder = Decoder(WORDS, Decoding(10, **options))
        decoder.push(log_probs)
        decoder.finish()
        return [gloss.text for gloss in decoder.poll()]

    lm = language_model(tmp_path, WEATHER)
    assert decode() == ["HEUTE", "SONNE", "WOLKE"]
    assert decode(lm=lm, lm_weight=0.5) == ["HEUTE", "REGEN", "NORD"]
    assert decode(lm=lm, lm_weight=0.5, hot_words={"SONNE": 4.5}) == ["HEUTE", "SONNE", "NORD"]


def test_scores_of_a_language_model_are_those_of_its_text(tmp_path: Path) -> None:
    """One certain sentence at a time: its score is the model's alone."""
    lm, arpa = language_model(tmp_path, WEATHER), Arpa(WEATHER)
    for sentence in itertools.product(range(1, len(WORDS)), repeat=3):
        rows = np.full((6, len(WORDS)), -np.inf, np.float32)
        rows[[1, 3, 5], 0] = 0
        rows[[0, 2, 4], sentence] = 0
        decoder = Decoder(WORDS, Decoding(2, lm=lm, lm_weight=1.0, gloss_bonus=1e-30))
        decoder.push(rows)
        decoder.finish()
        said = [WORDS[label] for label in sentence]
        expected = sum(arpa.score(said[:at], word) for at, word in enumerate([*said, "</s>"]))
        assert decoder.nbest(0)[0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\t", "   "),
        lambda text: text.replace("\n\n", "\n"),
        lambda text: text.replace("<unk>", "<UNK>"),
        lambda text: text.replace("ngram 1=9", "ngram 1 = 9"),
        lambda text: text + "what follows is nobody's business\n",
    ],
)
def test_texts_that_mean_the_same_are_read_the_same(tmp_path: Path, change: Any) -> None:
    log_probs = posteriors(np.random.default_rng(2), 30, len(WORDS))
    found = []
    for text in (WEATHER, change(WEATHER)):
        decoder = Decoder(WORDS, Decoding(10, lm=language_model(tmp_path, text), lm_weight=1.0))
        decoder.push(log_probs)
        decoder.finish()
        found.append(decoder.nbest(0))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("\\data\\", "\\dater\\", "", "data.* is missing"),
        ("ngram 1=9", "ngram 1", "ngram 1", "'ngram ORDER=COUNT' was expected"),
        ("ngram 1=9", "ngram 1=nine", "ngram 1", "'ngram ORDER=COUNT' was expected"),
        ("ngram 1=9", "ngram 1=99999999999999999999", "ngram 1", "'ngram ORDER=COUNT' was expected"),
        ("ngram 1=9", "ngram 2=9", "ngram 2", "orders must go from 1 up to 6"),
        ("ngram 2=9\n", "", "ngram 3", "orders must go from 1 up to 6"),
        ("ngram 1=9", "ngram 1=8", "-1.6021", "more n-grams than"),
        ("ngram 1=9", "ngram 1=10", "\\2-grams:", "fewer n-grams before here than"),
        ("ngram 3=5", "ngram 3=18446744073709551615", "\\end\\", "fewer n-grams before here than"),
        ("\\1-grams:", "\\2-grams:", "\\2-grams:", "the section of the next order was expected"),
        ("\\2-grams:", "\\3-grams:", "\\3-grams:", "the section of the next order was expected"),
        ("-1.1249", "minus", "minus", "its first field is not a number"),
        ("-1.1249", "nan", "nan\t", "its first field is not a number"),
        ("-1.1249", "1e-9", "1e-9", "a probability above 1"),
        ("HEUTE\t-0.3979", "HEUTE\tinf", "-1.1249", "its last field is not a back-off weight"),
        ("HEUTE\t-0.3979", "HEUTE\t1e9", "-1.1249", "its last field is not a back-off weight"),
        ("\tHEUTE\t-0.3979", "", "-1.1249", "a probability, the words and perhaps a back-off weight were expected"),
        ("-0.1249", "-0.1249 1 2 3 4 5 6", "-1.6021", "more than a probability, six words"),
        ("NORD </s>", "NORD </s>\t-0.1", "-0.3979\tREGEN", "a probability and the words were expected, and no more"),
        ("\tNORD\n", "\tSONNE\n", "-1.4472", "a word that stood there before"),
        ("REGEN </s>", "REGEN NORD", "-0.3680", "an n-gram that stood there before"),
        ("HEUTE NORD", "HEUTE SCHNEE", "-0.7782", "a word that is no 1-gram"),
        ("<s> MORGEN SONNE", "SONNE MORGEN SONNE", "-0.2218\tSONNE", "its context, all words but the last, is no"),
        ("MORGEN SONNE </s>", "WOLKE SONNE </s>", "-0.1549", "its context, all words but the last, is no"),
        ("-99\t<s>", "-99\t<S>", "-0.3010\t<s>", "a word that is no 1-gram"),
        ("</s>", "<ss>", "\\end\\", "the 1-grams lack <s> or </s>"),
        ("\\end\\\n", "", "", "end.* is missing"),
        ("\\end\\", "\\4-grams:", "\\4-grams:", "end.* is missing"),
    ],
)
def test_a_broken_text_is_refused_with_its_line(tmp_path: Path, old: str, new: str, line: str, message: str) -> None:
    text = WEATHER.replace(old, new)
    assert text != WEATHER
    lines = text.splitlines()
    number = 1 + [each.startswith(line) for each in lines].index(True) if line else len(lines)
    with pytest.raises(BadInput, match=f"model.arpa is not a language model in ARPA form: line {number}: .*{message}"):
        language_model(tmp_path, text)


@pytest.mark.parametrize(
    "change", [("HEUTE\t-0.3979", "HEUTE"), ("-1.1249\tHEUTE", "-inf\tHEUTE"), ("HEUTE\t-0.3979", "HEUTE\t0.3")]
)
def test_back_off_may_be_left_out_or_positive_and_probability_nil(tmp_path: Path, change: tuple[str, str]) -> None:
    check_beam(
        np.random.default_rng(1), 7, 20, WEATHER.replace(*change), language_model(tmp_path, WEATHER.replace(*change))
    )


def test_orders_above_six_and_missing_files_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(BadInput, match="orders must go from 1 up to 6"):
        language_model(tmp_path, random_arpa(rng, ["A", "B"], 7))
    with pytest.raises(BadInput, match="missing file"):
        LanguageModel(tmp_path / "none.arpa")
    with pytest.raises(BadInput, match="is not a file"):
        LanguageModel(tmp_path)
