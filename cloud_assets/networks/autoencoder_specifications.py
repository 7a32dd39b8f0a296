"""Specifications of the anomaly task's autoencoders, as plain declarations; torch-free."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from cloud_assets.networks.specification import Specification

if TYPE_CHECKING:
    from torch import nn


class ConvAutoencoder(Specification):
    """Convolutional autoencoder of five convolutions with four poolings between them, and its mirror image."""

    architecture: Literal["conv_autoencoder"] = "conv_autoencoder"
    width: int = Field(
        default=512,
        ge=8,
        description="Filters of the first convolution: 512 gives 512, 256, 64, 16, 8; others give width, width / 2, "
        "width / 8 (at least 16), 16, 8. Time grows with its square, memory with itself; 64 suits processors.",
    )
    pictures_at_once: int | None = Field(
        default=1,
        ge=1,
        description="Pictures a time in the wide layers at full resolution, which bounds memory. Unset: the batch.",
    )

    @property
    def size_multiple(self) -> int:
        """The encoder halves height and width four times."""
        return 16

    @property
    def widths(self) -> tuple[int, ...]:
        """Filters of the encoder's convolutions."""
        return self.width, max(self.width // 2, 16), max(self.width // 8, 16), 16, 8

    def build(self, in_channels: int, out_channels: int, *, pretrained: bool = True) -> "nn.Module":
        """See :meth:`Specification.build`; ``out_channels`` is ``in_channels``."""
        from cloud_assets.networks.autoencoders import build_conv_autoencoder

        return build_conv_autoencoder(in_channels, self.widths, self.pictures_at_once)


class VGG19Autoencoder(Specification):
    """VGG19's convolutions up to the last pooling, and a decoder of transposed convolutions."""

    architecture: Literal["vgg19_autoencoder"] = "vgg19_autoencoder"
    encoder_weights: str = Field(
        default="none",
        min_length=1,
        description="'none', 'imagenet' (downloaded once; an error where that is impossible), or a weights file "
        "(.safetensors, .pt, .pth) of VGG19.",
    )
    pictures_at_once: int | None = Field(
        default=1,
        ge=1,
        description="Pictures a time in the blocks of the highest resolutions, which bounds memory. Unset: the batch.",
    )

    @property
    def size_multiple(self) -> int:
        """The encoder halves height and width five times."""
        return 32

    def build(self, in_channels: int, out_channels: int, *, pretrained: bool = True) -> "nn.Module":
        """See :meth:`Specification.build`; ``out_channels`` is ``in_channels``.

        Raises:
            InvalidModel: If the pretrained weights cannot be obtained.
            InvalidModel: If the weights belong to another architecture.
        """
        from cloud_assets.networks.autoencoders import build_vgg19_autoencoder

        weights = self.encoder_weights if pretrained else "none"
        return build_vgg19_autoencoder(in_channels, weights, self.pictures_at_once)
