"""Complexity: both counters against figures known by hand, and operators that a counter cannot see named."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bench.complexity import count, count_fvcore, count_torch


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module], layers: int, directions: int) -> None:
        super().__init__()
        self.rnn = kind(32, 24, layers, batch_first=True, bidirectional=directions == 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rnn(x)[0].log_softmax(-1)


class Attention(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(x, x, x)


class Spectrum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.rfft(self.linear(x)).abs()


class Clock(nn.Module):
    """Makes a tensor on the CPU, so it cannot run on the meta device."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(8, 8, batch_first=True)
        self.linear = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.rnn(x)[0]) * torch.arange(x.shape[1], device="cpu")[None, :, None]


def rnn_macs(gates: int, layers: int, directions: int, steps: int) -> int:
    """Input and recurrent matrices of every layer and direction, once a step."""
    sizes = [32] + [24 * directions] * (layers - 1)
    return steps * directions * sum(gates * 24 * (size + 24) for size in sizes)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3)])
def test_recurrent_layers_count_every_matrix_once_a_step(kind, gates, layers, directions):
    found = count(Recurrent(kind, layers, directions).eval(), torch.rand(1, 16, 32), frames=16)
    expected = rnn_macs(gates, layers, directions, 16)
    assert [counter.macs for counter in found.counts] == [expected, expected]
    assert found.agreement == 1 and found.macs_per_frame == expected / 16
    assert all(not counter.unsupported for counter in found.counts)


def test_attention_counts_both_products():
    found = count(Attention(), torch.rand(1, 4, 16, 32), frames=16)
    assert [counter.macs for counter in found.counts] == [2 * 4 * 16 * 16 * 32] * 2


def test_attention_with_other_lengths_of_keys():
    class Cross(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.scaled_dot_product_attention(x[:, :, :3], x, x[..., :5])

    assert count_fvcore(Cross(), torch.rand(1, 2, 7, 8)).macs == 2 * 3 * 7 * (8 + 5)


@pytest.mark.parametrize("left", [(3, 5), (2, 1, 3, 5), (4, 3, 5), (5,)])
def test_a_matrix_that_is_broadcast_counts_as_often_as_it_is_used(left):
    class Product(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.ones(left, device=x.device) @ x

    rows = 1 if len(left) == 1 else 3
    found = count(Product(), torch.rand(2, 4, 5, 7), frames=1)
    assert [counter.macs for counter in found.counts] == [2 * 4 * rows * 5 * 7] * 2


def test_convolutions_with_groups_strides_and_padding():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=4, padding=1)
    ).eval()
    found = count(network, torch.rand(1, 3, 16, 16), frames=1)
    expected = 8 * 8 * 8 * 3 * 9 + 8 * 8 * 8 * 2 * 9
    assert [counter.macs for counter in found.counts] == [expected, expected]


def test_transformer_layer_in_evaluation_mode_is_not_hidden_by_the_fast_path():
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, dropout=0.0).eval()
    found = count(nn.TransformerEncoder(layer, 1, enable_nested_tensor=False).eval(), torch.rand(1, 10, 32), frames=10)
    products = 10 * (4 * 32 * 32 + 2 * 32 * 64) + 2 * 10 * 10 * 32
    assert found.counts[1].macs == products
    assert found.counts[0].macs == pytest.approx(products, rel=0.05)


def test_parameters_and_bytes_are_those_given():
    found = count(nn.Linear(8, 4), torch.rand(1, 12, 8), frames=10, bytes_on_disk=321)
    assert (found.parameters, found.bytes_on_disk, found.frames) == (36, 321, 10)
    assert found.macs_per_frame == 12 * 8 * 4 / 10  # the padded input, over the frames that a user has


def test_an_unknown_operator_is_named_and_the_second_counter_trusted():
    found = count(Spectrum().eval(), torch.rand(1, 16, 8), frames=16)
    assert found.counts[0].unsupported == {"aten::fft_rfft": 1}
    assert found.macs_per_frame == found.counts[1].macs / 16


def test_a_counter_that_cannot_count_an_operator_gives_way_to_one_that_can():
    found = count(Clock().eval(), torch.rand(1, 16, 8), frames=16)
    assert found.counts[1].unsupported and not found.counts[0].unsupported
    assert found.macs_per_frame == found.counts[0].macs / 16 > found.counts[1].macs / 16


def test_pointwise_operators_are_not_called_unsupported():
    class Pointwise(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = F.gelu(x) * torch.sigmoid(x) + x.abs().sqrt()
            return F.max_pool1d(y.softmax(-1).transpose(1, 2), 2).log_softmax(1).mean(-1)

    assert count_fvcore(Pointwise(), torch.rand(1, 8, 4)).unsupported == {}


def test_a_network_that_cannot_run_on_meta_is_counted_on_the_cpu_and_its_hidden_layers_named():
    found = count_torch(Clock().eval(), torch.rand(1, 16, 8))
    assert found.counter.endswith("CPU")
    assert found.macs == 16 * 8 * 8  # the linear layer alone
    assert found.unsupported and all("rnn" in name or "lstm" in name for name in found.unsupported)


def test_counting_leaves_the_network_where_it_was():
    network = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    count(network, torch.rand(4, 8), frames=1)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.backends.mha.get_fastpath_enabled()
