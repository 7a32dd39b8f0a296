"""Discriminators: whether a picture is real or generated, judged patch by patch."""

from torch import Tensor, nn

from cloud_assets.networks.generators import initialise


class PatchDiscriminatorNetwork(nn.Module):
    """PatchGAN (Isola et al. 2017, arXiv:1611.07004): one verdict for each overlapping patch of a picture.

    Three strided layers make patches of 70 x 70 pixels. Its normalisation always goes by the picture at hand: it is
    never used after the training.

    Args:
        in_channels: Bands of what it judges; with a condition also those of the input.
        width: Channels of the first layer; doubled by each further one, up to eight times as many.
        layers: Number of strided layers.
    """

    def __init__(self, in_channels: int, width: int = 64, layers: int = 3) -> None:
        super().__init__()
        widths = [width * min(2**level, 8) for level in range(layers + 1)]
        stages: list[nn.Module] = [
            nn.Sequential(nn.Conv2d(in_channels, width, kernel_size=4, stride=2, padding=1), nn.LeakyReLU(0.2))
        ]
        for level in range(1, layers + 1):
            stages.append(
                nn.Sequential(
                    nn.Conv2d(
                        widths[level - 1], widths[level], kernel_size=4, stride=2 if level < layers else 1, padding=1
                    ),
                    nn.InstanceNorm2d(widths[level]),
                    nn.LeakyReLU(0.2),
                )
            )
        self.stages = nn.ModuleList(stages)
        self.verdict = nn.Conv2d(widths[-1], 1, kernel_size=4, padding=1)
        initialise(self)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Judges pictures.

        Args:
            x: (N, in_channels, H, W), H and W at least 24 pixels.

        Returns:
            Verdicts (N, 1, h, w), about 1 for real and 0 for made-up patches, and the features of all layers.
        """
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return self.verdict(x), features
