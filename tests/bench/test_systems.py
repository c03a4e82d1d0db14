"""Systems: engines and eager runs behind one face, and where each came from."""

from __future__ import annotations

import json

import numpy as np
import pytest
from bench_stage import GLOSSES, JOINTS, TRKD, write_corpus, write_engine, write_onnx, write_run

from bench.lineage import Lineage, find_plain, find_teacher, label, of_run
from bench.systems import EagerSystem, EngineSystem, Opener, distinct, example_input, reopen, tell_apart
from distill.run import load_run
from runtime.decode import greedy, to_glosses
from runtime.errors import BadInput
from runtime.trust import sign


def lineage_of(folder):
    return of_run(load_run(folder))


def test_an_engine_reads_clips_and_knows_what_it_is(tmp_path):
    corpus = write_corpus(tmp_path / "corpus")
    system = EngineSystem(write_engine(tmp_path / "some.engine", "c1", "int8"), threads=1)
    assert (system.name, system.runtime, system.precision, system.target) == (
        "some.engine-int8",
        "onnxruntime",
        "int8",
        "x86-cpu",
    )
    assert (
        system.hashes["checkpoint"] == "c1" and system.hashes["onnx"] == "0" * 64 and len(system.hashes["engine"]) == 64
    )
    assert system.bytes_on_disk == (tmp_path / "some.engine/engine.onnx").stat().st_size
    clip = corpus.load(corpus.rows[0], frames=False)
    log_probs = system.log_probs(system.prepare(clip))
    assert log_probs.shape == (1, 3, len(GLOSSES) + 1)
    assert np.exp(log_probs).sum(-1) == pytest.approx(1, abs=1e-5)
    assert "onnxruntime" in system.through
    assert system.recognise(clip) == to_glosses(greedy(log_probs[0]), system.contract.glosses)
    assert set(system.recognise(clip)) <= set(GLOSSES)


def test_an_engine_takes_the_name_of_the_run_that_it_came_from(tmp_path):
    known = {"c1": Lineage("stgt-trkd", "stgt", "TRKD", "c1")}
    system = EngineSystem(write_engine(tmp_path / "any", "c1"), 1, known)
    assert system.name == "stgt-trkd-fp32" and system.lineage.distillation == "TRKD"
    assert EngineSystem(write_engine(tmp_path / "other", "c2"), 1, known).name == "other-fp32"


def test_a_bare_onnx_file_is_a_system_too(tmp_path):
    (tmp_path / "x").mkdir()
    system = EngineSystem(write_onnx(tmp_path / "x" / "model.onnx", "c1"), 1)
    assert system.name == "x-fp32" and system.hashes["engine"] == "" and len(system.hashes["onnx"]) == 64


def test_an_eager_run_gives_what_its_network_computes(tmp_path):
    import torch

    corpus = write_corpus(tmp_path / "corpus")
    checkpoint = write_run(tmp_path / "stgt", corpus.fingerprint(), seed=7)
    system = EagerSystem(tmp_path / "stgt", threads=1)
    assert (system.name, system.runtime, system.precision) == ("stgt-eager", "pytorch", "fp32")
    assert system.hashes == {"checkpoint": checkpoint, "onnx": "", "engine": ""}
    assert torch.get_num_threads() == 1
    x = system.prepare(corpus.load(corpus.rows[0], frames=False))
    with torch.no_grad():
        expected = load_run(tmp_path / "stgt").model.inference()(torch.from_numpy(x)).numpy()
    assert np.allclose(system.log_probs(x), expected, atol=1e-6)


def test_a_system_can_be_opened_again_from_its_opener(tmp_path):
    write_run(tmp_path / "run", "corpus")
    engine = EngineSystem(write_engine(tmp_path / "engine", "c1"), 1)
    assert reopen(engine.opener).hashes == engine.hashes
    assert reopen(Opener("eager", str(tmp_path / "run"), 1)).name == "run-eager"


def test_example_input_has_the_shape_of_a_prepared_clip(tmp_path):
    corpus = write_corpus(tmp_path / "corpus")
    for rgb in (False, True):
        write_run(tmp_path / f"run{rgb}", "corpus", rgb=rgb)
        system = EagerSystem(tmp_path / f"run{rgb}", 1)
        row = corpus.rows[1]
        example = example_input(system.contract, row.frames)
        assert example.shape == system.prepare(corpus.load(row)).shape
        assert example.shape[2:] == ((3, 8, 8) if rgb else (len(JOINTS), 5))


def test_two_systems_of_one_name_are_refused(tmp_path):
    known = {"c1": Lineage("stgt", checkpoint="c1")}
    systems = [EngineSystem(write_engine(tmp_path / name, "c1"), 1, known) for name in ("a", "b")]
    with pytest.raises(BadInput, match="two systems are called 'stgt-fp32'"):
        distinct(systems)


def test_engines_that_would_share_a_name_go_by_their_folders(tmp_path):
    folders = [write_engine(tmp_path / name, "c1", precision) for name, precision in
               (("vac-auto-1", "auto"), ("vac-auto-2", "auto"), ("vac", "fp32"))]  # fmt: skip
    known = {"c1": Lineage("vac", checkpoint="c1")}
    systems = [EngineSystem(path, 1, known) for path in folders]
    tell_apart(systems)
    assert [system.name for system in systems] == ["vac-auto-1", "vac-auto-2", "vac-fp32"]
    distinct(systems)
    files = [write_onnx(tmp_path / name, "c1") for name in ("a.onnx", "b.onnx")]
    bare = [EngineSystem(path, 1, known) for path in files]
    tell_apart(bare)
    assert [system.name for system in bare] == ["a", "b"]


def test_what_an_engine_says_of_itself_is_passed_on(tmp_path):
    folder = write_engine(tmp_path / "x", "c1", "auto")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["decisions"] = [{"node": str(i), "precision": "int8" if i else "fp32"} for i in range(3)]
    told = {"unsigned": manifest, "own": sign(manifest), "changed": {**sign(manifest), "precision": "fp32"}}
    for name, text in told.items():
        (folder / "manifest.json").write_text(json.dumps(text))
        system = EngineSystem(folder, 1)
        assert system.nodes == {"fp32": 1, "int8": 2}
        assert ("its manifest was changed after it was signed" in system.remarks) == (name == "changed")


def test_a_bundle_is_told_from_an_engine(tmp_path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").write_text('{"kind": "bundle", "format": 1, "files": {}}')
    with pytest.raises(BadInput, match="bundle is a bundle, not yet an engine"):
        EngineSystem(tmp_path / "bundle", 1)


def test_what_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(BadInput, match="nowhere"):
        EngineSystem(tmp_path / "nowhere", 1)
    with pytest.raises(BadInput, match="nowhere"):
        EagerSystem(tmp_path / "nowhere", 1)


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ({}, ""),
        ({"kd": {"weight": 1}, "crd": {"weight": 0.3}, "relation": {"weight": 0.3}}, "TRKD"),
        ({"kd": {"weight": 1}, "crd": {"weight": 0}, "relation": {"weight": 0.3}}, "KD + relation"),
        ({"feature": {"weight": 1}, "kd": {"weight": 1}}, "CRKD"),
        ({"kd": {"weight": 1}}, "KD"),
        ({"relation": {"weight": 0}, "feature": None}, ""),
    ],
)
def test_the_label_of_a_distillation_is_that_of_its_terms(terms, expected):
    assert label(terms) == expected


def test_lineage_is_read_from_the_run_not_from_its_name(tmp_path):
    teacher = write_run(tmp_path / "alpha", "corpus", rgb=True)
    write_run(tmp_path / "beta", "corpus", seed=1)
    write_run(tmp_path / "gamma", "corpus", teacher=teacher, distillation=TRKD, seed=2)
    alpha, beta, gamma = (lineage_of(tmp_path / name) for name in ("alpha", "beta", "gamma"))
    assert (alpha.architecture, gamma.architecture, gamma.distillation) == ("lrinet", "stgt", "TRKD")
    assert find_teacher([alpha, beta, gamma]) == alpha
    assert find_plain(gamma, [alpha, beta, gamma]) == beta
    assert find_plain(beta, [alpha, beta, gamma]) is None
    assert find_teacher([alpha, beta]) is None


def test_the_plain_twin_is_the_one_trained_as_long():
    plain = {"architecture": "stgt", "corpus": "c", "spec": {"name": "stgt"}}
    distilled = Lineage("d", distillation="TRKD", epochs=30, **plain)
    long, same = Lineage("long", epochs=60, **plain), Lineage("same", epochs=30, **plain)
    elsewhere = Lineage("elsewhere", epochs=30, **{**plain, "corpus": "another"})
    assert find_plain(distilled, [long, elsewhere, same]) == same
    assert find_plain(distilled, [elsewhere]) is None
