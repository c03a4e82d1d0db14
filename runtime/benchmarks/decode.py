"""Beam search of libsignedge beside pyctcdecode and flashlight-text: same log-probabilities, one process, one thread.

    python -m runtime.benchmarks.decode          (needs: pip install pyctcdecode flashlight-text)

Prints one JSON line for each kind of posteriors: median ms a clip, how many times slower the others are, and how often
their best sentence is the same. Settings are alike: beam width, classes a step, thresholds, no language model. What is
left: pyctcdecode takes every class above the threshold, and both others keep a prefix twice in the beam, once ending in
a blank. A trained network is sure nearly always.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import statistics
import time
from typing import Any, Callable, Dict, List, Sequence

import numpy as np

from runtime.binding import Decoder, Decoding

WIDTH, TOP_K, CLASS_THRESHOLD, BEAM_THRESHOLD = 10, 40, -7.0, 15.0
KINDS = {"sure": 12.0, "unsure": 7.5, "noise": 0.0}  # how far a network lifts the true class above the others
Decode = Callable[[np.ndarray], List[int]]


def posteriors(rng: np.random.Generator, steps: int, classes: int, lift: float) -> np.ndarray:
    """Log-probabilities of a random sentence with blanks between its glosses, each 1 to 4 steps long."""
    logits = rng.normal(size=(steps, classes))
    step = 0
    while step < steps:
        for label in (0, int(rng.integers(1, classes))):
            length = int(rng.integers(1, 5))
            logits[step : step + length, label] += lift
            step += length
    logits -= logits.max(axis=1, keepdims=True)
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def ours(classes: int) -> Decode:
    names = ["<blank>", *(str(label) for label in range(1, classes))]
    decoder = Decoder(names, Decoding(WIDTH, TOP_K, CLASS_THRESHOLD, BEAM_THRESHOLD))

    def decode(log_probs: np.ndarray) -> List[int]:
        decoder.reset()
        decoder.push(log_probs)
        decoder.finish()
        return [int(gloss.text) for gloss in decoder.poll()]

    return decode


def pyctcdecode(classes: int) -> Decode:
    """Each gloss is a letter, so that a sentence is one word."""
    logging.disable(logging.WARNING)  # it warns of kenlm, which is not used here
    from pyctcdecode import build_ctcdecoder

    first = 0x4E00
    decoder = build_ctcdecoder(["", *(chr(first + label) for label in range(1, classes))])

    def decode(log_probs: np.ndarray) -> List[int]:
        text = decoder.decode(
            log_probs, beam_width=WIDTH, beam_prune_logp=-BEAM_THRESHOLD, token_min_logp=CLASS_THRESHOLD
        )
        return [ord(letter) - first for letter in text]

    return decode


def flashlight(classes: int) -> Decode:
    from flashlight.lib.text.decoder import CriterionType, LexiconFreeDecoder, LexiconFreeDecoderOptions, ZeroLM

    options = LexiconFreeDecoderOptions(
        beam_size=WIDTH,
        beam_size_token=TOP_K + 1,  # the blank counts there
        beam_threshold=BEAM_THRESHOLD,
        lm_weight=0.0,
        sil_score=0.0,
        log_add=True,
        criterion_type=CriterionType.CTC,
    )
    decoder = LexiconFreeDecoder(options, ZeroLM(), -1, 0, [])

    def decode(log_probs: np.ndarray) -> List[int]:
        tokens = decoder.decode(log_probs.ctypes.data, *log_probs.shape)[0].tokens
        return [label for label, _ in itertools.groupby(tokens) if label > 0]

    return decode


def measure(decoders: Dict[str, Decode], clips: Sequence[np.ndarray]) -> Dict[str, Any]:
    """Each clip goes to every decoder in turn, so that whatever else the machine does falls on all of them."""
    seconds: Dict[str, List[float]] = {name: [] for name in decoders}
    equal = dict.fromkeys(decoders, 0)
    for clip in clips:
        sentences = {}
        for name, decode in decoders.items():
            start = time.perf_counter()
            sentences[name] = decode(clip)
            seconds[name].append(time.perf_counter() - start)
            equal[name] += sentences[name] == sentences["signedge"]
    medians = {name: statistics.median(values) * 1e3 for name, values in seconds.items()}
    return {
        "median_ms": {name: round(value, 4) for name, value in medians.items()},
        "times_slower": {name: round(value / medians["signedge"], 1) for name, value in medians.items()},
        "equal_best": {name: round(count / len(clips), 3) for name, count in equal.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clips", type=int, default=50)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--classes", type=int, default=1296)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    decoders = {
        name: make(arguments.classes)
        for name, make in (("signedge", ours), ("pyctcdecode", pyctcdecode), ("flashlight", flashlight))
    }
    for kind, lift in KINDS.items():
        rng = np.random.default_rng(arguments.seed)
        clips = [posteriors(rng, arguments.steps, arguments.classes, lift) for _ in range(arguments.clips)]
        found = measure(decoders, clips)
        print(json.dumps({"posteriors": kind, "steps": arguments.steps, "classes": arguments.classes, **found}))


if __name__ == "__main__":
    main()
