import pytest
import torch

from cloud_assets.networks.specifications import AttentionUNet, EfficientNetUNet, Specification, UNet
from cloud_assets.networks.unet import AttentionGate, UNetNetwork, contracting_block, expanding_block

SPECIFICATIONS = [UNet(width=4), AttentionUNet(width=4), EfficientNetUNet(encoder="efficientnet-b0")]


@pytest.mark.parametrize("specification", SPECIFICATIONS, ids=lambda specification: specification.architecture)
@pytest.mark.parametrize(("bands", "outputs"), [(1, 1), (4, 4), (13, 2)])
def test_any_bands_and_classes_at_the_stated_multiple(specification: Specification, bands: int, outputs: int) -> None:
    multiple = specification.size_multiple
    network = specification.build(bands, outputs)
    result = network(torch.rand(2, bands, 2 * multiple, 3 * multiple))
    assert result.shape == (2, outputs, 2 * multiple, 3 * multiple)


@pytest.mark.parametrize("specification", [UNet(width=4), AttentionUNet(width=4)])
def test_every_weight_learns(specification: Specification) -> None:
    network = specification.build(3, 1)
    network(torch.rand(2, 3, 16, 16)).square().sum().backward()
    without = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without == []


def test_the_unet_is_three_blocks_down_and_three_up() -> None:
    network = UNetNetwork(3, 1, width=32, depth=3)
    assert len(network.contracting) == len(network.expanding) == 3
    assert network.widths == [32, 64, 128]
    for block in (*network.contracting, network.bridge):
        kinds = [type(layer).__name__ for layer in block]
        assert kinds == ["Conv2d", "BatchNorm2d", "ReLU"] * 2


def test_blocks_halve_and_double() -> None:
    features = contracting_block(3, 8)(torch.rand(1, 3, 16, 16))
    assert features.shape == (1, 8, 16, 16)
    block = expanding_block(16, 8)
    up = block["up"](torch.rand(1, 16, 8, 8))
    assert up.shape == (1, 8, 16, 16)
    assert block["merge"](torch.cat([features, up], dim=1)).shape == (1, 8, 16, 16)


def test_the_network_sees_fine_detail_through_its_skips() -> None:
    torch.manual_seed(0)
    network = UNetNetwork(1, 1, width=4, depth=3).eval()
    dark = torch.zeros(1, 1, 32, 32)
    spot = dark.clone()
    spot[..., 16, 16] = 1
    with torch.inference_mode():
        change = (network(spot) - network(dark)).abs()[0, 0]
    assert float(change[16, 16]) > float(change.median())


def test_an_attention_gate_by_hand() -> None:
    gate = AttentionGate(skip_channels=1, coarse_channels=1, inner_channels=1)
    with torch.no_grad():
        for convolution in (gate.from_skip, gate.from_coarse, gate.score):
            convolution.weight.fill_(1.0)
            if convolution.bias is not None:
                convolution.bias.zero_()
    skip, coarse = torch.full((1, 1, 4, 4), 0.25), torch.full((1, 1, 2, 2), -3.0)
    # 4 * 0.25 - 3 is negative: nothing passes the ReLU, sigmoid(0) = 0.5 of the skip is left.
    torch.testing.assert_close(gate(skip, coarse), skip * 0.5)
    # 4 * 0.25 + 1 = 2
    torch.testing.assert_close(gate(skip, torch.ones(1, 1, 2, 2)), skip * torch.sigmoid(torch.tensor(2.0)))


def test_gates_follow_their_skips() -> None:
    torch.manual_seed(0)
    network = AttentionUNet(width=4).build(3, 1)
    picture = torch.rand(1, 3, 32, 32)
    open_gates = network(picture)
    with torch.no_grad():
        for gate in network.gates:
            gate.score.bias.fill_(-100.0)
    assert not torch.allclose(network(picture), open_gates)


@pytest.mark.parametrize(
    ("block", "multiple", "cost"), [(1, 32, 32), (2, 2, 64), (4 / 3, 4, 128 / 3), (1.3, 4, 128 / 3)]
)
def test_windows_of_networks_on_larger_pixels_hold_whole_ones(block: float, multiple: int, cost: float) -> None:
    specification = EfficientNetUNet(encoder="efficientnet-b0", block=block)
    assert specification.size_multiple == 32
    assert (specification.window_multiple, specification.cost_multiple) == (multiple, pytest.approx(cost, rel=1e-3))
