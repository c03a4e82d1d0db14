"""Networks that are not ours: from a checkpoint and a page of YAML to an engine that passed its gate."""

from __future__ import annotations

import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

import foreign_stage as stage
import numpy as np
import pytest
import torch
from foreign_stage import CONTRACT, write_theirs
from network_stage import Networks
from torch import nn
from torch.nn.utils import rnn

import signedge
from distill.corpus.store import Corpus
from export import onnx_graph, parity, traps
from export.foreign import Foreign, load_foreign
from export.foreign_spec import read_spec
from export.onnx_graph import ExportReport, export_onnx
from runtime.engine import Engine
from runtime.errors import BadInput, CriterionFailed
from runtime.hashing import sha256_file

ROWS = """\
name: rows
input: {kind: rgb, height: 8, width: 8}
glosses: [BLUE, GREEN, RED]
fps: 25
call: {frames: BTCHW, lengths: true, axes: BTK}
"""
ONE_CLIP = """\
name: one-clip
input: {kind: rgb, height: 8, width: 8}
glosses: [BLUE, GREEN, RED]
blank: 3
fps: 25
call: {frames: TCHW, axes: TK, output: 0, scores: probs}
"""
VOLUME = """\
name: volume
input: {kind: rgb, height: 8, width: 8}
glosses: [BLUE, GREEN, RED]
fps: 25
pixels: {scale: 255, mean: [0.5, 0.4, 0.3], std: [0.2, 0.2, 0.3]}
call: {frames: BCTHW, lengths: lengths, output: logits, axes: TBK}
"""
GRAPH = """\
name: graph
input: {kind: keypoints, joints: [left_wrist, right_wrist, nose], origin: [left_shoulder, right_shoulder]}
glosses: [BLUE, GREEN, RED]
fps: 25
call: {frames: BCTVM, output: scores, axes: BKT, channels: [0, 1, 4]}
"""


def torch_forms() -> list[Any]:
    """What is replaced while a network is exported."""
    return [nn.LSTM.forward, nn.GRU.forward, rnn.pack_padded_sequence, nn.functional.max_pool1d]


FORMS = torch_forms()


def load(folder: Path, monkeypatch: pytest.MonkeyPatch, contract: str, kind: Any, *arguments: Any) -> Foreign:
    """A network of the stage with random weights, as `signedge export --model` loads it."""
    torch.manual_seed(1)
    weights, agreed = write_theirs(folder, kind(*arguments), contract)
    monkeypatch.setattr(stage, "made", lambda: kind(*arguments), raising=False)
    return load_foreign("foreign_stage:made", weights, agreed)


def exported(theirs: Foreign, path: Path) -> ExportReport:
    return export_onnx(theirs.module, theirs.contract, path, theirs.left_out, theirs.foldable)


def test_a_fork_of_vac_compiles_with_twenty_lines_of_contract(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(CONTRACT.splitlines()) <= 20
    weights, contract = write_theirs(tmp_path, stage.colours())
    model = tmp_path / "theirs.onnx"
    words = ["export", "--model", "foreign_stage:colours", "--weights", str(weights), "--contract", str(contract)]
    assert signedge.main([*words, "--out", str(model), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    shown = {item["frames"]: item["difference"] for item in report["parity"]}
    assert len(shown) >= 4 and max(shown.values()) <= 1e-5
    assert report["left_out"] == {"network.conv1d.fc.weight": 16 * stage.CLASSES}
    for precision in ("fp32", "int8"):
        folder = tmp_path / precision
        build = ["engine", str(model), "--precision", precision, "--corpus", str(corpus.folder), "--out", str(folder)]
        assert signedge.main(build) == 0
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest["gate"]["passed"] and manifest["gate"]["wer"] == 0
        assert manifest["chain"]["checkpoint"] == sha256_file(weights)
        engine = Engine.open(folder, 1)
        for row in corpus.split("test"):
            assert engine.recognise(frames=corpus.load(row).frames) == row.glosses


def test_the_graph_equals_the_network_run_packed_and_nothing_of_torch_stays_replaced(networks: Networks) -> None:
    made = networks("bilstm")
    assert torch_forms() == FORMS
    assert stage.pack_padded_sequence is rnn.pack_padded_sequence
    engine = Engine.from_onnx(made.report.path, 1)
    clips = [torch.from_numpy(parity.plausible_clip(engine.contract, frames, 7)) for frames in (90, 30)]
    batch = nn.utils.rnn.pad_sequence([clip[0] for clip in clips], batch_first=True)
    with torch.no_grad():  # as a fork runs two clips of different lengths
        wanted = made.trained(batch, torch.tensor([clip.shape[1] for clip in clips]))
    for number, clip in enumerate(clips):
        steps = int(wanted["feat_len"][number])
        logits = wanted["sequence_logits"][:steps, number].log_softmax(-1)
        np.testing.assert_allclose(engine.log_probs(clip.numpy())[0], logits, atol=1e-5)


EXPORTED = {
    "lstm": (ROWS, stage.Recurrent, "lstm"), "gru": (ROWS, stage.Recurrent, "gru"),
    "rnn": (ROWS, stage.Recurrent, "rnn"), "transformer": (ROWS, stage.Transformer), "shift": (ROWS, stage.Shift),
    "volume": (VOLUME, stage.Volume), "graph": (GRAPH, stage.Graph, 3), "one clip": (ONE_CLIP, stage.OneClip),
}  # fmt: skip


@pytest.mark.parametrize("kind", EXPORTED)
def test_other_kinds_export_one_after_the_other(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contract, network, *arguments = EXPORTED[kind]
    theirs = load(tmp_path, monkeypatch, contract, network, *arguments)
    report = exported(theirs, tmp_path / "model.onnx")
    if kind == "lstm":  # the exporter itself freezes the second of them in a process
        exported(theirs, tmp_path / "again.onnx")
        assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "model.onnx").read_bytes()
    assert {item.frames for item in report.parity} == set(parity.FRAMES)
    assert report.dynamic_batch == (kind != "one clip")
    assert not report.left_out


REFUSED = {
    "decoding": (CONTRACT.replace(", skip: [decoder.decode]", ""), stage.Vac, r"\(decode\): .*call\.skip"),
    "loop": (ROWS, stage.Loop, "loops over time"),
    "choice": (ROWS, stage.Masked, r"NonZero.*by a mask of values"),
    "branch": (ROWS, stage.Decides, r"foreign_stage\.py:\d+ \(through\): it decides by values"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_exported_is_named_with_its_remedy(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract, network, message = REFUSED[kind]
    theirs = load(tmp_path, monkeypatch, contract, network)
    with pytest.raises(CriterionFailed, match=message):
        exported(theirs, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_scatter_and_frozen_graphs_are_told_with_what_to_write_instead(exported: ExportReport) -> None:
    model = onnx_graph.read_model(exported.path)
    from onnx import helper

    model.graph.node.append(helper.make_node("ScatterND", ["input", "input", "input"], ["where"], name="shift"))
    with pytest.raises(CriterionFailed, match=r"shift \(ScatterND\).*torch\.cat"):
        onnx_graph.check_graph(model, exported.parameters)


def test_equal_forms_refuse_what_has_none() -> None:
    with pytest.raises(traps.Untraceable, match="proj_size=2"):
        traps.recurrent(nn.LSTM(4, 4, proj_size=2), torch.zeros(3, 1, 4))
    with pytest.raises(traps.Untraceable, match="return_indices"):
        traps.max_pool1d(torch.zeros(1, 2, 8), 2, return_indices=True)
    with pytest.raises(traps.Untraceable, match="packed sequence"):
        traps.pad_packed_sequence(rnn.pack_sequence([torch.zeros(3, 4)]))
    with pytest.raises(traps.Untraceable, match="int\\(\\)"):
        int(traps.Lengths(16, 2).max())


def test_pooling_over_time_has_an_equal_form() -> None:
    x = torch.randn(2, 3, 29)
    ways: list[dict[str, Any]] = [
        {"kernel_size": 2},
        {"kernel_size": 5, "stride": 3, "padding": 2},
        {"kernel_size": [3], "stride": [2], "ceil_mode": True},
        {"kernel_size": 3, "dilation": 2},
    ]
    for arguments in ways:
        torch.testing.assert_close(traps.max_pool1d(x, **arguments), nn.functional.max_pool1d(x, **arguments))


def test_equal_lengths_behave_like_a_tensor_of_them() -> None:
    ours, real = traps.Lengths(24, 2), torch.tensor([24, 24])
    halved = torch.div(ours - 4, 2, rounding_mode="floor").cpu().long()
    assert halved.tolist() == torch.div(real - 4, 2, rounding_mode="floor").tolist() == [10, 10]
    assert ours.max().item() == 24 and list(ours[:1]) == [24] and ours[1] == 24 and len(ours) == 2
    assert (2 * ours + ours - 1).tolist() == [71, 71] and (30 - ours).tolist() == [6, 6]
    mask = torch.arange(25)[None] < ours[:, None]
    assert torch.equal(mask, torch.arange(25)[None] < real[:, None])
    assert torch.equal(torch.cat([real, ours.tensor()]), torch.stack([real, real]).flatten())
    assert ours.float().tensor().float().mean() == 24
    assert torch.equal(ours * torch.tensor([1, 2]), torch.tensor([24, 48]))
    for chain in (lambda n: torch.div(n, 16).ceil(), lambda n: (n / 16 - 1).long() + 1, lambda n: torch.floor(n / 16)):
        assert chain(ours).tolist() == chain(real).tolist()
    assert (torch.max(ours) // 5).item() == 4


class Reached(nn.Module):
    """A layer behind no_grad, one whose result is dropped, and one that is used."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.idle, self.used = (nn.Linear(3, 3) for _ in range(3))
        self.last = nn.Linear(3, stage.CLASSES)
        self.frozen.requires_grad_(False)

    def forward(self, x: torch.Tensor, lengths: Any) -> torch.Tensor:
        with torch.no_grad():
            rows = self.frozen(x.mean((3, 4)))
        self.idle(rows)
        return self.last(self.used(rows).unflatten(1, (-1, 4)).amax(2))


def test_parameters_that_nothing_depends_on_are_left_out_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = load(tmp_path, monkeypatch, ROWS, Reached)
    assert theirs.left_out == {"network.idle.weight": 9, "network.idle.bias": 3}
    assert all(item.isfinite().all() for item in theirs.module.parameters())


class Unlearnable(Reached):
    """Writes into what a gradient would need, and looks for NaN in a layer whose result is dropped."""

    def forward(self, x: torch.Tensor, lengths: Any) -> torch.Tensor:
        rows = torch.sigmoid(self.used(self.frozen(x.mean((3, 4)))))
        rows += 1
        if self.idle.bias.isnan().any():
            raise ValueError("NaN")
        return self.last(rows.unflatten(1, (-1, 4)).amax(2))


def test_a_network_without_gradients_loses_no_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = load(tmp_path, monkeypatch, ROWS, Unlearnable)
    assert theirs.left_out == {"network.idle.weight": 9}
    assert all(item.isfinite().all() for item in theirs.module.parameters())


def test_what_the_contract_says_is_what_the_network_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = "pixels: {scale: 255, mean: [0.1, 0.2, 0.3], std: [0.5, 0.6, 0.7], order: BGR, crop: 6}\n"
    theirs = load(tmp_path, monkeypatch, ROWS + pixels, stage.Shift)
    frames = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    x = torch.from_numpy((frames / 127.5 - 1).transpose(0, 3, 1, 2).astype(np.float32))[None]
    cut = frames[:, 1:7, 1:7, ::-1] / 255
    wanted = ((cut - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]).transpose(0, 3, 1, 2)[None]
    np.testing.assert_allclose(theirs.module.arranged(x), wanted, atol=1e-6)


LAYOUTS = {
    "BTVC": (1, 4, 3, 5), "BCTV": (1, 5, 4, 3), "BTCV": (1, 4, 5, 3), "BCTVM": (1, 5, 4, 3, 1), "BTF": (1, 4, 15),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_keypoints_come_in_the_layout_asked_for(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = load(tmp_path, monkeypatch, GRAPH, stage.Graph, 3)
    call = theirs.module.call.model_copy(update={"frames": layout, "channels": []})
    theirs.module.call, theirs.module.channels = call, []
    x = torch.arange(60.0).reshape(1, 4, 3, 5)
    found = theirs.module.arranged(x)
    assert tuple(found.shape) == LAYOUTS[layout]
    if layout != "BTF":
        axes = layout.rstrip("M")
        np.testing.assert_array_equal(np.einsum(f"{axes}->BTVC", found.squeeze(-1) if "M" in layout else found), x)


def test_the_blank_comes_first_wherever_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = load(tmp_path, monkeypatch, ONE_CLIP.replace("blank: 3", "blank: 1"), stage.OneClip)
    x = torch.from_numpy(parity.plausible_clip(theirs.contract, 9, 0))
    with torch.no_grad():
        probabilities = theirs.module.network(x[0])[0]
        found = theirs.module(x)[0].exp()
    torch.testing.assert_close(found, probabilities[:, [1, 0, 2, 3]])


def test_wrong_use_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "model.onnx")]
    assert signedge.main(["export", *out]) == 2
    assert signedge.main(["export", "run", "--model", "a:b", *out]) == 2
    assert signedge.main(["export", "run", "--weights", "w.pt", *out]) == 2
    assert capsys.readouterr().err.count("give either RUN, or --model with --weights and --contract") == 3
    assert signedge.main(["export", "--model", "a:b", *out]) == 2
    assert "--model needs --weights and --contract, too" in capsys.readouterr().err


def test_the_factory_is_found_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "network_of_a_fork.py").write_text("from foreign_stage import Shift\nmake = Shift\n")
    weights, contract = write_theirs(tmp_path, stage.Shift(), ROWS)
    monkeypatch.chdir(folder)
    assert load_foreign("network_of_a_fork:make", weights, contract).contract.name == "rows"


FACTORIES = {
    "foreign_stage": "must be package.module:factory",
    "no_such_module_here:make": "cannot import no_such_module_here: it is not in this folder",
    "foreign_stage:colors": "has no 'colors'; did you mean colours?",
    "foreign_stage:CONTRACT": "must be a function or a class",
    "foreign_stage:write_theirs": "missing a required argument: 'folder'.*contract's `build`",
    "foreign_stage:Decoder": "gives a Decoder; it must give a torch.nn.Module",
}


@pytest.mark.parametrize("factory", FACTORIES)
def test_a_factory_that_does_not_work_is_told(factory: str, tmp_path: Path) -> None:
    weights, contract = write_theirs(tmp_path, stage.Shift(), ROWS)
    with pytest.raises(BadInput, match=FACTORIES[factory]):
        load_foreign(factory, weights, contract)


def test_a_factory_that_raises_is_told_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fork_that_fails.py").write_text("import no_such_dependency\n")
    (tmp_path / "fork_that_raises.py").write_text("def make():\n    return {}['weights']\n")
    weights, contract = write_theirs(tmp_path, stage.Shift(), ROWS)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match="it needs 'no_such_dependency', which is not installed"):
        load_foreign("fork_that_fails:make", weights, contract)
    with pytest.raises(BadInput, match=r"fork_that_raises\.py:2 \(make\): KeyError: 'weights'"):
        load_foreign("fork_that_raises:make", weights, contract)


def test_names_that_signedge_or_python_has_already_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("export", "runtime"):
        (tmp_path / folder).mkdir()
    (tmp_path / "export" / "models.py").write_text("")
    (tmp_path / "runtime" / "layers.py").write_text("")
    (tmp_path / "json.py").write_text("")
    (tmp_path / "fork_of_ours.py").write_text("import runtime.layers\n")
    (tmp_path / "fork_by_name.py").write_text("from runtime import a_layer\n")
    weights, contract = write_theirs(tmp_path, stage.Shift(), ROWS)
    monkeypatch.chdir(tmp_path)
    for factory, name, whose in (
        ("export.models:make", "export", "signedge has one"), ("export:make", "export", "signedge has one"),
        ("fork_of_ours:make", "runtime", "signedge has one"), ("fork_by_name:make", "runtime", "signedge has one"),
        ("json:make", "json", r"there is another \(.*json.__init__\.py\)"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=rf"this folder has a '{name}', but {whose} of this name; give yours"):
            load_foreign(factory, weights, contract)


def test_a_factory_that_ends_the_program_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fork_that_parses.py").write_text(
        "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--config', required=True)\n"
        "parser.parse_args([])\n"
    )
    (tmp_path / "fork_that_ends.py").write_text("def make():\n    raise SystemExit(3)\n")
    weights, contract = write_theirs(tmp_path, stage.Shift(), ROWS)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"cannot import fork_that_parses: fork_that_parses\.py:4 .*it ended the"):
        load_foreign("fork_that_parses:make", weights, contract)
    with pytest.raises(BadInput, match=r"fork_that_ends:make failed: fork_that_ends\.py:2 \(make\): it ended the"):
        load_foreign("fork_that_ends:make", weights, contract)


def test_the_folder_of_a_fork_comes_last_once_its_network_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fork_that_imports_late.py").write_text(
        "from foreign_stage import Shift\n\n\nclass Late(Shift):\n    def forward(self, x, lengths):\n"
        "        import part_of_a_fork\n        return part_of_a_fork.same(super().forward(x, lengths))\n"
    )
    (tmp_path / "part_of_a_fork.py").write_text("def same(x):\n    return x\n")
    weights, contract = write_theirs(tmp_path, stage.Shift(), ROWS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert load_foreign("fork_that_imports_late:Late", weights, contract).contract.name == "rows"
    assert sys.path[-1] == str(tmp_path) and sys.path.count(str(tmp_path)) == 1


DISAGREEING = {
    "output": (("output: sequence", "output: my"), r"call\.output: 'my_logits' is no tensor.*sequence_logits \(1"),
    "no output": (("output: sequence_logits, ", ""), r"the result is no tensor; the network gives a dict"),
    "axes": (("TBK", "BTK"), r"call\.axes is BTK.*shape \(4, 1, 4\)"),
    "number of axes": (("TBK", "TK"), "both have the axis B"),
    "classes": (("[BLUE, GREEN, RED]", "[BLUE, GREEN]"), r"gives 4 classes, the contract names 3"),
    "padding": (("left: 6", "left: 10"), r"frame_stride: 4, padding: \{left: 6, right: 6, multiple: 4\}"),
    "too short": (("left: 6, right: 6", "left: 0, right: 0"), r"fails on a clip of 1 frames.*left: 6, right: 6"),
    "layout": (("BTCHW", "BCTHW"), r"given as BCTHW \(1, 3, 16, 8, 8\).*foreign_stage\.py:\d+"),
    "scores": (("axes: TBK", "axes: TBK, scores: log_probs"), "they do not add up to 1; say logits"),
    "skip": (("decoder.decode", "decoder.read"), r"the network has no 'decoder\.read'"),
    "lengths": (("lengths: true, ", ""), "missing 1 required positional argument: 'len_x'"),
}  # fmt: skip


@pytest.mark.parametrize("change", DISAGREEING)
def test_a_network_that_does_not_keep_to_its_contract_is_told(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (before, after), message = DISAGREEING[change]
    assert before in CONTRACT
    with pytest.raises(BadInput, match=message):
        load(tmp_path, monkeypatch, CONTRACT.replace(before, after), stage.Vac)


WRONG = {
    "missing": ("fps: 25\n", "", "fps: Field required"),
    "unknown": ("fps:", "frame_rate: 1\nfps:", "frame_rate: there is no such field"),
    "near": ("padding:", "pading:", "pading: there is no such field, did you mean padding?"),
    "layout": ("BTCHW", "BTHW", r"call\.frames: Input should be 'BTCHW', 'BCTHW'"),
    "kind of layout": ("BTCHW", "BTVC", "call.frames is BTVC; for rgb it is BTCHW, BCTHW"),
    "axes": ("TBK", "TBC", r"call\.axes: Input should be 'TBK', 'BTK', 'BKT' or 'TK'"),
    "kind": ("kind: rgb", "kind: video", r"input: .*'rgb', 'keypoints'"),
    "size": ("height: 8", "height: 0", r"input\.height: Input should be greater than or equal to 1"),
    "blank": ("fps:", "blank: 9\nfps:", "blank is 9; with 3 glosses it is from 0 to 3"),
    "stride": ("fps:", "frame_stride: 0\nfps:", "frame_stride: Input should be greater than or equal to 1"),
    "lookahead": ("fps:", "lookahead: -2\nfps:", "lookahead: Input should be greater than or equal to -1"),
    "chunk": ("fps:", "chunk: 6\nfps:", r"chunk \(6\)"),
    "glosses": ("[BLUE, GREEN, RED]", "[BLUE, GREEN, BLUE]", "names a gloss twice"),
    "gloss that is none": ("GREEN, RED]", "NO, RED]", "glosses: False is no text; put glosses such as NO"),
    "no glosses": ("[BLUE, GREEN, RED]", "{BLUE: 1}", "glosses: a list of texts, or the name of a file"),
    "file of glosses": ("[BLUE, GREEN, RED]", "glosses.txt", "missing file .*glosses.txt"),
    "crop": ("fps:", "pixels: {crop: 9}\nfps:", "pixels.crop is 9; the frames are 8 x 8"),
    "channels": ("skip:", "channels: [0, 1], skip:", "call.channels: of keypoints only"),
    "std": ("fps:", "pixels: {std: [1, 0, 1]}\nfps:", r"pixels\.std\.1: Input should be greater than 0"),
    "no YAML": ("fps:", "fps: [", "is not YAML"),
    "no date": ("name: theirs", "name: 2024-13-45", "is not YAML: month must be"),
    "twice": ("call:", "padding: {left: 0}\ncall:", "'padding' is there twice"),
    "too deep": ("name: theirs", f"name: {'[' * 5000}", "nested too deeply"),
    "too large": ("name: theirs", f"name: {'x' * (1 << 20)}", "it has more than 1048576 bytes"),
    "not finite": ("fps:", "pixels: {std: [1, 1, .inf]}\nfps:", r"pixels\.std\.2: Input should be a finite number"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_faulty_contract_names_the_field_and_what_it_may_be(fault: str, tmp_path: Path) -> None:
    before, after, message = WRONG[fault]
    assert before in CONTRACT
    weights, contract = write_theirs(tmp_path, stage.vac(), CONTRACT.replace(before, after))
    with pytest.raises(BadInput, match=message):
        load_foreign("foreign_stage:vac", weights, contract)


def test_the_contract_of_the_readme_is_one(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (text,) = [block for block in re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL) if "call:" in block]
    assert len(text.splitlines()) <= 20
    (tmp_path / "contract.yaml").write_text(text, encoding="utf-8")
    assert read_spec(tmp_path / "contract.yaml").call.output == "sequence_logits"


def test_arguments_of_the_factory_come_from_the_contract(tmp_path: Path) -> None:
    weights, contract = write_theirs(tmp_path, stage.vac(5), CONTRACT + "build: {classes: 5}\n")
    with pytest.raises(BadInput, match="gives 5 classes, the contract names 4"):
        load_foreign("foreign_stage:vac", weights, contract)
    assert "classes" in inspect.signature(stage.vac).parameters
