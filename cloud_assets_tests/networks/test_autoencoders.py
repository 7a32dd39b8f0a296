import pytest
import torch

from cloud_assets.errors import InvalidModel
from cloud_assets.networks.specifications import ConvAutoencoder, VGG19Autoencoder


def test_the_authors_widths() -> None:
    assert ConvAutoencoder().widths == (512, 256, 64, 16, 8)
    assert ConvAutoencoder(width=64).widths == (64, 32, 16, 16, 8)


@pytest.mark.parametrize("specification", [ConvAutoencoder(width=16), VGG19Autoencoder()])
def test_shapes(specification: ConvAutoencoder | VGG19Autoencoder) -> None:
    network = specification.build(3, 3).eval()
    images = torch.rand(2, 3, 64, 32)
    with torch.no_grad():
        assert network(images).shape == images.shape
        latent = network.encode(images)  # type: ignore[operator]
    multiple = specification.size_multiple
    assert latent.shape[2:] == (64 // multiple, 32 // multiple)


@pytest.mark.parametrize("kind", [ConvAutoencoder, VGG19Autoencoder])
def test_parts_give_the_same_gradients_as_the_whole_batch(
    kind: type[ConvAutoencoder] | type[VGG19Autoencoder],
) -> None:
    small = {"width": 16} if kind is ConvAutoencoder else {}
    images = torch.rand(3, 3, 32, 32)
    gradients = []
    for pictures in (None, 1, 2):
        torch.manual_seed(0)
        network = kind(pictures_at_once=pictures, **small).build(3, 3).train()
        torch.nn.functional.mse_loss(network(images), images).backward()  # type: ignore[no-untyped-call]
        gradients.append([parameter.grad for parameter in network.parameters()])
    for parts in gradients[1:]:
        for part, whole in zip(parts, gradients[0], strict=True):
            torch.testing.assert_close(part, whole, rtol=1e-3, atol=1e-6)


def test_parts_keep_less_for_the_way_back() -> None:
    kept = {}
    for pictures in (None, 1):
        network = ConvAutoencoder(width=32, pictures_at_once=pictures).build(3, 3).train()
        sizes: dict[int, int] = {}

        def pack(tensor: torch.Tensor, sizes: dict[int, int] = sizes) -> torch.Tensor:
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            network(torch.rand(4, 3, 64, 64))
        kept[pictures] = sum(sizes.values())
    assert kept[1] < 0.5 * kept[None]


def test_missing_weights_are_an_error(tmp_path: object) -> None:
    with pytest.raises(InvalidModel, match="no such weights file"):
        VGG19Autoencoder(encoder_weights=f"{tmp_path}/absent.safetensors").build(3, 3)
    VGG19Autoencoder(encoder_weights=f"{tmp_path}/absent.safetensors").build(3, 3, pretrained=False)
