"""Network specifications: plain declarations that recipes name and model cards keep; ``build`` makes the network.

Nothing here imports torch; :meth:`Specification.build` does so when it is called. To register a network, write a
specification and add it to :data:`NetworkSpecification`.
"""

from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, Field

if TYPE_CHECKING:
    from torch import nn

    from cloud_assets.networks.generators import PatchDiscriminatorNetwork


class Specification(BaseModel, frozen=True, extra="forbid"):
    """Base of all network specifications."""

    fixed_multiple: ClassVar[int] = 1  # :attr:`size_multiple` of networks whose depth is no choice

    @property
    def size_multiple(self) -> int:
        """Height and width of the input must be multiples of this number of pixels."""
        return self.fixed_multiple

    @property
    def coarsening(self) -> Fraction:
        """Side of the pixels that it sees, in pixels of the picture."""
        return Fraction(1)

    @property
    def window_multiple(self) -> int:
        """Height and width of windows are multiples of this number of pixels of the picture."""
        return self.size_multiple if self.coarsening == 1 else self.coarsening.numerator

    @property
    def cost_multiple(self) -> float:
        """Windows cost as much as the next larger multiples of this number of pixels of the picture."""
        return float(self.size_multiple * self.coarsening)

    def build(self, in_channels: int, out_channels: int, *, pretrained: bool = True) -> "nn.Module":
        """Makes the network.

        Args:
            in_channels: Number of input bands.
            out_channels: Number of output channels.
            pretrained: Fetch the pretrained weights that the specification names. ``False`` when the weights come
                from a model bundle anyway: then nothing is looked up or downloaded.

        Returns:
            The network, in training mode, (N, in_channels, H, W) -> (N, out_channels, H, W) for the dense ones.

        Raises:
            InvalidRecipe: If timm has no such backbone.
            InvalidModel: If the pretrained weights cannot be obtained or belong to another architecture.
        """
        raise TypeError(f"{type(self).__name__} does not say how to build its network.")


class UNet(Specification):
    """U-Net of contracting and expanding blocks with skips (Ronneberger et al. 2015, arXiv:1505.04597)."""

    architecture: Literal["unet"] = "unet"
    width: int = Field(default=32, ge=1, description="Channels of the first block; each further block doubles them.")
    depth: int = Field(default=3, ge=1, le=6, description="Number of contracting (and of expanding) blocks.")

    @property
    def size_multiple(self) -> int:
        """Each contracting block halves height and width."""
        return int(2**self.depth)

    def build(self, in_channels: int, out_channels: int, *, pretrained: bool = True) -> "nn.Module":
        """See :meth:`Specification.build`; there are no pretrained weights."""
        from cloud_assets.networks.unet import AttentionUNetNetwork, UNetNetwork

        kinds = {"unet": UNetNetwork, "attention_unet": AttentionUNetNetwork}
        return kinds[self.architecture](in_channels, out_channels, self.width, self.depth)


class AttentionUNet(UNet):
    """The same U-Net with additive attention gates on its skips (Oktay et al. 2018, arXiv:1804.03999)."""

    architecture: Literal["attention_unet"] = "attention_unet"  # type: ignore[assignment]


class EfficientNetUNet(Specification):
    """U-Net decoder on an EfficientNet encoder (Tan & Le 2019, arXiv:1905.11946), by segmentation-models-pytorch."""

    fixed_multiple: ClassVar[int] = 32  # five halvings
    architecture: Literal["efficientnet_unet"] = "efficientnet_unet"
    encoder: Literal[
        "efficientnet-b0", "efficientnet-b1", "efficientnet-b2", "efficientnet-b3", "efficientnet-b4", "efficientnet-b5"
    ] = Field(default="efficientnet-b2", description="Size of the encoder.")
    encoder_weights: str = Field(
        default="none",
        min_length=1,
        description="'none', 'simulation' (comes with the package: the whole network, efficientnet-b2 on red, green, "
        "blue and near infrared, learnt from simulated patches), 'imagenet' (downloaded once; an error where that is "
        "impossible), or a weights file (.safetensors, .pt, .pth) of this encoder or of this whole network.",
    )
    block: Annotated[float, AfterValidator(lambda side: float(Fraction(side).limit_denominator(4)))] = Field(
        default=1,
        ge=1,
        le=2,  # beyond it, some pixels would not be looked at
        description="Side of the pixels that the network sees, in pixels of the picture, to the nearest quarter or "
        "third: 2 is a quarter of the arithmetic.",
        exclude_if=lambda side: side == 1,  # recipes of before keep the fingerprints of their trainings
    )

    @property
    def coarsening(self) -> Fraction:
        """The block."""
        return Fraction(self.block).limit_denominator(4)

    def build(self, in_channels: int, out_channels: int, *, pretrained: bool = True) -> "nn.Module":
        """See :meth:`Specification.build`."""
        from cloud_assets.networks.efficientnet_unet import build_efficientnet_unet

        weights = self.encoder_weights if pretrained else "none"
        return build_efficientnet_unet(self.encoder, weights, in_channels, out_channels)


class Classifier(Specification):
    """One answer for a whole patch: a backbone of timm, global pooling, dropout, a linear head.

    ``mobilenet`` stands for MobileNetV3-large (Howard et al. 2019, arXiv:1905.02244), ``resnet50`` is He et al. 2016
    (arXiv:1512.03385), ``inception_v3`` Szegedy et al. 2016 (arXiv:1512.00567). ``vgg16`` stands for VGG16 with batch
    normalisation (``vgg16_bn``), without which it hardly trains from scratch, and without the two dense layers that
    hold 120 of its 134 million weights; global pooling takes their place (Simonyan & Zisserman 2015, arXiv:1409.1556;
    Lin et al. 2014, arXiv:1312.4400).
    """

    architecture: Literal["classifier"] = "classifier"
    backbone: str = Field(
        "resnet50", min_length=1, description="resnet50, mobilenet, vgg16, inception_v3, or any other name of timm."
    )
    weights: str = Field(
        default="none",
        min_length=1,
        description="'none', 'imagenet' (downloaded once; an error where that is impossible), or a weights file "
        "(.safetensors, .pt, .pth) of this backbone or of this whole network.",
    )
    dropout: float = Field(default=0.2, ge=0, lt=1, description="Share of the features dropped before the head.")
    input_size: int | None = Field(
        default=None,
        ge=32,
        le=1024,
        description="Patches are resized to this edge. Unset: what the backbone was made for (224, Inception 299).",
    )
    head: Literal["categorical", "ordinal"] = Field(
        default="categorical",
        description="'categorical': one logit a class; 'ordinal': one a boundary between the ordered classes (CORN, "
        "Shi et al. 2021, arXiv:2111.08851).",
    )

    def outputs(self, classes: int) -> int:
        """Number of logits for a number of classes."""
        return classes - 1 if self.head == "ordinal" else classes

    def build(self, in_channels: int, out_channels: int, *, pretrained: bool = True) -> "nn.Module":
        """See :meth:`Specification.build`; the network is (N, in_channels, H, W) -> (N, out_channels)."""
        from cloud_assets.networks.classifiers import build_classifier

        weights = self.weights if pretrained else "none"
        return build_classifier(self.backbone, in_channels, out_channels, weights=weights, dropout=self.dropout)


Normalisation = Annotated[
    Literal["instance", "batch"],
    Field(
        description="'instance': each picture by itself in training, by fixed statistics afterwards; 'batch' keeps "
        "differences of level between pictures, which for radar mean something."
    ),
]
Upsampling = Annotated[
    Literal["transposed", "resize"], Field(description="'resize' and convolve leaves no checkerboard.")
]


class ResNetGenerator(Specification):
    """Translates pictures through residual blocks, as CycleGAN does (Zhu et al. 2017, arXiv:1703.10593)."""

    fixed_multiple = 8  # two halvings, and enough pixels left for reflected borders

    architecture: Literal["resnet_generator"] = "resnet_generator"
    width: int = Field(default=64, ge=1, description="Channels of the first layer.")
    blocks: int = Field(default=9, ge=1, description="Residual blocks; nine for patches of 256 pixels.")
    normalisation: Normalisation = "instance"
    upsampling: Upsampling = "transposed"

    def build(self, in_channels: int, out_channels: int, *, pretrained: bool = True) -> "nn.Module":
        """See :meth:`Specification.build`; output in [-1, 1]; there are no pretrained weights."""
        from cloud_assets.networks.generators import ResNetGeneratorNetwork

        return ResNetGeneratorNetwork(
            in_channels, out_channels, self.width, self.blocks, self.normalisation, self.upsampling
        )


class UNetGenerator(Specification):
    """Translates pictures through a U-Net of strided convolutions, as pix2pix does (Isola et al., arXiv:1611.07004)."""

    architecture: Literal["unet_generator"] = "unet_generator"
    width: int = Field(default=64, ge=1, description="Channels of the first layer; doubled up to eight times as many.")
    depth: int = Field(default=5, ge=1, le=8, description="Number of halvings.")
    normalisation: Normalisation = "instance"
    upsampling: Upsampling = "transposed"

    @property
    def size_multiple(self) -> int:
        """Each halving halves height and width; two pixels must be left to normalise."""
        return int(2 ** (self.depth + 1))

    def build(self, in_channels: int, out_channels: int, *, pretrained: bool = True) -> "nn.Module":
        """See :meth:`Specification.build`; output in [-1, 1]; there are no pretrained weights."""
        from cloud_assets.networks.generators import UNetGeneratorNetwork

        return UNetGeneratorNetwork(
            in_channels, out_channels, self.width, self.depth, self.normalisation, self.upsampling
        )


class PatchDiscriminator(BaseModel, frozen=True, extra="forbid"):
    """Judges patches of pictures; only used in training. Three layers see 70 x 70 pixels (arXiv:1611.07004)."""

    width: int = Field(default=64, ge=1, description="Channels of the first layer.")
    layers: int = Field(default=3, ge=1, le=5, description="Strided layers: 1, 2, 3 see 16, 34, 70 pixels.")

    def build(self, in_channels: int) -> "PatchDiscriminatorNetwork":
        """Makes the network for pictures of ``in_channels`` bands."""
        from cloud_assets.networks.generators import PatchDiscriminatorNetwork

        return PatchDiscriminatorNetwork(in_channels, self.width, self.layers)


PicturesAtOnce = Annotated[
    int | None,
    Field(ge=1, description="Pictures a time in the layers of high resolution, which bounds memory. Unset: the batch."),
]


class ConvAutoencoder(Specification):
    """Convolutional autoencoder of five convolutions with four poolings between them, and its mirror image."""

    fixed_multiple = 16

    architecture: Literal["conv_autoencoder"] = "conv_autoencoder"
    width: int = Field(
        default=512,
        ge=8,
        description="Filters of the first convolution: 512 gives 512, 256, 64, 16, 8; others give width, width / 2, "
        "width / 8 (at least 16), 16, 8. Time grows with its square, memory with itself; 64 suits processors.",
    )
    pictures_at_once: PicturesAtOnce = 1

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

    fixed_multiple = 32

    architecture: Literal["vgg19_autoencoder"] = "vgg19_autoencoder"
    encoder_weights: str = Field(
        default="none",
        min_length=1,
        description="'none', 'imagenet' (downloaded once; an error where that is impossible), or a weights file "
        "(.safetensors, .pt, .pth) of VGG19.",
    )
    pictures_at_once: PicturesAtOnce = 1

    def build(self, in_channels: int, out_channels: int, *, pretrained: bool = True) -> "nn.Module":
        """See :meth:`Specification.build`; ``out_channels`` is ``in_channels``."""
        from cloud_assets.networks.autoencoders import build_vgg19_autoencoder

        weights = self.encoder_weights if pretrained else "none"
        return build_vgg19_autoencoder(in_channels, weights, self.pictures_at_once)


class BandLikeness(Specification):
    """How alike the bands of a picture are and how smooth it is, held against what is usual."""

    fixed_multiple = 8

    architecture: Literal["band_likeness"] = "band_likeness"

    def build(self, in_channels: int, out_channels: int, *, pretrained: bool = True) -> "nn.Module":
        """See :meth:`Specification.build`; the network is (N, in_channels, H, W) -> (N, 2)."""
        from cloud_assets.networks.likeness import LikenessNetwork

        return LikenessNetwork()


NetworkSpecification = Annotated[
    UNet
    | AttentionUNet
    | EfficientNetUNet
    | Classifier
    | ResNetGenerator
    | UNetGenerator
    | ConvAutoencoder
    | VGG19Autoencoder
    | BandLikeness,
    Field(discriminator="architecture"),
]
"""Any registered network, discriminated by ``architecture`` in JSON."""
