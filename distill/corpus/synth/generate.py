"""Write a synthetic corpus: lexicon, grammar, signers, sentences, frames and keypoints from one seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from distill.corpus.schema import CorpusMetadata, SignClip
from distill.corpus.store import CorpusWriter
from distill.corpus.synth.lexicon import Grammar, Sign, make_lexicon
from distill.corpus.synth.motion import Signer, perform
from distill.corpus.synth.pose import LAYOUT
from distill.corpus.synth.render import Look, random_skin, render
from distill.corpus.synth.tracker import TrackerNoise, track_keypoints
from runtime.atomic import atomic_folder
from runtime.errors import BadInput

VERSION = 1  # raised whenever the same seed would give other clips


class SynthConfig(BaseModel):
    """What to generate. The defaults are the demo's benchmark."""

    model_config = ConfigDict(extra="forbid")

    seed: int = 1
    train: int = Field(900, ge=1)  # sentences
    dev: int = Field(150, ge=0)
    test: int = Field(300, ge=0)
    glosses: int = Field(30, ge=8)
    handshape_pairs: int = Field(3, ge=0)  # pairs of glosses that differ in handshape only
    face_pairs: int = Field(3, ge=0)  # pairs that differ in the face only: invisible to the tracker
    context: float = Field(0.2, ge=0, le=1)  # how far the gloss before tells which member of a pair follows
    shortest: int = Field(2, ge=1)
    longest: int = Field(6, ge=1)
    signers: int = Field(8, ge=1)  # in train; dev and test have one more each that train does not
    fps: float = Field(12.5, gt=0)
    size: int = Field(64, ge=16)  # pixels, square
    finger_fidelity: float = Field(TrackerNoise.finger_fidelity, ge=0, le=1)
    finger_jitter: float = Field(TrackerNoise.finger_jitter, ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> SynthConfig:
        if self.shortest > self.longest:
            raise ValueError(f"shortest is {self.shortest} and longest {self.longest}: no sentence is both")
        return self


def generate(folder: Path, config: SynthConfig, progress: Callable[[int, int], None] | None = None) -> Path:
    """Write the corpus to `folder`, whole or not at all. The same configuration gives the same bytes.

    Dev and test hold out sentences (no gloss sequence occurs in two splits) and one signer each (every third of their
    clips). Raises `BadInput` when there are too few glosses or sentences for that, or `folder` cannot be written.
    `progress(done, total)` is called after every clip.
    """
    rng = np.random.default_rng([VERSION, config.seed])
    lexicon = make_lexicon(rng, config.glosses, config.handshape_pairs, config.face_pairs)
    grammar = Grammar(rng, lexicon, config.context)
    signers = [Signer.random(f"signer{i:02d}", rng) for i in range(config.signers + 2)]
    skins = [random_skin(rng) for _ in signers]
    noise = TrackerNoise(finger_fidelity=config.finger_fidelity, finger_jitter=config.finger_jitter)
    plan = _plan(rng, grammar, config)

    with atomic_folder(folder) as temporary:
        writer = CorpusWriter(temporary)
        for done, (split, number, sentence, signer) in enumerate(plan, start=1):
            clip_rng = np.random.default_rng([VERSION, config.seed, done])
            track = perform(sentence, signers[signer], config.fps, clip_rng)
            frames = render(track, Look.random(clip_rng, skins[signer]), config.size)
            keypoints = track_keypoints(track, noise, clip_rng)
            glosses = [sign.gloss for sign in sentence]
            writer.add(
                SignClip(f"{split}{number:04d}", glosses, signers[signer].name, config.fps, frames, keypoints), split
            )
            if progress:
                progress(done, len(plan))
        writer.close(_metadata(config, lexicon, noise))
    return folder


def _plan(rng: np.random.Generator, grammar: Grammar, config: SynthConfig) -> list[tuple[str, int, list[Sign], int]]:
    """(split, number, sentence, signer) of every clip; held-out sentences are drawn first."""
    taken: set[tuple[str, ...]] = set()
    plan = []
    for split, count, guest in (("test", config.test, config.signers), ("dev", config.dev, config.signers + 1)):
        mine: set[tuple[str, ...]] = set()
        for number in range(count):
            sentence = _draw(rng, grammar, config, taken)
            mine.add(tuple(sign.gloss for sign in sentence))
            signer = guest if number % 3 == 2 else int(rng.integers(config.signers))
            plan.append((split, number, sentence, signer))
        taken |= mine
    plan += [
        ("train", number, _draw(rng, grammar, config, taken), number % config.signers) for number in range(config.train)
    ]
    return plan


def _draw(rng: np.random.Generator, grammar: Grammar, config: SynthConfig, taken: set[tuple[str, ...]]) -> list[Sign]:
    # The shortest sentences run out soon; after a while one more gloss is asked for.
    for attempt in range(1000):
        sentence = grammar.sentence(rng, min(config.shortest + attempt // 100, config.longest), config.longest)
        if tuple(sign.gloss for sign in sentence) not in taken:
            return sentence
    raise BadInput("the grammar has too few sentences to hold out that many; ask for more glosses or longer sentences")


def _metadata(config: SynthConfig, lexicon: list[Sign], noise: TrackerNoise) -> CorpusMetadata:
    hands = sum(sign.contrast == "handshape" for sign in lexicon)
    faces = sum(sign.contrast == "face" for sign in lexicon)
    return CorpusMetadata(
        name=f"synthetic-{config.seed}",
        kind="synthetic",
        description=(
            f"Generated signing, no real people: {len(lexicon)} made-up glosses, "
            f"of which {hands} are told apart only by handshape and {faces} only by the face, "
            f"signed by {config.signers} generated signers in training and one more each in dev and test; "
            f"rendered at {config.size} px, {config.fps} frames/s."
        ),
        licence="generated by signedge",
        glosses=sorted(sign.gloss for sign in lexicon),
        keypoint_layout=list(LAYOUT),
        frame_size=(config.size, config.size),
        keypoint_source=(
            "a model of a pose estimator over the generated motion: "
            "jitter, lost and swapped hands, fingers pulled to the average, no face"
        ),
        generator={
            "name": "signedge synth",
            "version": VERSION,
            "config": config.model_dump(),
            "tracker": asdict(noise),
        },
    )
