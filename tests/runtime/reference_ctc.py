"""CTC decoding and ARPA language models in plain Python: the rules that libsignedge's decoders must equal.

Greedy. The likeliest class of each step, the lowest of equals; runs of it are merged, the blank (0) is dropped.

Beam. A prefix (a sequence of glosses) is scored by the sum of all alignments that spell it, plus a reward for each
gloss: bonus, boost, weighted language model. Steps are taken one by one:
  - Every prefix in the beam may take the blank, or its last gloss once more, however unlikely.
  - It may be extended by the `top_k` likeliest glosses, the lowest of equals first, if they reach `class_threshold`;
    by the likeliest class of all in any case. A gloss follows itself only after a blank.
  - The `beam_width` best prefixes survive, those more than `beam_threshold` below the best left out. Of equals goes
    first what comes from the better prefix of the step before, then that prefix itself, then the lower class.
  - When no prefix is possible any more (not a number in every class), the step counts as a certain blank.
The end adds the language model's end of the sentence.

Times. A prefix keeps its most probable alignment that ends in a blank, and that which ends in its last gloss. Of two
ways to the same, the more probable one wins, and the one that was there already among equals; the better of the two
(the one ending in the gloss among equals) gives each gloss its span and, by the mean posterior over it, its confidence.

Final. A gloss becomes final when all prefixes in the beam share it, it is over in the best alignment, and no alignment
began the next gloss before its end there. When the best prefix has more than `MOST_UNDECIDED` glosses that are not
final, prefixes without the first of them, or that began the next one before its end, are dropped; so are prefixes that
have more than twice as many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

IMPOSSIBLE = -math.inf
LARGEST = float(np.finfo(np.float32).max)
MOST_UNDECIDED = 32


class Token(NamedTuple):
    id: int
    start: int
    end: int
    confidence: float


class Hypothesis(NamedTuple):
    score: float
    tokens: list[Token]


@dataclass(frozen=True)
class Options:
    beam_width: int = 10
    top_k: int = 40
    class_threshold: float = -7.0
    beam_threshold: float = 15.0
    nbest: int = 1
    lm: Arpa | None = None
    words: Sequence[str] = ()  # of the classes, for the language model
    lm_weight: float = 0.25
    gloss_bonus: float = 0.0
    boosts: dict[int, float] = field(default_factory=dict)


def cleaned(log_probs: np.ndarray) -> np.ndarray:
    """As float64; not a number is impossible, infinity is a large number."""
    values = np.where(np.isnan(log_probs), IMPOSSIBLE, log_probs).astype(np.float64)
    return np.minimum(values, LARGEST)


def probability(log: float) -> float:
    return math.exp(min(log, 0.0))


def greedy(log_probs: np.ndarray) -> list[Token]:
    tokens: list[Token] = []
    before = 0
    for step, row in enumerate(cleaned(log_probs)):
        label = int(row.argmax())
        posterior = probability(row[label])
        if label != 0 and label == before:
            last = tokens[-1]
            total = last.confidence * (last.end - last.start) + posterior
            tokens[-1] = Token(label, last.start, step + 1, total / (step + 1 - last.start))
        elif label != 0:
            tokens.append(Token(label, step, step + 1, posterior))
        before = label
    return tokens


# --- language model


class Arpa:
    """An ARPA text by its definition: p(w | h) is the n-gram's, or the back-off of h times p(w | h less its first)."""

    def __init__(self, text: str) -> None:
        self.ngrams: dict[tuple[str, ...], tuple[float, float]] = {}
        self.order = 0
        for line in text.split("\\data\\", 1)[1].splitlines():
            if line.startswith("\\") and line.strip() != "\\end\\":
                self.order = int(line[1])
            elif self.order and line.strip() and not line.startswith("\\"):
                fields = line.split()
                backoff = float(fields[self.order + 1]) if len(fields) > self.order + 1 else 0.0
                self.ngrams[tuple(fields[1 : self.order + 1])] = (max(float(fields[0]), -1000.0), backoff)
        self.ngrams.setdefault(("<unk>",), (-100.0, 0.0))

    def score(self, history: Sequence[str], word: str) -> float:
        """Natural log-probability of a word after <s> and a history; words that are not known are <unk>."""
        known = [self._known(each) for each in ("<s>", *history)]
        context = tuple(known[max(0, len(known) - self.order + 1) :]) if self.order > 1 else ()
        return min(self._log10((*context, self._known(word))), 0.0) * math.log(10)

    def _known(self, word: str) -> str:
        return word if (word,) in self.ngrams else "<unk>"

    def _log10(self, ngram: tuple[str, ...]) -> float:
        if ngram in self.ngrams:
            return self.ngrams[ngram][0]
        return self.ngrams.get(ngram[:-1], (0.0, 0.0))[1] + self._log10(ngram[1:])


# --- beam search


class Span(NamedTuple):
    start: int
    end: int
    posterior: float


class Alignment(NamedTuple):
    score: float
    spans: tuple[Span, ...]


NOWHERE = Alignment(IMPOSSIBLE, ())


@dataclass
class Entry:
    prefix: tuple[int, ...]
    reward: float
    blank: float = IMPOSSIBLE
    label: float = IMPOSSIBLE
    on_blank: Alignment = NOWHERE
    on_label: Alignment = NOWHERE
    origin: tuple[int, int] = (0, 0)  # place in the beam before, class that was added

    @property
    def total(self) -> float:
        return log_add(self.blank, self.label)

    @property
    def score(self) -> float:
        return self.total + self.reward

    @property
    def best(self) -> Alignment:
        return self.on_blank if self.on_blank.score > self.on_label.score else self.on_label

    def begins_before(self, number: int, end: int) -> bool:
        """Whether an alignment begins gloss `number`, if there is one, before a step."""
        alignments = [each for each in (self.on_blank, self.on_label) if each.score != IMPOSSIBLE]
        return any(span.start < end for each in alignments for span in each.spans[number : number + 1])

    def tokens(self, first: int = 0) -> list[Token]:
        return [
            Token(gloss, span.start, span.end, span.posterior / (span.end - span.start))
            for gloss, span in zip(self.prefix[first:], self.best.spans[first:], strict=True)
        ]


def log_add(a: float, b: float) -> float:
    high, low = max(a, b), min(a, b)
    return high if low == IMPOSSIBLE else high + math.log1p(math.exp(low - high))


class Beam:
    """Push steps, read `final` any time; `finish` gives the hypotheses and makes the best one's glosses final."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.entries = [Entry((), 0.0, blank=0.0, on_blank=Alignment(0.0, ()))]
        self.final: list[Token] = []
        self.step = 0

    def push(self, log_probs: np.ndarray) -> None:
        for row in cleaned(log_probs):
            self.entries = self._survivors(self._advance(row)) or self._survivors(self._advance(_certain_blank(row)))
            self.step += 1
            self._settle()

    def trial(self) -> list[Token]:
        """The glosses beyond the final ones as it stands."""
        return self.entries[0].tokens(len(self.final))

    def finish(self) -> list[Hypothesis]:
        ranked = []
        for place, entry in enumerate(self.entries):
            ranked.append((-(entry.score + self.options.lm_weight * self._lm(entry.prefix, "</s>")), place))
        first = len(self.final)
        hypotheses = [Hypothesis(-score, self.entries[place].tokens(first)) for score, place in sorted(ranked)]
        self.final += hypotheses[0].tokens
        return hypotheses[: self.options.nbest]

    def _advance(self, row: np.ndarray) -> list[Entry]:
        made: dict[tuple[int, ...], Entry] = {}
        for place, entry in enumerate(self.entries):
            made[entry.prefix] = self._stayed(entry, row, place)
        for place, entry in enumerate(self.entries):
            for label in likely(row, self.options):
                prefix = (*entry.prefix, label)
                if prefix not in made:
                    made[prefix] = Entry(prefix, self._reward(entry, label), origin=(place, label))
                self._add(made[prefix], entry, row[label])
        return list(made.values())

    def _stayed(self, entry: Entry, row: np.ndarray, place: int) -> Entry:
        stayed = Entry(entry.prefix, entry.reward, origin=(place, 0))
        stayed.blank = entry.total + row[0]
        stayed.on_blank = Alignment(entry.best.score + row[0], entry.best.spans)
        if entry.label != IMPOSSIBLE:
            again = row[entry.prefix[-1]]
            *before, last = entry.on_label.spans
            longer = Span(last.start, last.end + 1, last.posterior + probability(again))
            stayed.label = entry.label + again
            stayed.on_label = Alignment(entry.on_label.score + again, (*before, longer))
        return stayed

    def _add(self, made: Entry, source: Entry, value: float) -> None:
        """Ways to `made` by adding its last gloss to `source`, between equal glosses after a blank only."""
        repeated = source.prefix[-1:] == made.prefix[-1:]
        total, alignment = (source.blank, source.on_blank) if repeated else (source.total, source.best)
        made.label = log_add(made.label, total + value)
        if alignment.score + value > made.on_label.score:
            span = Span(self.step, self.step + 1, probability(value))
            made.on_label = Alignment(alignment.score + value, (*alignment.spans, span))

    def _reward(self, entry: Entry, label: int) -> float:
        bonus = self.options.gloss_bonus + self.options.boosts.get(label, 0.0)
        word = self.options.words[label] if self.options.lm else ""
        return entry.reward + bonus + self.options.lm_weight * self._lm(entry.prefix, word)

    def _lm(self, prefix: tuple[int, ...], word: str) -> float:
        lm = self.options.lm
        return lm.score([self.options.words[label] for label in prefix[-lm.order :]], word) if lm else 0.0

    def _survivors(self, entries: list[Entry]) -> list[Entry]:
        possible = [entry for entry in entries if entry.score != IMPOSSIBLE]
        ranked = sorted(possible, key=lambda entry: (-entry.score, entry.origin))[: self.options.beam_width]
        return [entry for entry in ranked if entry.score >= ranked[0].score - self.options.beam_threshold]

    def _settle(self) -> None:
        self._end_wait()
        while (token := self._decided()) is not None:
            self.final.append(token)

    def _end_wait(self) -> None:
        best, number = self.entries[0], len(self.final)
        if len(best.prefix) - number > MOST_UNDECIDED:
            end = best.best.spans[number].end
            first = best.prefix[number]
            self._keep(lambda entry: entry.prefix[number : number + 1] == (first,))
            self._keep(lambda entry: not entry.begins_before(number + 1, end))
        self._keep(lambda entry: len(entry.prefix) - number <= 2 * MOST_UNDECIDED)

    def _keep(self, condition: Callable[[Entry], bool]) -> None:
        self.entries[1:] = filter(condition, self.entries[1:])

    def _decided(self) -> Token | None:
        number = len(self.final)
        if len({entry.prefix[: number + 1] for entry in self.entries}) > 1 or len(self.entries[0].prefix) <= number:
            return None
        best = self.entries[0]
        if len(best.prefix) == number + 1 and best.best is best.on_label:
            return None
        token = best.tokens()[number]
        return None if any(entry.begins_before(number + 1, token.end) for entry in self.entries) else token


def likely(row: np.ndarray, options: Options) -> list[int]:
    """The glosses that may extend a prefix in this step."""
    ranked = sorted(range(1, len(row)), key=lambda label: (-row[label], label))
    found = [label for label in ranked[: options.top_k] if row[label] >= options.class_threshold]
    best = int(row.argmax())
    if best != 0 and best not in found:
        found.append(best)
    return found


def _certain_blank(row: np.ndarray) -> np.ndarray:
    certain = np.full_like(row, IMPOSSIBLE)
    certain[0] = 0.0
    return certain


def beam(log_probs: np.ndarray, options: Options) -> tuple[list[Token], list[Hypothesis]]:
    """All final glosses, and the hypotheses of what became final at the end."""
    search = Beam(options)
    search.push(log_probs)
    hypotheses = search.finish()
    return search.final, hypotheses
