"""Base class of network specifications; torch-free."""

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import nn


class Specification(BaseModel):
    """Base of all network specifications."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def size_multiple(self) -> int:
        """Height and width of the input must be multiples of this number of pixels."""
        return 1

    def build(self, in_channels: int, out_channels: int, *, pretrained: bool = True) -> "nn.Module":
        """Makes the network.

        Args:
            in_channels: Number of input bands.
            out_channels: Number of output channels.
            pretrained: Fetch the pretrained weights that the specification names. ``False`` when the weights come
                from a model bundle anyway: then nothing is looked up or downloaded.

        Returns:
            The network, in training mode, (N, in_channels, H, W) -> (N, out_channels, H, W) for the dense ones.
        """
        raise TypeError(f"{type(self).__name__} does not say how to build its network.")
