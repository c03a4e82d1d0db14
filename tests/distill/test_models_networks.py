"""The recognisers: lengths, independence of a clip from its batch, inference form, cost, specs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from distill.models import Recogniser, build, resolve
from distill.models.layers import TemporalConv
from distill.models.timeline import Packed
from runtime.contract import KeypointInput, RgbInput
from runtime.errors import BadInput

CLASSES = 6
JOINTS = ("left_wrist", "left_hand_thumb4", "left_hand_index4", "nose")
KEYPOINTS = KeypointInput(layout=JOINTS, joints=JOINTS, roots=("left_wrist",) * 4, origin=("nose",))
RGB = RgbInput(16, 16)
SPECS: dict[str, dict[str, Any]] = {
    "cnn2d1d": {
        "name": "cnn2d1d", "widths": [4, 6], "blocks": [1, 1], "spatial": "grid", "spatial_width": 8,
        "temporal": 12, "frame_map": 0,
    },
    "lrinet": {
        "name": "lrinet", "stem": {"width": 4}, "stages": [{"width": 5, "stride": 2}], "middle": {"width": 7},
        "top": {"width": 8, "stride": 2},
    },
    "stgcn": {
        "name": "stgcn", "widths": [6, 8], "kernel": 3, "free": True, "pool": "flatten", "frame_width": 8,
        "temporal": 12,
    },
    "stgt": {
        "name": "stgt", "width": 8, "joints": {"layers": 1, "heads": 2}, "frame_width": 8, "temporal": 12,
        "steps": {"layers": 1, "heads": 2}, "radius": 2,
    },
}  # fmt: skip
SKELETON = ("stgcn", "stgt")
NETWORKS = pytest.mark.parametrize("name", sorted(SPECS))


def network(name: str, **changes: Any) -> Recogniser:
    """A tiny network with random weights and random batch statistics, so that no normalisation is the identity."""
    torch.manual_seed(0)
    made = build({**SPECS[name], **changes}, CLASSES, KEYPOINTS if name in SKELETON else RGB)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.2)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return made


def clips(made: Recogniser, *frames: int) -> list[torch.Tensor]:
    """Random clips of the padded lengths that `frames` frames have."""
    shape = (len(JOINTS), 5) if made.frame_map_shape is None else (3, RGB.height, RGB.width)
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(made.padding.total(count), *shape, generator=generator) for count in frames]


def forward(made: Recogniser, batch: list[torch.Tensor]) -> Any:
    return made(torch.cat(batch), torch.tensor([len(clip) for clip in batch]))


@NETWORKS
def test_every_length_gives_a_step_for_each_four_frames_begun(name: str) -> None:
    made = network(name).eval()
    batch = clips(made, *range(1, 41))
    with torch.no_grad():
        out = forward(made, batch)
    assert out.lengths.tolist() == [-(-frames // 4) for frames in range(1, 41)]
    assert out.logits.shape == (40, 10, CLASSES)
    assert out.features.shape == (40, 10, made.feature_dim)


@NETWORKS
def test_a_clip_alone_and_in_a_batch_is_the_same(name: str) -> None:
    made = network(name).eval()
    batch = clips(made, 9, 40, 21)
    with torch.no_grad():
        together = forward(made, batch)
        for i, clip in enumerate(batch):
            alone = forward(made, [clip])
            steps = int(alone.lengths)
            torch.testing.assert_close(together.logits[i, :steps], alone.logits[0], atol=1e-5, rtol=0)
            torch.testing.assert_close(together.features[i, :steps], alone.features[0], atol=1e-5, rtol=0)


@NETWORKS
def test_training_statistics_know_nothing_of_batch_padding(name: str) -> None:
    """The same clips in another order, so that other clips need padding, leave the same running statistics."""
    one, two = network(name, dropout=0.0).train(), network(name, dropout=0.0).train()
    batch = clips(one, 9, 40, 21)
    ours, theirs = forward(one, batch), forward(two, batch[::-1])
    torch.testing.assert_close(ours.logits[0, :3], theirs.logits[2, :3], atol=1e-5, rtol=0)
    for key, value in one.state_dict().items():
        torch.testing.assert_close(value, two.state_dict()[key], atol=1e-5, rtol=1e-5)


def test_temporal_batch_norm_averages_over_valid_steps_only() -> None:
    torch.manual_seed(0)
    temporal = TemporalConv(3, 4).train()
    rows = [torch.randn(length, 3) for length in (16, 36)]
    temporal(torch.cat(rows), Packed(torch.tensor([16, 36])))
    valid = torch.cat([temporal.convs[0](clip.t()[None]) for clip in rows], 2)
    torch.testing.assert_close(temporal.norms[0].running_mean, 0.1 * valid.mean((0, 2)))


@NETWORKS
def test_inference_form_equals_forward(name: str) -> None:
    made = network(name).eval()
    first, second = clips(made, 24, 24)
    with torch.no_grad():
        expected = forward(made, [first, second]).logits.log_softmax(-1)
        got = made.inference()(torch.stack([first, second]))
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


@NETWORKS
def test_inference_form_is_a_copy_that_stays_in_evaluation_mode(name: str) -> None:
    made = network(name).train()
    shipped = made.inference()
    shipped.train()
    assert made.training
    assert not any(module.training for module in shipped.modules())
    assert {id(p) for p in shipped.parameters()}.isdisjoint(id(p) for p in made.parameters())


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_auxiliary_heads_exist_in_training_only() -> None:
    made = network("lrinet")
    batch = clips(made, 9, 16)
    out = forward(made.train(), batch)
    (full, full_lengths), (half, half_lengths) = out.auxiliary
    assert full.shape == (2, 16, CLASSES)
    assert half.shape == (2, 8, CLASSES)
    assert (full_lengths.tolist(), half_lengths.tolist()) == ([12, 16], [6, 8])
    assert forward(made.eval(), batch).auxiliary == []
    assert parameters(made.inference()) == parameters(network("lrinet", auxiliary=False)) < parameters(made)


@pytest.mark.parametrize("name", ["cnn2d1d", "lrinet"])
def test_frame_maps_hold_one_map_a_frame(name: str) -> None:
    made = network(name).eval()
    batch = clips(made, 5, 8)
    out = forward(made, batch)
    assert out.frame_maps.shape == (sum(len(clip) for clip in batch), *made.frame_map_shape)
    alone = forward(made, batch[1:]).frame_maps
    torch.testing.assert_close(out.frame_maps[len(batch[0]) :], alone, atol=1e-5, rtol=0)


@NETWORKS
def test_lookahead_is_the_last_frame_a_step_reads(name: str) -> None:
    changes = {"steps": {"layers": 0}} if name == "stgt" else {}
    made = network(name, **changes).double().eval()
    (clip,) = clips(made, 80)
    clip = clip.double()
    step, last_own = 8, made.padding.left + 8 * 4 + 3
    with torch.no_grad():
        before = forward(made, [clip]).logits[0, step]

        def changes_it(frame: int) -> bool:
            changed = clip.clone()
            changed[frame] += 50
            return bool((forward(made, [changed]).logits[0, step] != before).any())

        assert changes_it(last_own)
        assert not any(changes_it(last_own + made.lookahead + beyond) for beyond in (1, 2, 5))
        assert any(changes_it(last_own + made.lookahead - within) for within in (0, 1))


def test_attention_over_steps_looks_at_the_whole_clip() -> None:
    assert network("stgt").lookahead == -1


@NETWORKS
def test_the_same_seed_builds_the_same_network(name: str) -> None:
    one, two = network(name).state_dict(), network(name).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)


@NETWORKS
def test_every_parameter_learns(name: str) -> None:
    made = network(name, dropout=0.0).train()
    out = forward(made, clips(made, 16, 40))
    (out.logits.square().mean() + sum(logits.square().mean() for logits, _ in out.auxiliary)).backward()
    unused = [key for key, parameter in made.named_parameters() if parameter.grad is None]
    assert unused == []


@NETWORKS
def test_exported_graph_agrees_at_lengths_it_was_not_exported_with(name: str, tmp_path: Any) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    made = network(name).eval()
    shipped = made.inference()
    example = clips(made, 24)[0][None]
    time = torch.export.Dim("time", min=4, max=4096)
    torch.onnx.export(
        shipped, (example,), tmp_path / "model.onnx", dynamo=True, dynamic_shapes=({1: time},), opset_version=20,
        input_names=["input"], output_names=["log_probs"], verbose=False,
    )  # fmt: skip
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for clip in clips(made, 3, 8, 61):
        (got,) = session.run(None, {"input": clip[None].numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(got), shipped(clip[None]), atol=1e-4, rtol=0)


def cost(spec: dict[str, Any], classes: int, source: RgbInput, frames: int) -> tuple[int, float]:
    """Parameters of the inference form and MACs a frame, without allocating anything."""
    with torch.device("meta"):
        shipped = build(spec, classes, source).inference()
        clip = torch.empty(1, frames, 3, source.height, source.width)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shipped(clip)
    return parameters(shipped), counter.get_total_flops() / 2 / frames


def test_lrinet_at_paper_scale_costs_what_its_reconstruction_says() -> None:
    count, macs = cost({"name": "lrinet", "preset": "paper"}, 1296, RgbInput(56, 56), 64)
    assert count / 1e6 == pytest.approx(14.2, abs=0.1)
    assert macs / 1e9 == pytest.approx(0.513, abs=0.003)


def test_paper_teacher_is_a_resnet18_with_two_wide_convolutions() -> None:
    count, macs = cost({"name": "cnn2d1d", "preset": "paper"}, 1296, RgbInput(224, 224), 28)
    resnet18 = 11_176_512
    temporal = (512 + 1024) * 1024 * 5 + 2 * 2 * 1024
    assert count == resnet18 + temporal + 1024 * 1296 + 1296
    assert macs / 1e9 == pytest.approx(1.82, abs=0.01)


def test_small_presets_share_a_frame_map_size() -> None:
    teacher = build({"name": "cnn2d1d", "preset": "small"}, CLASSES, RgbInput(64, 64))
    student = build({"name": "lrinet", "preset": "small"}, CLASSES, RgbInput(32, 32))
    assert teacher.frame_map_shape is not None
    assert student.frame_map_shape is not None
    assert teacher.frame_map_shape[1:] == student.frame_map_shape[1:] == (8, 8)


@pytest.mark.parametrize("name, preset", [(name, size) for name in sorted(SPECS) for size in ("paper", "small")])
def test_a_resolved_spec_builds_the_same_network_without_its_preset(name: str, preset: str) -> None:
    source = KEYPOINTS if name in SKELETON else RgbInput(64, 64)
    resolved = resolve({"name": name, "preset": preset, "dropout": 0.3})
    assert "preset" not in resolved
    assert resolved["dropout"] == 0.3
    assert resolve(resolved) == resolved
    with torch.device("meta"):
        one = build({"name": name, "preset": preset}, CLASSES, source).state_dict()
        two = build(resolved, CLASSES, source).state_dict()
    assert {key: value.shape for key, value in one.items()} == {key: value.shape for key, value in two.items()}


@pytest.mark.parametrize(
    "spec, says",
    [
        ({"name": "resnet"}, "there are: cnn2d1d, lrinet, stgcn, stgt"),
        ({}, "there are"),
        ({**SPECS["stgt"], "colour": 1}, "colour"),
        ({**SPECS["stgt"], "width": 7}, "multiple of joints.heads"),
        ({**SPECS["stgcn"], "kernel": 4}, "kernel: must be odd"),
        ({**SPECS["stgcn"], "bones": [["nose", "left_wrist"]]}, "no bone .* left_hand_thumb4, left_hand_index4"),
        ({**SPECS["cnn2d1d"], "blocks": [1]}, "one entry a stage"),
        ({**SPECS["cnn2d1d"], "frame_map": 2}, "frame_map 2"),
        ({**SPECS["lrinet"], "top": {"width": 0}}, "top.width"),
        ({"name": "lrinet", "preset": "huge"}, "paper, small"),
    ],
)
def test_a_wrong_spec_says_what_is_wrong(spec: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        build(spec, CLASSES, KEYPOINTS if spec.get("name") in SKELETON else RGB)


def test_a_network_refuses_the_other_modality() -> None:
    with pytest.raises(BadInput, match="does not read rgb"):
        build(SPECS["stgt"], CLASSES, RGB)
    with pytest.raises(BadInput, match="does not read keypoints"):
        build(SPECS["lrinet"], CLASSES, KEYPOINTS)
