"""`signedge engine` for what is not made here: bundles, devices, and what cannot go together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from export_stage import write_corpus

import export.engine as engines
import signedge
from distill.corpus.store import Corpus
from export.engine import Order, length_profiles, read_exported, start
from export.onnx_graph import ExportReport
from runtime.device.folder import read_bundle
from runtime.errors import Refused

ORIN = "jetson-orin-nano-8gb@6.2"


def run(exported: ExportReport, corpus: Corpus | None, out: Path, *words: str) -> int:
    given = [] if corpus is None else ["--corpus", str(corpus.folder)]
    return signedge.main(["engine", str(exported.path), *given, "--out", str(out), *words])


def test_a_bundle_is_told_with_its_gate_and_what_to_do(
    exported: ExportReport, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(exported, corpus, tmp_path / "orin", "--target", ORIN, "--tar") == 0
    told = capsys.readouterr()
    assert "a bundle, not yet an engine" in told.out and "WER gate passed: 0.00 % on 8 dev clips" in told.out
    assert f"{tmp_path / 'orin'}.tar: the same, packed" in told.out and (tmp_path / "orin.tar").is_file()
    assert "read only 8 clips" in told.err
    made = json.loads((tmp_path / "orin" / "made.json").read_text())
    assert made["machine"] == "jetson-orin-nano-8gb" and made["parity"]["lengths"]
    assert any("read only 8 clips" in warning for warning in made["warnings"])


def test_json_is_all_that_goes_to_stdout(
    exported: ExportReport, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(exported, corpus, tmp_path / "orin", "--target", ORIN, "--json") == 0
    assert json.loads(capsys.readouterr().out) == read_bundle(tmp_path / "orin")


def test_what_is_asked_of_the_plan_reaches_the_request(exported: ExportReport, corpus: Corpus, tmp_path: Path) -> None:
    words = ["--workspace-mb", "256", "--version-compatible", "--hardware-compatible", "ampere_plus"]
    assert run(exported, corpus, tmp_path / "a10", "--target", "a10@tensorrt-10.3", "--precision", "fp16", *words) == 0
    request = json.loads((tmp_path / "a10" / "request.json").read_text())
    assert (request["workspace_mb"], request["version_compatible"]) == (256, True)
    assert request["hardware_compatible"] == "ampere_plus"


def test_a_bundle_takes_an_onnx_runtime_along(exported: ExportReport, corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "libonnxruntime.so.1.31").write_bytes(b"of the target")
    words = ["--target", ORIN, "--precision", "fp16", "--onnxruntime"]
    assert run(exported, corpus, tmp_path / "orin", *words, str(tmp_path / "libonnxruntime.so.1.31")) == 0
    taken = tmp_path / "orin" / "lib" / "aarch64" / "libonnxruntime.so.1"
    assert taken.read_bytes() == b"of the target"
    assert run(exported, corpus, tmp_path / "other", *words, str(tmp_path / "absent")) == 2


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_what_flags_round_on_the_device_is_rounded_where_it_is_judged(
    exported: ExportReport, corpus: Corpus, tmp_path: Path, precision: str
) -> None:
    assert run(exported, corpus, tmp_path / "nx", "--target", "jetson-xavier-nx@5.1", "--precision", precision) == 0
    request = json.loads((tmp_path / "nx" / "request.json").read_text())
    assert request["fp16"] and request["keep_fp32"] and request["int8"] is (precision == "int8")
    manifest = read_bundle(tmp_path / "nx")
    assert manifest["gate"]["read"] == "judged.onnx" and "judged.onnx" in manifest["files"]


def test_the_same_order_gives_the_same_bundle(exported: ExportReport, corpus: Corpus, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert run(exported, corpus, tmp_path / name / "nx", "--target", "jetson-xavier-nx@5.1", "--tar") == 0
    assert (tmp_path / "one" / "nx.tar").read_bytes() == (tmp_path / "two" / "nx.tar").read_bytes()


@pytest.mark.parametrize(
    "words, status, says",
    [
        (["--tar"], 2, "--tar packs a bundle"),
        (["--target", ORIN, "--device", "user@nowhere.invalid"], 2, "there is no host of this name"),
        (["--target", ORIN, "--device", "no host"], 2, "is not user@host"),
        (["--target", ORIN, "--tar", "--device", "user@nowhere.invalid"], 2, "there is no host of this name"),
        (["--target", "jetson-agx-orin-64gb@7.2.2", "--dla"], 3, "would fit: --precision fp16"),
        (["--target", "jetson-orin-nx-16gb", "--precision", "auto", "--dla"], 3, "--precision fp16 or int8"),
        (["--workspace-mb", "64"], 2, "workspace_mb: that is asked of TensorRT, and onnxruntime builds no plans"),
        (["--target", "jetson-xavier-nx@5.1", "--version-compatible"], 3, "JetPack 5.1 makes no version-compatible"),
        (["--target", ORIN, "--hardware-compatible", "ampere_plus"], 3, "not for Jetson"),
        (["--target", "t4@tensorrt-10.3", "--hardware-compatible", "hopper"], 2, "there are: ampere_plus"),
        (["--target", "t4@tensorrt-10.3", "--hardware-compatible", "ampere_plus"], 3, "for t4 (7.5)"),
        (["--onnxruntime", "lib.so"], 2, "--onnxruntime goes into a bundle"),
        (["--frames", "30"], 2, "cannot be made for 30 frames: it takes from"),
        (["--target", "jetson-nano", "--precision", "fp16", "--dla"], 3, "jetson-nano has no DLA"),
        (["--target", "x86-cpu", "--dla"], 3, "has no DLA"),
        (["--target", "jetson-nano"], 3, "does not compute in int8"),
    ],
)
def test_what_cannot_go_together_ends_before_any_work(
    exported: ExportReport, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str],
    status: int, says: str, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(engines.Job, "cut", lambda job: pytest.fail("it calibrated first"))
    assert run(exported, corpus, tmp_path / "engine", *words) == status
    told = capsys.readouterr()
    assert told.out == "" and says in told.err and "Traceback" not in told.err
    assert not list(tmp_path.iterdir())


def test_a_place_that_is_taken_is_told_before_any_work(
    exported: ExportReport, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    for precision in ("fp32", "int8", "auto"):
        assert run(exported, corpus, tmp_path / "there", "--precision", precision) == 2
        assert "already exists" in capsys.readouterr().err
    (tmp_path / "orin.tar").touch()
    assert run(exported, corpus, tmp_path / "orin", "--target", ORIN, "--tar") == 2
    assert "already exists" in capsys.readouterr().err
    (tmp_path / "orin.tar").unlink()
    assert run(exported, corpus, Path(), "--precision", "auto") == 2
    assert "name one that is to be made" in capsys.readouterr().err
    assert [item.name for item in tmp_path.iterdir()] == ["there"]


def test_without_a_corpus_nothing_can_be_judged_elsewhere(
    exported: ExportReport, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(exported, None, tmp_path / "orin", "--target", ORIN, "--precision", "fp32") == 2
    assert "a bundle for it needs --corpus" in capsys.readouterr().err


def test_a_corpus_without_clips_for_the_gate_is_told_at_once(exported: ExportReport, tmp_path: Path) -> None:
    undeveloped = Corpus(write_corpus(tmp_path / "undeveloped", {"train": 3}))
    for target in ("x86-cpu", ORIN):
        for precision in ("fp32", "int8", "auto"):
            assert run(exported, undeveloped, tmp_path / "engine", "--target", target, "--precision", precision) == 2
    assert not (tmp_path / "engine").exists()


def test_where_its_own_machine_has_no_working_driver_a_bundle_is_left(
    exported: ExportReport, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Such as in a container on a Jetson: no Python there can build, but the Jetson can."""
    real = engines.resolve
    monkeypatch.setattr(engines, "resolve", lambda *given: real(*given)._replace(at_hand=True))
    assert run(exported, corpus, tmp_path / "orin", "--target", ORIN, "--precision", "fp32") == 0
    told = capsys.readouterr().out
    assert "this machine is no" not in told and f"sh {tmp_path / 'orin'}/build.sh" in told


def test_every_clip_of_the_gate_fits_the_profiles(exported: ExportReport, tmp_path: Path) -> None:
    corpus = Corpus(write_corpus(tmp_path / "corpus", {"train": 3, "dev": 6}))
    contract = read_exported(Path(exported.path))[1]
    row = max(corpus.split("dev"), key=lambda item: item.frames)
    row.frames = 10 * max(item.frames for item in corpus.rows)
    profiles = length_profiles(contract, corpus)
    assert profiles[0]["max"] >= contract.padding.total(row.frames)


def test_an_order_for_another_machine_is_not_carried_out_here(exported: ExportReport, corpus: Corpus) -> None:
    job = start(exported.path, Order(ORIN, "fp32"), corpus)
    with pytest.raises(Refused, match="this machine is no jetson-orin-nano-8gb"):
        engines.build_here(job, Path("engine"))
