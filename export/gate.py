"""The WER gate: an engine is kept only if it reads the development split (nearly) as well as the FP32 graph does."""

from __future__ import annotations

from dataclasses import dataclass

from distill.corpus.store import CLIPS, Corpus
from runtime.contract import Contract, KeypointInput
from runtime.device.judging import Gate, rise_of
from runtime.engine import Engine
from runtime.errors import BadInput
from runtime.wer import align

SPLIT = "dev"
FEW_CLIPS = 30
HOPELESS = 50.0  # percent


@dataclass(frozen=True)
class GateResult(Gate):
    """The gate of an engine, on a split of a corpus."""

    split: str = SPLIT


def doubts(clips: int, baseline_wer: float) -> list[str]:
    """Why passing a gate of so many clips, whose FP32 reads them so badly, proves little, if it does."""
    found = []
    if clips < FEW_CLIPS:
        found.append(f"the WER gate read only {clips} clips: a rise of a few points would not show")
    if baseline_wer >= HOPELESS:
        found.append(f"fp32 itself has a WER of {baseline_wer:.0f} %: there is little left for int8 to lose")
    return found


def check_corpus(contract: Contract, corpus: Corpus) -> None:
    """Raise `BadInput` unless the clips of `corpus` are such as the model was made for."""
    known = set(contract.glosses[1:])
    unknown = sorted(set(corpus.metadata.glosses) - known)
    if unknown:
        raise BadInput(
            f"corpus {corpus.folder} does not fit '{contract.name}': {len(unknown)} of its glosses are not in the "
            f"model's table, such as '{unknown[0]}'; give the corpus that it was trained on"
        )
    for row in corpus.rows:
        strange = next((gloss for gloss in row.glosses if gloss not in known), None)
        if strange is not None:
            raise BadInput(
                f"{corpus.folder / CLIPS}:{corpus.lines[row.id]}: clip '{row.id}': gloss '{strange}' is not in the "
                f"table of '{contract.name}', nor in the corpus'; see `signedge corpus check {corpus.folder}`"
            )
    if isinstance(contract.input, KeypointInput) and tuple(corpus.metadata.keypoint_layout) != contract.input.layout:
        raise BadInput(f"corpus {corpus.folder} does not fit '{contract.name}': its keypoints have another layout")


def check_split(corpus: Corpus) -> None:
    """Raise `BadInput` unless `corpus` has clips for the gate to read."""
    if not any(row.glosses for row in corpus.split(SPLIT)):
        raise BadInput(f"corpus {corpus.folder} has no clips in split '{SPLIT}' with glosses; the WER gate needs some")


@dataclass(frozen=True)
class Reading:
    """What an engine read: each clip's glosses, its errors, and the words of its reference."""

    glosses: tuple[tuple[str, ...], ...]
    errors: tuple[int, ...]
    words: tuple[int, ...]

    @property
    def wer(self) -> float:
        """In percent."""
        return 100 * sum(self.errors) / sum(self.words)


def read(engine: Engine, corpus: Corpus) -> Reading:
    """Decode the development split. Raises `BadInput` if the corpus does not fit or has no such split."""
    contract = engine.contract
    check_corpus(contract, corpus)
    check_split(corpus)
    glosses, counts = [], []
    for row in corpus.split(SPLIT):
        clip = corpus.load_for(row, contract.modality)
        found = engine.recognise(clip.frames, clip.keypoints)
        glosses.append(tuple(found))
        counts.append(align(clip.glosses, found))
    errors, words = (item.errors for item in counts), (item.reference_words for item in counts)
    return Reading(tuple(glosses), tuple(errors), tuple(words))


def compare(found: Reading, baseline: Reading, budget: float) -> GateResult:
    """What the gate says of two readings of one split; raises nothing if the budget is missed."""
    changed = sum(one != other for one, other in zip(found.glosses, baseline.glosses, strict=True))
    figures = rise_of(found.errors, baseline.errors, found.words)
    return GateResult(changed=changed, budget=budget, **figures)


def judge(engine: Engine, baseline: Engine, corpus: Corpus, budget: float) -> GateResult:
    """Decode the development split with both engines and compare their WERs; raises nothing if the budget is missed.

    Raises `BadInput` if the corpus does not fit or has no development split.
    """
    found = read(engine, corpus)
    return compare(found, found if engine is baseline else read(baseline, corpus), budget)
