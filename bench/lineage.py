"""How systems relate, as training wrote it down: the run a system came from, its teacher, its undistilled twin."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from bench.record import UNKNOWN

# Terms of a recipe's distillation as the tables of the field name them, and the methods that are made of them.
TERMS = {"kd": "KD", "crd": "CRD", "relation": "relation", "feature": "feature"}
METHODS = {("kd", "crd", "relation"): "TRKD", ("kd", "feature"): "CRKD", ("feature",): "CRKD"}


@dataclass(frozen=True)
class Lineage:
    """Where a recogniser came from. Hashes are hex SHA-256, "" where unknown; `spec` is its recipe's model part."""

    run: str
    architecture: str = UNKNOWN
    distillation: str = ""
    checkpoint: str = ""
    corpus: str = ""
    teacher: str = ""  # hash of the teacher's checkpoint
    seed: int | None = None
    epochs: int | None = None
    spec: dict[str, Any] = field(default_factory=dict, compare=False)
    source: dict[str, Any] = field(default_factory=dict, compare=False)  # the input part of its recipe

    def same_network(self, other: Lineage) -> bool:
        """Whether both are the same network on the same input, trained on the same corpus."""
        return bool(self.spec) and (self.spec, self.source, self.corpus) == (other.spec, other.source, other.corpus)


def label(distillation: dict[str, Any]) -> str:
    """The distillation part of a recipe as the table names it, from its terms of weight above 0.

    `TRKD` or `CRKD` for the whole method, the terms (`KD + relation`) for a part or a mixture, "" for none.
    """
    active = tuple(term for term in TERMS if (distillation.get(term) or {}).get("weight"))
    return METHODS.get(active, " + ".join(TERMS[term] for term in active))


def of_run(run: Any) -> Lineage:
    """Lineage of a run folder opened by `distill.run.load_run`."""
    recipe, summary = run.recipe.model_dump(mode="json"), run.summary
    return Lineage(
        run=recipe["name"],
        architecture=recipe["model"]["name"],
        distillation=label(recipe["distillation"]),
        checkpoint=run.checkpoint_hash,
        corpus=summary.get("corpus") or "",
        teacher=summary.get("teacher") or "",
        seed=recipe["seed"],
        epochs=recipe["training"]["epochs"],
        spec=recipe["model"],
        source=recipe["input"],
    )


def find_teacher(lineages: Iterable[Lineage]) -> Lineage | None:
    """The one whose checkpoint most others name as their teacher's; None where nobody learned from anybody here."""
    known = list(lineages)
    named = [other.teacher for other in known if other.teacher]
    teachers = [lineage for lineage in known if lineage.checkpoint and lineage.checkpoint in named]
    return max(teachers, key=lambda lineage: named.count(lineage.checkpoint), default=None)


def find_plain(distilled: Lineage, lineages: Iterable[Lineage]) -> Lineage | None:
    """The same network on the same input and corpus, trained without distillation; None if there is none.

    Of several, the one trained for the most similar number of epochs: a comparison at equal training is the fair one.
    """
    if not distilled.distillation:
        return None
    twins = [other for other in lineages if not other.distillation and distilled.same_network(other)]
    return min(twins, key=lambda other: abs((other.epochs or 0) - (distilled.epochs or 0)), default=None)
