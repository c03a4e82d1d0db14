"""Judge a corpus: name every row that cannot be trained or measured on, with its line, before a long run meets it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from distill.corpus.schema import ClipRow
from distill.corpus.store import CLIPS, Corpus
from runtime.contract import BLANK, FRAME_STRIDE
from runtime.errors import BadInput
from runtime.video import count_frames

_USES = {
    "dev": "trainings are not watched, and no int8 engine can pass its gate",
    "test": "nothing is left to measure on that training and gate have not looked at",
}
Progress = Callable[[Iterable[ClipRow], int], Iterable[ClipRow]]


@dataclass(frozen=True, order=True)
class Fault:
    """One thing wrong with a row.

    `line` in clips.jsonl (0: the corpus as a whole), `clip` id ("" if unknown), `message`: what is wrong.
    """

    line: int
    clip: str
    message: str

    def __str__(self) -> str:
        where = f"{CLIPS}:{self.line}: " if self.line else ""
        return f"{where}{f'clip {self.clip!r}: ' if self.clip else ''}{self.message}"


def check(corpus: Corpus, progress: Progress = lambda rows, total: rows) -> list[Fault]:
    """All faults of a corpus opened with `strict=False`, in the order of its lines; a row may have several.

    Arrays of frames are judged by their headers, videos by their packets (decoded where those leave doubt), keypoints
    in full.
    """
    faults = [Fault(line, "", message) for line, message in corpus.faults]
    if not corpus.rows:
        faults.append(Fault(0, "", "the corpus has no usable row" if corpus.faults else "the corpus has no clips"))
    elif not corpus.split("train"):
        faults.append(Fault(0, "", "no clip is in the train split"))
    for row in progress(corpus.rows, len(corpus.rows)):
        line = corpus.lines[row.id]
        messages = [*_gloss_faults(row, corpus), *_data_faults(row, corpus)]
        faults += [Fault(line, row.id, message) for message in messages]
    return sorted([*faults, *_overlaps(corpus)])


def warnings(corpus: Corpus) -> list[str]:
    """What is allowed but should be known, as sentences: held-out splits that are missing, signers that they share with
    train, glosses that train has not, several frame rates."""
    train = corpus.split("train")
    signers, trained = {row.signer for row in train if row.signer}, {gloss for row in train for gloss in row.glosses}
    result = []
    for split, use in _USES.items():
        rows = corpus.split(split)
        shared = [row.signer for row in rows if row.signer in signers]
        if shared:
            result.append(
                f"{split}: {len(shared)} of {len(rows)} clips are signed by people who also sign in train "
                f"({_list(sorted(set(shared)))}); they do not tell how new signers are read"
            )
        unseen = sorted({gloss for row in rows for gloss in row.glosses} - trained)
        if unseen:
            result.append(f"{split}: never in train, so they cannot be recognised: {_list(unseen)}")
        if not rows:
            result.append(f"{split}: there are no clips; {use}")
    rates = frame_rates(corpus.rows)
    if len(rates) > 1:
        result.append(f"clips have several frame rates ({_list(rates)}); a recogniser is trained for one")
    return result


def frame_rates(rows: Iterable[ClipRow]) -> list[str]:
    """The different frame rates of clips, as text, slowest first."""
    return [f"{rate:g}/s" for rate in sorted({row.fps for row in rows})]


def usable_rows(
    corpus: Corpus, skip: bool, progress: Progress = lambda rows, total: rows
) -> tuple[list[ClipRow], list[Fault]]:
    """Rows without fault, and the faults of the others, of a corpus opened with `strict=False`.

    Raises `BadInput` that sums the faults up unless they may be skipped; faults of the corpus as a whole never may.
    """
    faults = check(corpus, progress)
    whole = [fault for fault in faults if not fault.line]
    if whole:
        raise BadInput(f"{corpus.folder}: {whole[0].message}")
    lines = sorted({fault.line for fault in faults})
    if faults and not skip:
        more = f"; {len(lines) - 1} more bad row{'s' if len(lines) > 2 else ''}" if len(lines) > 1 else ""
        hint = f"see `signedge corpus check {corpus.folder}`, or skip them with --skip-bad-clips"
        raise BadInput(f"{corpus.folder}: {faults[0]}{more}; {hint}")
    rows = [row for row in corpus.rows if corpus.lines[row.id] not in set(lines)]
    if not any(row.split == "train" for row in rows):
        raise BadInput(f"{corpus.folder}: no clip of the train split is left once bad rows are skipped ({faults[0]})")
    return rows, faults


def _list(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _gloss_faults(row: ClipRow, corpus: Corpus) -> list[str]:
    if not row.glosses:
        return ["no glosses"]
    faults = []
    empty = sum(not gloss.strip() for gloss in row.glosses)
    if empty:
        faults.append("an empty gloss" if empty == 1 else f"{empty} empty glosses")
    known = set(corpus.metadata.glosses)
    unknown = [gloss for gloss in dict.fromkeys(row.glosses) if gloss.strip() and gloss not in known]
    faults += [f"gloss '{gloss}' is not in the vocabulary of corpus.yaml" for gloss in unknown]
    if BLANK in row.glosses:
        faults.append(f"'{BLANK}' is CTC's blank and no gloss")
    steps, needed = -(-row.frames // FRAME_STRIDE), ctc_steps(row.glosses)
    if steps < needed:
        given = f"{row.frames} frames give {steps} output steps"
        faults.append(f"too short for its glosses under CTC: {given}, {needed} are needed")
    return faults


def ctc_steps(glosses: Sequence[str]) -> int:
    """Output steps that CTC needs at least: one a gloss, and a blank between equal neighbours."""
    return len(glosses) + sum(first == second for first, second in pairwise(glosses))


def ctc_frames(glosses: Sequence[str]) -> int:
    """Frames that give `ctc_steps` output steps, at least."""
    return FRAME_STRIDE * (ctc_steps(glosses) - 1) + 1


def _data_faults(row: ClipRow, corpus: Corpus) -> list[str]:
    if row.video is None and row.keypoints is None:
        return ["neither video nor keypoints are named"]
    faults = []
    for read, name in ((count_frames, row.video), (lambda path: len(corpus.read_keypoints(path)), row.keypoints)):
        if name is None:
            continue
        try:
            count = read(corpus.path(name))
        except BadInput as error:
            faults.append(str(error))
        else:
            if count != row.frames:
                faults.append(f"the row says {row.frames} frames, {name} has {count}")
    return faults


def _overlaps(corpus: Corpus) -> list[Fault]:
    """The same data file in two rows of different splits: what is tested was trained on."""
    first: dict[Path, ClipRow] = {}
    faults = []
    for row in corpus.rows:
        for name in (row.video, row.keypoints):
            if name is None:
                continue
            earlier = first.setdefault(corpus.path(name).resolve(), row)
            if earlier.split != row.split:
                message = f"{name} is in {row.split} and, on line {corpus.lines[earlier.id]}, in {earlier.split}"
                faults.append(Fault(corpus.lines[row.id], row.id, message))
    return faults


def summary(corpus: Corpus) -> dict[str, dict[str, float]]:
    """Clips, glosses, frames and minutes of each split."""
    table = {}
    for split in ("train", "dev", "test"):
        rows = corpus.split(split)
        words = Counter(gloss for row in rows for gloss in row.glosses)
        table[split] = {
            "clips": len(rows),
            "glosses": sum(words.values()),
            "vocabulary": len(words),
            "signers": len({row.signer for row in rows} - {""}),
            "frames": sum(row.frames for row in rows),
            "minutes": round(sum(row.frames / row.fps for row in rows) / 60, 2),
        }
    return table
