"""The demo, really run: every stage leaves its artefact, a second call goes on from there, refusals are shown."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch

import bench.demo
from bench.demo import QUICK, TARGET, WAYS, Way, run
from bench.record import ComparisonRecord, NoteRecord, RefusalRecord, SystemRecord, read_records
from distill.corpus.store import Corpus
from runtime.errors import BadInput, CriterionFailed
from runtime.hashing import sha256_file
from signedge import main

# One of each kind: the teacher, a student on keypoints and one on frames, both taught. Their untaught twins in the demo
# go the same way as the teacher does, and would make this half as long again.
FEWER = tuple(way for way in WAYS if way.name in ("teacher", "stgt-trkd", "lrinet-crkd"))
NAMES = [way.name for way in FEWER]


@dataclass
class Told:
    """What the demo said of its progress."""

    lines: list[tuple[str, str, int, int]] = field(default_factory=list)

    def __call__(self, who: str, what: str, done: int, total: int) -> None:
        self.lines.append((who, what, done, total))

    def of(self, who: str) -> list[str]:
        return [what for name, what, _, _ in self.lines if name == who]


@dataclass
class Stage:
    out: Path
    page: Path
    told: Told


@pytest.fixture(scope="module")
def fewer() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setattr(bench.demo, "WAYS", FEWER)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def quick(fewer: None, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """A quick demo that has been run once."""
    out, told = tmp_path_factory.mktemp("demo") / "out", Told()
    return Stage(out, run(out, 1, QUICK, 1, told), told)


def stamps(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_the_networks_of_the_demo() -> None:
    """Two students, each by itself and taught by the one teacher."""
    assert {way.name for way in WAYS} == {"teacher", "stgt", "stgt-long", "stgt-trkd", "lrinet", "lrinet-crkd"}
    assert {way.name for way in WAYS if way.teacher == "teacher"} == {"stgt-trkd", "lrinet-crkd"}


def test_every_stage_leaves_its_artefact(quick: Stage) -> None:
    assert (quick.out / "corpus" / "corpus.yaml").is_file()
    for name in NAMES:
        assert json.loads((quick.out / "runs" / name / "run.json").read_text())["status"] == "complete"
        assert (quick.out / "onnx" / f"{name}.onnx").is_file()
        assert quick.told.of(name)[-1] == "ready"
    engines = {path.name for path in (quick.out / "engines").iterdir()}
    assert engines == {f"{name}-{precision}" for name in NAMES for precision in ("fp32", "int8")}
    assert ("corpus", "generating clips", 36, 36) in quick.told.lines
    assert "asking the teacher" in quick.told.of("stgt-trkd") and "asking the teacher" not in quick.told.of("teacher")
    assert not list(quick.out.rglob("*.tmp"))


def test_the_records_hold_every_engine(quick: Stage) -> None:
    records = read_records(quick.out / "results.jsonl")
    systems = {record.system: record for record in records if isinstance(record, SystemRecord)}
    assert set(systems) == {
        "teacher-eager", *(f"{name}-{precision}" for name in NAMES for precision in ("fp32", "int8"))
    }  # fmt: skip
    for record in systems.values():
        assert record.wer is not None and record.wer.split == "test" and len(record.wer.utterances) == 6
        assert record.latency is not None and record.complexity is not None and record.target == TARGET
        assert record.provenance.command == "signedge demo --seed 1 --quick"
    assert systems["stgt-trkd-int8"].distillation == "TRKD" and systems["lrinet-crkd-fp32"].distillation == "CRKD"
    assert any(isinstance(record, ComparisonRecord) for record in records)


def test_the_report_says_that_quick_figures_mean_nothing(quick: Stage) -> None:
    assert quick.page == quick.out.resolve() / "report" / "index.html"
    notes = [note.text for note in read_records(quick.out / "results.jsonl") if isinstance(note, NoteRecord)]
    assert any("none of these figures means anything" in text for text in notes)
    for name in ("index.html", "report.md"):
        assert "none of these figures means anything" in (quick.out / "report" / name).read_text(encoding="utf-8")


def test_another_demo_in_the_same_folder_is_refused(quick: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    before = stamps(quick.out)
    assert main(["demo", "--quick", "--seed", "2", "--out", str(quick.out), "--jobs", "1"]) == 2
    error = capsys.readouterr().err
    assert "is of another demo" in error and len(error.splitlines()) == 1
    assert stamps(quick.out) == before


def ruin_for_int8(out: Path, name: str) -> None:
    """Give a trained LRINet one feature a hundred thousand times as large as the others, and no engine any more.

    In FP32 it now reads the commonest gloss of dev in every clip. A step of 8 bits over its features is larger than all
    of them but that one, so in INT8 they vanish, and with them the gloss.
    """
    run_folder, corpus = out / "runs" / name, Corpus(out / "corpus")
    words = Counter(gloss for row in corpus.split("dev") for gloss in row.glosses)
    gloss = 1 + corpus.metadata.glosses.index(words.most_common(1)[0][0])
    stored = torch.load(run_folder / "weights.pt", weights_only=True)
    state = stored["state_dict"]
    state["spatial.grid.1.weight"] *= 1e-3
    state["spatial.grid.1.bias"][:] = 1
    state["spatial.grid.1.bias"][0] = 1e5
    state["classifier.weight"][:] = 0
    state["classifier.weight"][gloss, 1:] = 1
    state["classifier.bias"][:] = -100
    state["classifier.bias"][0] = 1
    torch.save(stored, run_folder / "weights.pt")
    summary = json.loads((run_folder / "run.json").read_text())
    contract = json.loads((run_folder / "contract.json").read_text())
    summary["checkpoint"] = contract["sources"]["checkpoint"] = sha256_file(run_folder / "weights.pt")
    (run_folder / "run.json").write_text(json.dumps(summary))
    (run_folder / "contract.json").write_text(json.dumps(contract))
    for precision in ("fp32", "int8"):
        shutil.rmtree(out / "engines" / f"{name}-{precision}")


def test_a_second_call_goes_on_and_shows_what_the_gate_refuses(quick: Stage) -> None:
    """What is there is kept. What was made from other weights, or passed the gate with another budget, is made again;
    the gate refuses what INT8 ruined.
    """
    ruin_for_int8(quick.out, "lrinet-crkd")
    before = {name: stamps(quick.out / name) for name in ("corpus", "runs", "onnx", "engines")}
    told = Told()
    strict = replace(QUICK, budget=0.0)
    run(quick.out, 1, strict, 1, told)

    after = {name: stamps(quick.out / name) for name in before}
    made = {
        f"{room}/{path}" for room in before for path, stamp in after[room].items() if before[room].get(path) != stamp
    }
    assert {path for path in made if "-int8" not in path and not path.startswith("engines/lrinet-crkd-fp32/")} == {
        "onnx/lrinet-crkd.onnx"
    }
    assert told.of("corpus") == ["there already"]
    assert told.of("teacher") == told.of("stgt-trkd") == ["compiling int8", "ready"]
    assert told.of("lrinet-crkd") == ["exporting to ONNX", "compiling fp32", "compiling int8", "ready"]

    records = read_records(quick.out / "results.jsonl")
    refusals = {record.system: record for record in records if isinstance(record, RefusalRecord)}
    refusal = refusals["lrinet-crkd-int8"]
    assert (refusal.system, refusal.precision, refusal.budget) == ("lrinet-crkd-int8", "int8", 0.0)
    assert "failed the WER gate" in refusal.reason and refusal.provenance.onnx
    systems = {record.system for record in records if isinstance(record, SystemRecord)}
    assert "lrinet-crkd-fp32" in systems and "lrinet-crkd-int8" not in systems
    page = (quick.out / "report" / "index.html").read_text(encoding="utf-8")
    assert 'id="refusals"' in page and "failed the WER gate" in page
    assert "none of these figures means anything" not in page

    before, told = {name: stamps(quick.out / name) for name in after}, Told()
    bench.demo._make_engines(quick.out, 1, strict, 1, told)
    assert before == {name: stamps(quick.out / name) for name in before}
    assert [told.of(name) for name in NAMES] == [["ready"]] * len(NAMES)


def test_an_error_of_one_network_ends_the_others_at_once(quick: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.demo, "WAYS", (Way("demo/nothing"), Way("demo/lrinet")))
    endless = replace(QUICK, changes=(*QUICK.changes, "training.epochs=100000"))
    with pytest.raises(BadInput, match="no recipe 'demo/nothing'"):
        bench.demo._make_engines(quick.out, 1, endless, 2, Told())
    assert not multiprocessing.active_children()


class Killer(Told):
    """Ends a network from outside as soon as it trains, as a system short of memory does."""

    def __call__(self, who: str, what: str, done: int, total: int) -> None:
        super().__call__(who, what, done, total)
        if what.startswith("training"):
            for child in multiprocessing.active_children():
                if not child.name.startswith("SyncManager"):
                    child.kill()


def test_a_network_that_is_ended_from_outside_is_told_in_one_line(
    quick: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.demo, "WAYS", (Way("demo/lrinet"),))
    endless = replace(QUICK, changes=(*QUICK.changes, "training.epochs=100000"))
    with pytest.raises(CriterionFailed, match=r"lrinet: its process was ended from outside \(status -9\); .*--jobs"):
        bench.demo._make_engines(quick.out, 1, endless, 1, Killer())
    assert not multiprocessing.active_children()
