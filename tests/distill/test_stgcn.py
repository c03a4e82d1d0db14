"""ST-GCN: the graph of the joints, its convolutions against the published form, what is exported, what it costs."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import nn

from distill.models import Recogniser, build, resolve
from distill.models.skeleton import body_and_hands_bones, neighbours, partitions
from distill.models.stgcn import GraphConv
from distill.models.timeline import Equal, Packed
from distill.recipe import PRESETS, KeypointSource, input_spec
from distill.run import load_run
from distill.train import train
from runtime.contract import Contract, KeypointInput, body_and_hands_layout
from runtime.errors import BadInput

LAYOUT = body_and_hands_layout()
BONES = body_and_hands_bones()
SHOULDERS = ("left_shoulder", "right_shoulder")


def source(joints: Any) -> KeypointInput:
    made = input_spec(KeypointSource(kind="keypoints", joints=joints), LAYOUT)
    assert isinstance(made, KeypointInput)
    return made


def network(joints: Any = "tips", classes: int = 31, **changes: Any) -> Recogniser:
    """The small preset with random batch statistics and edges, so that nothing is the identity by chance."""
    torch.manual_seed(0)
    made = build({"name": "stgcn", "preset": "small", **changes}, classes, source(joints)).eval()
    for name, item in made.named_parameters():
        if name.endswith("edges"):
            nn.init.uniform_(item, 0.5, 1.5)
        if name.endswith("added"):
            nn.init.normal_(item, std=0.02)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.2)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return made


def near(joints: tuple[str, ...]) -> dict[str, set[str]]:
    found = neighbours(joints, BONES)
    return {joint: {other for other, is_near in zip(joints, row, strict=True) if is_near}
            for joint, row in zip(joints, found, strict=True)}  # fmt: skip


def test_bones_are_mediapipes_between_the_joints_of_the_layout() -> None:
    assert len(BONES) == len(set(map(frozenset, BONES))) == 3 + 2 * (3 + 21)
    assert {joint for bone in BONES for joint in bone} == set(LAYOUT)
    hand = [bone for bone in BONES if all(joint.startswith("right_hand_") for joint in bone)]
    number = {joint: i for i, joint in enumerate(joint for joint in LAYOUT if joint.startswith("right_hand_"))}
    palm = {(0, 1), (0, 5), (5, 9), (9, 13), (13, 17), (0, 17)}
    fingers = {(i, i + 1) for start in (1, 5, 9, 13, 17) for i in range(start, start + 3)}
    assert {tuple(sorted((number[one], number[other]))) for one, other in hand} == palm | fingers
    assert near(LAYOUT)["left_wrist"] == {"left_elbow", "left_hand_root"}


def test_a_joint_left_out_joins_those_it_held_together() -> None:
    tips = {joint for joint in PRESETS["tips"] if joint.startswith("left_hand_")}
    found = near(PRESETS["tips"])
    assert found["left_hand_thumb4"] == tips - {"left_hand_thumb4"} | {"left_wrist"}
    assert found["left_elbow"] == {"left_shoulder", "left_wrist"}
    assert near(("left_hand_root", "right_hand_root"))["left_hand_root"] == {"right_hand_root"}
    for joints in PRESETS.values():
        graph = neighbours(joints, BONES)
        assert np.array_equal(graph, graph.T) and not graph.diagonal().any()
        assert np.linalg.matrix_power(graph + np.eye(len(joints)), len(joints)).all(), "not in one piece"


@pytest.mark.parametrize("joints", [LAYOUT, *PRESETS.values(), ("nose",)])
def test_partitions_share_out_the_same_edges(joints: tuple[str, ...]) -> None:
    (uniform,), distance, spatial = (partitions(how, joints, SHOULDERS, BONES)
                                     for how in ("uniform", "distance", "spatial"))  # fmt: skip
    assert (len(distance), len(spatial)) == (2, 3)
    np.testing.assert_allclose(uniform.sum(1), 1, rtol=1e-6)  # a joint hears the mean over its neighbours
    for subsets in (distance, spatial):
        assert np.array_equal(subsets.sum(0), uniform)
        assert ((subsets > 0).sum(0) <= 1).all()
    assert np.array_equal(distance[0] > 0, np.eye(len(joints), dtype=bool))


def test_spatial_partition_tells_nearer_from_farther_neighbours() -> None:
    joints = ("left_shoulder", "left_elbow", "left_wrist", "right_shoulder")
    level, nearer, farther = partitions("spatial", joints, SHOULDERS, BONES)
    assert np.nonzero(nearer)[0].tolist() == [1, 2] and np.nonzero(nearer)[1].tolist() == [0, 1]
    assert np.array_equal(farther > 0, nearer.T > 0)
    assert level[0, 3] > 0 and level[3, 0] > 0  # the shoulders are the centre, both


def test_joints_of_another_layout_need_bones() -> None:
    with pytest.raises(BadInput, match="no bone of the skeleton touches tail"):
        partitions("spatial", ("nose", "tail"), SHOULDERS, BONES)
    joints = ("head", "tail", "paw")
    foreign = KeypointInput(joints, joints, ("head",) * 3, ("head",))
    with pytest.raises(BadInput, match="head, tail, paw"):
        build({"name": "stgcn", "preset": "small"}, 4, foreign)
    bones = [["head", "tail"], ["head", "paw"]]
    made = build({"name": "stgcn", "preset": "small", "bones": bones}, 4, foreign)
    assert made(torch.zeros(20, 3, 5), torch.tensor([20])).logits.shape == (1, 2, 4)


@pytest.mark.parametrize("free", [False, True])
def test_graph_convolution_is_the_published_sum_over_subsets(free: bool) -> None:
    """Yan et al., eq. 10: sum over k of (A_k * M_k) (W_k x); here mixed after the product, not before."""
    torch.manual_seed(0)
    graph = torch.rand(3, 5, 5)
    layer, x = GraphConv(4, 6, graph, free), torch.randn(2, 4, 5, 7)
    for item in layer.parameters():
        nn.init.normal_(item)
    weights = layer.edges * (graph + layer.added if layer.added is not None else graph)
    mixed = torch.einsum("ock,bcvt->bkovt", layer.mix.weight.view(6, 4, 3), x)
    expected = torch.einsum("kwv,bkovt->bowt", weights, mixed)
    torch.testing.assert_close(layer(x), expected)
    layer.fold()
    assert list(dict(layer.named_parameters())) == ["edges", "mix.weight"] and not list(layer.buffers())
    torch.testing.assert_close(layer(x), expected)


def test_convolution_over_time_never_crosses_clips_and_reads_zeros_beyond_them() -> None:
    lengths, conv = torch.tensor([1, 6, 3]), nn.Conv2d(3, 2, (1, 5), padding=(0, 2))
    rows = torch.randn(10, 3, 4)
    time = Packed(lengths)
    got = time.convolve(conv, time.columns(rows))[0]
    for clip, kept in zip(rows.split(lengths.tolist()), got.split(lengths.tolist(), -1), strict=True):
        alone = torch.zeros(1, 3, 4, len(clip) + 4)
        alone[..., 2:-2] = clip.movedim(0, -1)
        torch.testing.assert_close(kept, nn.functional.conv2d(alone, conv.weight, conv.bias)[0])
        equal = Equal(1, len(clip))
        torch.testing.assert_close(equal.convolve(conv, equal.columns(clip))[0], kept)


def test_gradient_of_the_convolution_over_time() -> None:
    conv = nn.Conv2d(2, 2, (1, 3), padding=(0, 1)).double()
    columns = torch.randn(1, 2, 2, 6, dtype=torch.float64, requires_grad=True)
    time = Packed(torch.tensor([1, 2, 3]))
    assert torch.autograd.gradcheck(lambda x: time.convolve(conv, x), (columns,))


def exported(made: Recogniser, joints: Any, folder: Path) -> Any:
    pytest.importorskip("onnxsim")
    from export.onnx_graph import export_onnx, read_model, training_only

    glosses = ("<blank>", *(f"G{i}" for i in range(30)))
    agreed = Contract("stgcn", source(joints), glosses, 25.0, lookahead=made.lookahead, padding=made.padding)
    inference = made.inference()
    report = export_onnx(inference, agreed, folder / "model.onnx", training_only(made, inference))
    return report, read_model(folder / "model.onnx")


@pytest.mark.parametrize(("joints", "changes"), [("tips", {"free": True}), ("all", {"pool": "mean", "kernel": 9})])
def test_exported_graph_is_convolutions_and_constant_products(
    joints: Any, changes: dict[str, Any], tmp_path: Path
) -> None:
    """At each length parity holds (export_onnx proves it); the edges are one constant a block, time in the Conv."""
    made = network(joints, **changes)
    report, model = exported(made, joints, tmp_path)
    assert report.dynamic_batch
    assert sum(report.left_out.values()) == sum(p.numel() for n, p in made.named_parameters() if n.endswith("added"))
    ops = [node.op_type for node in model.graph.node]
    blocks, shortcuts, frame = 3, 1, changes.get("pool") != "mean"
    assert ops.count("MatMul") == blocks and ops.count("Conv") == 2 * blocks + shortcuts + frame + 2
    assert set(ops) <= {
        "Conv", "MatMul", "Relu", "Add", "Gemm", "MaxPool", "LogSoftmax", "BatchNormalization", "ReduceMean",
        "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Concat", "Slice", "Shape",
    }  # fmt: skip
    constants = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    products = [node for node in model.graph.node if node.op_type == "MatMul"]
    count = len(source(joints).joints)
    assert [constants[node.input[0]] for node in products] == [(3 * count, count)] * blocks


def hand_count(widths: list[int], kernel: int, frames: int, classes: int, joints: int = 17, subsets: int = 3) -> int:
    """MACs of the small preset on `frames` padded frames, layer by layer."""
    total, inputs = 0, 5
    for width in widths:
        total += frames * inputs * subsets * joints * joints  # graph product
        total += frames * joints * inputs * subsets * width  # mixing
        total += frames * joints * width * width * kernel  # over time
        if inputs not in (5, width):
            total += frames * joints * inputs * width  # shortcut
        inputs = width
    total += frames * widths[-1] * joints * 128
    first = frames - 4
    second = first // 2 - 4
    return total + (first + second) * 128 * 128 * 5 + second // 2 * 128 * classes


def test_both_counters_count_its_macs_as_a_hand_does() -> None:
    pytest.importorskip("fvcore")
    from bench.complexity import count

    made = network()
    padded = made.padding.total(40)
    found = count(made.inference(), torch.zeros(1, padded, 17, 5), frames=40)
    spec = resolve({"name": "stgcn", "preset": "small"})
    expected = hand_count(spec["widths"], spec["kernel"], padded, classes=31)
    by_fvcore, by_torch = found.counts
    assert by_torch.macs == expected and not by_torch.unsupported
    assert not by_fvcore.unsupported
    assert by_fvcore.macs == pytest.approx(expected, rel=0.02)  # it adds the normalisation
    assert found.macs_per_frame == by_fvcore.macs / 40


def test_published_blocks_have_the_published_size() -> None:
    """The graph part of ST-GCN with the spatial partition; at 77 joints 3.24 M parameters, 0.18 M of them masks."""
    joints = tuple(f"j{i}" for i in range(77))
    bones = [[one, other] for one, other in pairwise(joints)]
    source = KeypointInput(joints, joints, joints, joints[:1])
    made = build({"name": "stgcn", "preset": "paper", "bones": bones}, 2, source)
    sizes = {name: item.numel() for name, item in made.named_parameters()}
    masks = sum(size for name, size in sizes.items() if name.endswith("edges"))
    blocks = sum(size for name, size in sizes.items() if name.startswith("blocks."))
    assert masks / 1e6 == pytest.approx(0.18, abs=0.005)
    assert blocks / 1e6 == pytest.approx(3.24, abs=0.1)
    assert made.lookahead == 10 * 4 + 6


def test_an_input_channel_that_never_varied_is_not_blown_up() -> None:
    made = network()
    assert isinstance(made.normalise, nn.BatchNorm1d)
    nn.init.zeros_(made.normalise.running_mean)  # type: ignore[arg-type]
    nn.init.zeros_(made.normalise.running_var)  # type: ignore[arg-type]
    half_a_shoulder_off = torch.full((1, 17 * 5), 0.5)
    assert made.normalise(half_a_shoulder_off).abs().max() <= 5


def test_it_learns(tmp_path: Path) -> None:
    corpus = tiny.write_corpus(tmp_path / "corpus")
    model = {"name": "stgcn", "widths": [8, 8], "kernel": 3, "pool": "flatten", "frame_width": 16, "temporal": 16}
    recipe = tiny.skeleton(model=model, training={"epochs": 30, "evaluate_every": 30, "learning_rate": 0.02})
    run = load_run(train(recipe, corpus, tmp_path / "run"))
    losses = [entry["losses"]["ctc"] for entry in run.curve]
    assert losses[-1] < 0.3 * losses[0]
    assert run.contract.lookahead == run.model.lookahead == 2 * 1 + 6
