"""What this process cannot build: a bundle that becomes an engine by one command, by hand, over SSH or beside it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from export.beside import build_beside
from export.bundle import Bundle, make_bundle
from export.engine import GATE_THREADS, Job, described, origins, parity
from export.gate import SPLIT
from export.outcome import Outcome
from export.ship import ship
from export.tailor import Cut
from runtime.device.builders import BUILDERS
from runtime.device.folder import GateClip
from runtime.engine import Engine
from runtime.errors import BadInput, Refused
from runtime.preprocess import chosen

if TYPE_CHECKING:
    from distill.corpus.store import Corpus

Tell = Callable[[str], None]


def bundle_for(job: Job, out: Path, archive: bool = False, cut: Cut | None = None) -> Bundle:
    """Leave the bundle of a job at `out`: everything that can be done without the device, done and judged.

    Raises `BadInput` without a corpus (the engine is judged on its clips, there as here), and as `make_bundle` does.
    """
    runtime = job.target.software.runtime
    if runtime not in BUILDERS:
        raise Refused(f"{job.elsewhere}; engines of {runtime} are made on their own machine only")
    if job.corpus is None:
        raise BadInput(f"{job.elsewhere}: a bundle for it needs --corpus, for the clips of its gate")
    cut = cut or job.cut()
    request = job.request(cut.flags)
    made = {
        **described(job, runtime),
        **job.lowering.facts,
        **cut.facts,
        "parity": parity(job),
        "warnings": list(job.warnings),
        "chain": origins(job, cut),
    }
    return make_bundle(
        cut.graph, job.contract, job.target, job.order.precision, request.as_json() if request else {},
        gate_clips(job, job.corpus), job.order.max_wer_rise, made, out, archive, complete=cut.complete,
        onnxruntime=Path(job.order.onnxruntime) if job.order.onnxruntime else None,
    )  # fmt: skip


def build_by_bundle(job: Job, out: Path, tell: Tell, cut: Cut | None = None) -> Outcome:
    """Build and judge the job's engine by way of a bundle, on its device or by this system's Python; keep it at `out`.

    Raises as `bundle_for`, `export.ship.ship` and `export.beside.build_beside` do.
    """
    with tempfile.TemporaryDirectory(prefix="signedge.") as work:
        bundle = bundle_for(job, Path(work) / "bundle", cut=cut)
        for line in bundle.said:
            tell(line)
        if job.order.device:
            return ship(bundle.folder, job.order.device, out, progress=tell)
        tell(f"signedge's own Python has no module {job.lacks}: the system's builds, or the one that $PYTHON names")
        return build_beside(bundle.folder, out, tell)


def gate_clips(job: Job, corpus: Corpus) -> Iterator[GateClip]:
    """The development clips, with what is in them and what the FP32 graph reads of them here."""
    baseline = Engine.from_onnx(job.model, GATE_THREADS)
    for row in corpus.split(SPLIT):
        clip = corpus.load_for(row, job.contract.modality)
        read = baseline.recognise(clip.frames, clip.keypoints)
        values = chosen(job.contract, clip.frames, clip.keypoints)
        yield GateClip(row.id, values, tuple(clip.glosses), tuple(read), ())
