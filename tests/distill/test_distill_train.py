"""Training: learns, leaves a whole run folder, survives being killed, refuses what does not fit."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

import distill.train as training
from distill.alignment import UNKNOWN, best_path, nearest_gloss, pseudo_labels
from distill.corpus import Corpus
from distill.data import Augmenter, ClipSet, Side, collate
from distill.loop import check_devices
from distill.recipe import Augmentation, Recipe, Training
from distill.run import load_run
from distill.schedule import rate
from distill.teacher_cache import CachedTeacher, LiveTeacher
from distill.train import train
from runtime.errors import BadInput, CriterionFailed
from runtime.hashing import sha256_bytes


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return tiny.write_corpus(tmp_path_factory.mktemp("train") / "corpus")


@pytest.fixture(scope="module")
def taught(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained teacher's run folder; students stand beside it."""
    return train(tiny.teacher(), corpus, tmp_path_factory.mktemp("runs") / "teacher")


def _curve(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def test_a_run_folder_says_everything(corpus: Corpus, taught: Path) -> None:
    assert {path.name for path in taught.iterdir()} == {
        "recipe.yaml", "contract.json", "weights.pt", "metrics.jsonl", "run.json"
    }  # fmt: skip
    run = load_run(taught)
    assert run.summary["status"] == "complete" and run.summary["corpus"] == corpus.fingerprint()
    assert run.summary["epochs"] == 2 == len(run.curve) and run.summary["clips"] == {"train": 10, "dev": 4}
    assert run.summary["parameters"] == sum(p.numel() for p in run.model.inference().parameters())
    assert run.contract.sources["checkpoint"] == run.checkpoint_hash == run.summary["checkpoint"]
    assert run.contract.glosses[1:] == tuple(tiny.GLOSSES) and run.contract.padding == run.model.padding
    longest = max(row.frames for row in corpus.split("train"))
    assert longest > 32 and 0 <= run.contract.chunk - longest < 4 == run.contract.frame_stride
    assert run.contract.shift == 16
    assert run.curve[0]["dev_wer"] is None and run.curve[1]["dev_wer"] == run.summary["dev_wer"]
    assert set(run.curve[0]["losses"]) == {"ctc"} and run.curve[0]["seconds"] > 0
    assert not run.model.training


def test_it_learns(corpus: Corpus, tmp_path: Path) -> None:
    recipe = tiny.skeleton(training={"epochs": 30, "evaluate_every": 30, "learning_rate": 0.02})
    run = load_run(train(recipe, corpus, tmp_path / "run"))
    assert run.curve[-1]["loss"] < 0.2 * run.curve[0]["loss"]
    assert run.summary["dev_wer"] < 50


@pytest.mark.parametrize(
    ("student", "settings", "terms"),
    [
        (tiny.skeleton, tiny.TRKD, {"ctc", "kd", "crd", "relation"}),
        (tiny.skeleton, {**tiny.TRKD, "pseudo_labels": False}, {"ctc", "kd", "crd", "relation"}),
        (tiny.lowres, tiny.CRKD, {"ctc", "auxiliary", "kd", "feature"}),
        (tiny.lowres, {**tiny.CRKD, "cache_teacher": True}, {"ctc", "auxiliary", "kd", "feature"}),
    ],
)
def test_students_learn_from_the_teacher_and_keep_nothing_of_it(
    corpus: Corpus, taught: Path, tmp_path: Path, student: Any, settings: dict[str, Any], terms: set[str]
) -> None:
    run = load_run(train(student(teacher=str(taught), distillation=settings), corpus, tmp_path / "student"))
    assert all(set(line["losses"]) == terms for line in run.curve)
    if "crd" in terms:
        assert run.curve[0]["losses"]["crd"] < run.curve[1]["losses"]["crd"], "the contrastive terms grow in at first"
    assert run.summary["teacher"] == load_run(taught).checkpoint_hash
    plain = load_run(train(student(), corpus, tmp_path / "plain"))
    assert run.summary["parameters"] == plain.summary["parameters"]
    assert set(run.model.state_dict()) == set(plain.model.state_dict())
    assert any(not torch.equal(a, b) for a, b in zip(run.model.parameters(), plain.model.parameters(), strict=True))


def test_the_cache_says_what_the_live_teacher_says(corpus: Corpus, taught: Path) -> None:
    run = load_run(taught)
    clips = ClipSet(corpus, corpus.split("train"), Side(run.contract.input, run.contract.padding), teacher := Side(
        run.contract.input, run.contract.padding
    ))  # fmt: skip
    augmenter = Augmenter(Augmentation(rescale=0.3, shift=0.1), 1, cached_views=2)
    live = LiveTeacher(run.model, teacher, maps=True)
    cache = CachedTeacher(live, clips, augmenter, batch_size=3)
    assert cache.nbytes > 0
    for epoch in (0, 1):
        batch = collate(clips, [3, 0, 7, 1], augmenter, epoch, teacher=True)
        said, cached = live(batch), cache(batch)
        assert torch.equal(said.lengths, cached.lengths)
        for row, steps in enumerate(said.lengths.tolist()):
            assert torch.allclose(said.logits[row, :steps], cached.logits[row, :steps], atol=1e-5)
            assert torch.allclose(said.features[row, :steps], cached.features[row, :steps], atol=1e-2)
        assert said.frame_maps is not None and cached.frame_maps is not None
        assert torch.allclose(said.frame_maps, cached.frame_maps, atol=1e-2)
        assert len(said.frame_maps) == 4 * int(said.lengths.sum())


def test_the_live_teacher_speaks_in_full_precision(corpus: Corpus, taught: Path) -> None:
    run = load_run(taught)
    side = Side(run.contract.input, run.contract.padding)
    batch = collate(ClipSet(corpus, corpus.split("train"), side, side), [0, 1], teacher=True)
    live = LiveTeacher(run.model, side, maps=True)
    alone = live(batch)
    with torch.autocast("cpu", torch.bfloat16):
        said = live(batch)
    assert torch.equal(said.logits, alone.logits) and torch.equal(said.features, alone.features)
    assert said.frame_maps is not None and alone.frame_maps is not None
    assert torch.equal(said.frame_maps, alone.frame_maps)


KILLED = """
import os, signal, sys
from pathlib import Path
import tiny
from distill.corpus import Corpus
from distill.train import train
stage, epoch, corpus, out = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]

def watch(event):
    if event["stage"] == stage and event["epoch"] == epoch and event.get("done", 2) == 2:
        os.kill(os.getpid(), signal.SIGKILL)

recipe = tiny.skeleton(teacher="teacher", distillation=tiny.TRKD, training=tiny.LONGER)
train(recipe, Corpus(corpus), Path(out), progress=watch)
"""


def test_killed_at_any_moment_it_ends_as_if_nothing_had_happened(corpus: Corpus, taught: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(taught, runs / "teacher")
    recipe = tiny.skeleton(teacher="teacher", distillation=tiny.TRKD, training=tiny.LONGER)
    train(recipe, corpus, runs / "whole")

    here = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([here, str(Path(__file__).parents[2])])}
    # In the middle of an epoch; then after the metrics of an epoch were written and before its resume point is.
    for stage, epoch, resumed in (("step", 2, 1), ("epoch", 3, 2)):
        command = [sys.executable, "-c", KILLED, stage, str(epoch), str(corpus.folder), str(runs / "cut")]
        ended = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        state = torch.load(runs / "cut" / "last.ckpt", weights_only=True)
        assert len(json.loads(state["curve"])) == resumed
        with pytest.raises(BadInput, match="not finished"):
            load_run(runs / "cut")
    events: list[dict[str, Any]] = []
    train(recipe, corpus, runs / "cut", progress=events.append)
    assert {"stage": "resume", "epoch": 2} in events

    assert _curve(runs / "cut") == _curve(runs / "whole")
    assert (runs / "cut" / "weights.pt").read_bytes() == (runs / "whole" / "weights.pt").read_bytes()
    assert {path.name for path in (runs / "cut").iterdir()} == {path.name for path in (runs / "whole").iterdir()}


def test_killed_after_the_last_epoch_only_the_end_is_done_again(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def power_cut(*_: object) -> None:
        raise KeyboardInterrupt

    whole = train(tiny.skeleton(), corpus, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(training, "_finish", power_cut)
        with pytest.raises(KeyboardInterrupt):
            train(tiny.skeleton(), corpus, tmp_path / "cut")
    events: list[dict[str, Any]] = []
    train(tiny.skeleton(), corpus, tmp_path / "cut", progress=events.append)
    assert "epoch" not in [event["stage"] for event in events]
    assert (tmp_path / "cut" / "weights.pt").read_bytes() == (whole / "weights.pt").read_bytes()


def test_ctrl_c_stays_an_interrupt_and_the_run_goes_on(corpus: Corpus, tmp_path: Path) -> None:
    def press(event: dict[str, Any]) -> None:
        if event["stage"] == "step" and event["epoch"] == 2:
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(tiny.skeleton(), corpus, tmp_path / "run", progress=press)
    assert signal.getsignal(signal.SIGINT) is before
    assert load_run(train(tiny.skeleton(), corpus, tmp_path / "run")).summary["epochs"] == 2


ENDED = KILLED.replace("from pathlib", "from runtime.atomic import unwinding_on_sigterm\nfrom pathlib").replace(
    "signal.SIGKILL", "signal.SIGTERM"
).replace("train(recipe,", "with unwinding_on_sigterm(): train(recipe,")  # fmt: skip


def test_sigterm_ends_a_training_with_its_status(corpus: Corpus, taught: Path, tmp_path: Path) -> None:
    shutil.copytree(taught, tmp_path / "teacher")
    here = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([here, str(Path(__file__).parents[2])])}
    command = [sys.executable, "-c", ENDED, "step", "2", str(corpus.folder), str(tmp_path / "run")]
    ended = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert ended.returncode == 143, ended.stderr
    assert (tmp_path / "run" / "last.ckpt").exists() and not list((tmp_path / "run").glob(".*"))


def test_one_training_at_a_time_in_a_folder(corpus: Corpus, tmp_path: Path) -> None:
    def interfere(event: dict[str, Any]) -> None:
        if event["stage"] == "step":
            train(tiny.skeleton(seed=9), corpus, tmp_path / "run")

    with pytest.raises(BadInput, match="another process is training into"):
        train(tiny.skeleton(), corpus, tmp_path / "run", progress=interfere)
    assert load_run(train(tiny.skeleton(), corpus, tmp_path / "run")).summary["epochs"] == 2


def test_a_folder_without_an_epoch_takes_a_corrected_recipe(corpus: Corpus, tmp_path: Path) -> None:
    def stop(event: dict[str, Any], epoch: int) -> None:
        if event["stage"] == "step" and event["epoch"] == epoch:
            raise RuntimeError("stop")

    for seed, epoch in ((3, 1), (4, 2)):
        with pytest.raises(RuntimeError, match="stop"):
            train(tiny.skeleton(seed=seed), corpus, tmp_path / "run", progress=partial(stop, epoch=epoch))
    with pytest.raises(BadInput, match=r"another recipe \(seed: 4 -> 5\)"):
        train(tiny.skeleton(seed=5), corpus, tmp_path / "run")
    text = (tmp_path / "run/recipe.yaml").read_text()
    (tmp_path / "run/recipe.yaml").write_text("broken: [")
    with pytest.raises(BadInput, match="another recipe; choose"):
        train(tiny.skeleton(seed=5), corpus, tmp_path / "run")
    (tmp_path / "run/recipe.yaml").write_text(text)
    assert load_run(train(tiny.skeleton(seed=4), corpus, tmp_path / "run")).recipe.seed == 4


def test_a_corpus_other_than_the_recipe_expects_is_told_and_recorded(corpus: Corpus, tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    expecting = tiny.skeleton(corpus={"track": "hard"})
    run = load_run(train(expecting, corpus, tmp_path / "run", progress=events.append))
    (told,) = [event["text"] for event in events if event["stage"] == "warning"]
    assert "hard track" in told and run.summary["warnings"] == [told]
    assert run.recipe.corpus == expecting.corpus
    assert load_run(train(tiny.skeleton(), corpus, tmp_path / "plain")).summary["warnings"] == []


def test_a_run_from_before_recipes_named_a_corpus_goes_on(corpus: Corpus, tmp_path: Path) -> None:
    def stop(event: dict[str, Any]) -> None:
        if event["stage"] == "step" and event["epoch"] == 2:
            raise RuntimeError("stop")

    out, recipe = tmp_path / "run", tiny.skeleton()
    with pytest.raises(RuntimeError, match="stop"):
        train(recipe, corpus, out, progress=stop)
    text = (out / "recipe.yaml").read_text().replace("corpus: null\n", "")
    assert sha256_bytes(text.encode()) == json.loads((out / "run.json").read_text())["recipe"]  # as it was written then
    (out / "recipe.yaml").write_text(text)
    events: list[dict[str, Any]] = []
    train(tiny.skeleton(corpus={"track": "hard"}), corpus, out, progress=events.append)
    assert {"stage": "resume", "epoch": 1} in events and load_run(out).summary["epochs"] == 2
    (out / "recipe.yaml").write_text(text)
    assert load_run(out).recipe.corpus is None


def test_devices_that_are_not_there_are_told(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(BadInput, match=r"training\.devices: 2 asked for, found: 1"):
        train(tiny.skeleton(training={"devices": 2}), corpus, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    check_devices(tiny.skeleton(training={"devices": 2}).training)


def test_a_finished_run_is_left_as_it_is(corpus: Corpus, taught: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in taught.iterdir()}
    events: list[dict[str, Any]] = []
    train(tiny.teacher(), corpus, taught, progress=events.append)
    assert events == [{"stage": "complete"}]
    assert before == {path: path.stat().st_mtime_ns for path in taught.iterdir()}


def test_a_folder_of_something_else_is_refused(corpus: Corpus, taught: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"another recipe \(seed: 3 -> 9\); choose another --out"):
        train(tiny.teacher(seed=9), corpus, taught)
    changed = tiny.teacher(seed=9, training={"epochs": 5, "augment": {"shift": 0.1, "contrast": 0.1}})
    with pytest.raises(BadInput, match=r"\(seed: 3 -> 9, training.epochs: 2 -> 5, [^,]*shift: 0\.0 -> 0\.1, 1 more\);"):
        train(changed, corpus, taught)
    other = tiny.write_corpus(tmp_path / "other", seed=5)
    with pytest.raises(BadInput, match="another corpus"):
        train(tiny.teacher(), other, taught)
    with pytest.raises(BadInput, match="not a run folder"):
        train(tiny.teacher(), corpus, corpus.folder)
    with pytest.raises(BadInput, match="is a file"):
        train(tiny.teacher(), corpus, corpus.folder / "clips.jsonl")


def test_a_broken_resume_point_is_named(corpus: Corpus, tmp_path: Path) -> None:
    def stop(event: dict[str, Any]) -> None:
        if event["stage"] == "step" and event["epoch"] == 2:
            raise RuntimeError("stop")

    out = tmp_path / "run"
    with pytest.raises(RuntimeError, match="stop"):
        train(tiny.skeleton(), corpus, out, progress=stop)
    whole = (out / "last.ckpt").read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for broken in (whole[: len(whole) // 2], bytes(flipped), b"", b"hello"):
        (out / "last.ckpt").write_bytes(broken)
        with pytest.raises(BadInput, match=r"last\.ckpt is corrupt; delete it"):
            train(tiny.skeleton(), corpus, out)
    (out / "last.ckpt").unlink()
    assert load_run(train(tiny.skeleton(), corpus, out)).summary["epochs"] == 2


def test_teachers_that_do_not_fit(corpus: Corpus, taught: Path, tmp_path: Path) -> None:
    student = tiny.lowres(teacher="teacher", distillation=tiny.CRKD)
    with pytest.raises(BadInput, match="train it first"):
        train(student, corpus, tmp_path / "runs" / "student")
    with pytest.raises(BadInput, match="no folder"):
        train(tiny.lowres(teacher=str(tmp_path / "x"), distillation=tiny.CRKD), corpus, tmp_path / "student")
    large = tiny.lowres(teacher=str(taught), distillation=tiny.CRKD, input={"kind": "rgb", "size": 16})
    with pytest.raises(BadInput, match="frame maps of one height and width"):
        train(large, corpus, tmp_path / "student")
    (tmp_path / "other").mkdir()
    other = tiny.write_corpus(tmp_path / "other" / "corpus")
    text = (other.folder / "corpus.yaml").read_text().replace("- WIND", "- WIND\n- SUN")
    (other.folder / "corpus.yaml").write_text(text)
    with pytest.raises(BadInput, match="other glosses"):
        train(student.model_copy(update={"teacher": str(taught)}), Corpus(other.folder), tmp_path / "student")
    assert not (tmp_path / "student").exists(), "nothing is written before everything fits"


def test_it_starts_from_the_weights_of_another_run(corpus: Corpus, taught: Path, tmp_path: Path) -> None:
    still = {"epochs": 1, "learning_rate": 1e-9}
    run = load_run(train(tiny.teacher(start_from=str(taught), training=still), corpus, tmp_path / "heir"))
    ancestor = load_run(taught).model.state_dict()
    for name, value in run.model.named_parameters():
        torch.testing.assert_close(value, ancestor[name], atol=1e-5, rtol=0)
    assert run.summary["start_from"] == load_run(taught).checkpoint_hash
    with pytest.raises(BadInput, match="start_from=PATH"):
        train(tiny.teacher(start_from="nobody"), corpus, tmp_path / "orphan")
    with pytest.raises(BadInput, match="same architecture"):
        train(tiny.skeleton(start_from=str(taught)), corpus, tmp_path / "other")


def test_bad_clips_stop_it_unless_they_may_be_skipped(tmp_path: Path) -> None:
    corpus = tiny.write_corpus(tmp_path / "corpus")
    broken = corpus.folder / (corpus.rows[3].keypoints or "")
    np.save(broken, np.zeros((5, 7, 3), np.float32))
    with pytest.raises(BadInput, match="train3"):
        train(tiny.skeleton(), Corpus(corpus.folder, strict=False), tmp_path / "run")
    events: list[dict[str, Any]] = []
    out = train(tiny.skeleton(), Corpus(corpus.folder, strict=False), tmp_path / "run", True, events.append)
    assert any(event["stage"] == "skip" and "train3" in event["fault"] for event in events)
    summary = load_run(out).summary
    assert {fault["clip"] for fault in summary["skipped"]} == {"train3"} and summary["clips"]["train"] == 9


def test_a_training_that_diverges_says_so(corpus: Corpus, tmp_path: Path) -> None:
    recipe = tiny.skeleton(training={"learning_rate": 1e30, "gradient_clip": 0, "warmup": 0})
    with pytest.raises(CriterionFailed, match="diverged in epoch"):
        train(recipe, corpus, tmp_path / "run")


def test_what_cannot_be_written_is_told_in_one_line(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot"):
        train(tiny.skeleton(), corpus, tmp_path / "file" / "run")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # as if the disk were full after 10 kB of a file
    try:
        with pytest.raises(BadInput, match=r"cannot write .*nothing was left behind"):
            train(tiny.skeleton(), corpus, tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list((tmp_path / "run").glob(".*")) and not (tmp_path / "run" / "last.ckpt").exists()
    assert load_run(train(tiny.skeleton(), corpus, tmp_path / "run")).summary["epochs"] == 2


def test_options_of_a_training_all_run(corpus: Corpus, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    augment = {"jitter": 0.01, "rotation": 5, "stretch": 0.1, "hand_dropout": 0.5, "rescale": 0.2}
    recipe = tiny.skeleton(
        training={
            "epochs": 3, "schedule": "steps", "precision": "bf16", "curriculum": True, "threads": 1, "augment": augment,
            "evaluate_every": 1,
        }
    )  # fmt: skip
    run = load_run(train(recipe, corpus, tmp_path / "run"))
    torch.set_num_threads(threads)
    assert all(line["dev_wer"] is not None for line in run.curve)


@pytest.mark.parametrize(("student", "settings"), [(tiny.skeleton, tiny.TRKD), (tiny.lowres, tiny.CRKD)])
def test_mixed_precision_ends_near_the_full_one(
    corpus: Corpus, taught: Path, tmp_path: Path, student: Any, settings: dict[str, Any]
) -> None:
    losses = {}
    for precision in ("32", "bf16", "auto"):
        recipe = student(teacher=str(taught), distillation=settings, training={"precision": precision, "epochs": 1})
        run = load_run(train(recipe, corpus, tmp_path / precision))
        losses[precision] = run.curve[0]["loss"]
        assert run.summary["precision"] == precision or precision == "auto"
        assert all(value.dtype in (torch.float32, torch.int64) for value in run.model.state_dict().values())
    assert losses["32"] != losses["bf16"] == pytest.approx(losses["32"], rel=0.1)
    assert losses["auto"] in (losses["32"], losses["bf16"])


def test_a_corpus_without_a_development_split_trains(tmp_path: Path) -> None:
    corpus = tiny.write_corpus(tmp_path / "corpus", dev=0)
    assert load_run(train(tiny.skeleton(), corpus, tmp_path / "run")).summary["dev_wer"] is None


def test_the_learning_rate_rises_and_falls() -> None:
    def curve(schedule: str) -> list[float]:
        settings = Training(epochs=1, learning_rate=1, schedule=schedule, warmup=0.2)  # type: ignore[arg-type]
        return [rate(settings, i / 100) for i in range(101)]

    for schedule, end in (("one-cycle", 1e-3), ("cosine", 0.0), ("steps", 0.04)):
        values = curve(schedule)
        assert max(values) == pytest.approx(1) and values[20] == pytest.approx(1)
        assert values[-1] == pytest.approx(end, abs=1e-9)
        assert values[:21] == sorted(values[:21]) and values[20:] == sorted(values[20:], reverse=True)
    assert curve("one-cycle")[0] == pytest.approx(0.04)


def test_forced_alignment_finds_the_best_path() -> None:
    scores = np.log(np.full((6, 4), 0.01))
    for step, label in enumerate([0, 1, 1, 0, 2, 0]):
        scores[step, label] = np.log(0.97)
    assert best_path(scores, np.array([1, 2])).tolist() == [0, 1, 1, 0, 2, 0]
    assert best_path(scores, np.array([1, 1])).tolist()[1] == 1, "equal glosses need a blank between them"
    assert nearest_gloss(np.array([0, 1, 1, 0, 2, 0])).tolist() == [1, 1, 1, 1, 2, 2]
    assert (best_path(scores, np.array([1, 1, 1, 1])) == UNKNOWN).all()
    assert (nearest_gloss(best_path(scores, np.array([], dtype=np.int64))) == UNKNOWN).all()
    logits = torch.from_numpy(np.stack([scores, scores])).float()
    labels = pseudo_labels(logits, torch.tensor([6, 3]), torch.tensor([1, 2, 1]), torch.tensor([2, 1]))
    assert labels.tolist() == [[1, 1, 1, 1, 2, 2], [1, 1, 1, -1, -1, -1]]


def test_forced_alignment_equals_exhaustive_search() -> None:
    rng = np.random.default_rng(0)
    from itertools import product

    for targets in ([1], [1, 2], [2, 2], [1, 2, 1]):
        scores = rng.normal(size=(5, 3))
        paths = [p for p in product(range(3), repeat=5) if _collapse(p) == targets]
        best = max(paths, key=lambda path: sum(scores[i, label] for i, label in enumerate(path)))
        assert best_path(scores, np.array(targets)).tolist() == list(best)


def _collapse(path: tuple[int, ...]) -> list[int]:
    return [label for i, label in enumerate(path) if label and (i == 0 or path[i - 1] != label)]


def test_recipes_are_kept_with_the_model_written_out(taught: Path) -> None:
    recipe = load_run(taught).recipe
    assert isinstance(recipe, Recipe) and recipe.model["spatial"] == "mean"
