from collections.abc import Callable

import pytest
import torch
from torch import nn

from cloud_assets.networks.generators import PatchDiscriminatorNetwork, fix_statistics
from cloud_assets.networks.specifications import ResNetGenerator, UNetGenerator

Specification = ResNetGenerator | UNetGenerator

KINDS = [
    ResNetGenerator(width=4, blocks=2),
    ResNetGenerator(width=4, blocks=2, normalisation="batch", upsampling="resize"),
    UNetGenerator(width=4, depth=3),
    UNetGenerator(width=4, depth=3, normalisation="batch", upsampling="resize"),
]


@pytest.mark.parametrize("specification", KINDS)
def test_keep_height_and_width_and_stay_within_the_scale(specification: Specification) -> None:
    side = specification.size_multiple
    pictures = 5 * torch.randn(2, 2, 3 * side, side)
    made = specification.build(2, 5)(pictures)
    assert made.shape == (2, 5, 3 * side, side)
    assert made.abs().max() <= 1


@pytest.mark.parametrize("specification", KINDS)
def test_begin_with_small_random_weights(specification: Specification) -> None:
    weights = [
        layer.weight.flatten()
        for layer in specification.build(2, 3).modules()
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d))
    ]
    assert float(torch.cat(weights).std()) == pytest.approx(0.02, rel=0.05)


def test_the_paper_s_generator_has_the_paper_s_size() -> None:
    # 11.378 million weights for 3 -> 3 bands, as the authors' code prints.
    count = sum(weight.numel() for weight in ResNetGenerator().build(3, 3).parameters())
    assert count == pytest.approx(11.378e6, rel=1e-3)


def test_resizing_leaves_no_checkerboard() -> None:
    flat = torch.ones(1, 2, 32, 32)

    def unevenness(upsampling: str) -> float:
        torch.manual_seed(0)
        network = UNetGenerator.model_validate(
            {"width": 8, "depth": 2, "normalisation": "batch", "upsampling": upsampling}
        ).build(2, 1)
        made = network.eval()(flat)[0, 0, 12:20, 12:20]
        return float(made.std() / made.abs().mean())

    assert unevenness("resize") < 1e-4 < unevenness("transposed")


def test_a_u_net_answers_to_even_ground_evenly_up_to_the_border() -> None:
    network = UNetGenerator(width=8, depth=3, normalisation="batch", upsampling="resize").build(2, 1)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, 0.0, 0.2)  # strong enough for a border to show
    with torch.no_grad():
        made = network.eval()(torch.ones(1, 2, 48, 64))
    assert float(made.abs().mean()) > 1e-2
    assert float(made.std() / made.abs().mean()) < 1e-4


def _reach(network: Callable[[torch.Tensor], torch.Tensor], side: int) -> int:
    """Pixels of the input that one pixel in the middle of the output depends on."""
    picture = torch.randn(1, 1, side, side, requires_grad=True)
    verdict = network(picture)
    verdict[0, 0, verdict.shape[2] // 2, verdict.shape[3] // 2].backward()
    assert picture.grad is not None
    rows = picture.grad.abs().sum(dim=(0, 1, 3)).nonzero()
    return int(rows.max() - rows.min()) + 1


@pytest.mark.parametrize(("layers", "patch"), [(1, 16), (2, 34), (3, 70)])
def test_a_verdict_is_about_a_patch(layers: int, patch: int) -> None:
    network = PatchDiscriminatorNetwork(1, width=4, layers=layers)
    for stage in network.stages:
        for position, layer in enumerate(stage):
            if isinstance(layer, nn.InstanceNorm2d):
                stage[position] = nn.Identity()  # its mean reaches over the whole picture
    assert _reach(lambda picture: network(picture)[0], 128) == patch


def test_fixed_statistics_are_the_samples_averages() -> None:
    layer = nn.InstanceNorm2d(2, track_running_stats=True)
    network = nn.Sequential(layer)
    batches = [torch.randn(1, 2, 16, 16) * scale + scale for scale in (1, 2, 6)]
    network.train()
    fix_statistics(network, batches)
    means = torch.stack([batch.mean(dim=(0, 2, 3)) for batch in batches]).mean(dim=0)
    variances = torch.stack([batch.var(dim=(0, 2, 3)) for batch in batches]).mean(dim=0)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    torch.testing.assert_close(layer.running_mean, means)
    torch.testing.assert_close(layer.running_var, variances)
    assert network.training
    assert layer.momentum == pytest.approx(0.1)


def test_with_fixed_statistics_windows_agree() -> None:
    network = ResNetGenerator(width=4, blocks=1).build(1, 1)
    scene = torch.randn(1, 1, 160, 160)
    fix_statistics(network, [scene])
    network.eval()
    with torch.no_grad():
        whole, window = network(scene), network(scene[..., 16:144, 16:144])
    reach = 40  # farther from a window's edge than anything the network looks at
    torch.testing.assert_close(
        window[..., reach:-reach, reach:-reach], whole[..., 16 + reach : 144 - reach, 16 + reach : 144 - reach]
    )
