"""Pictures that generators made earlier, shown to a discriminator again (Shrivastava et al. 2017, arXiv:1612.07828)."""

import torch
from torch import Tensor


class ImagePool:
    """Keeps the last pictures and hands out a mixture of old and new ones.

    Randomness comes from torch's own generator, so that a seeded epoch draws the same.

    Args:
        size: How many pictures are kept; with 0 every picture is handed back as it is.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: list[Tensor] = []

    def __len__(self) -> int:
        return len(self._kept)

    def exchange(self, images: Tensor) -> Tensor:
        """Takes new pictures; each one comes back itself, or, half of the time, stays in place of an older one.

        Args:
            images: (N, C, H, W), without gradient.

        Returns:
            (N, C, H, W).
        """
        if self._size == 0:
            return images
        chosen = []
        for image in images.detach():
            if len(self._kept) < self._size:
                self._kept.append(image.clone())
                chosen.append(image)
            elif float(torch.rand(())) < 0.5:
                place = int(torch.randint(self._size, ()))
                chosen.append(self._kept[place])
                self._kept[place] = image.clone()
            else:
                chosen.append(image)
        return torch.stack(chosen)

    def state_dict(self) -> dict[str, Tensor]:
        """The pictures, (M, C, H, W); nothing while there are none."""
        return {"images": torch.stack(self._kept).cpu()} if self._kept else {}

    def load_state_dict(self, state: dict[str, Tensor], device: torch.device | None = None) -> None:
        """Goes on with the pictures of :meth:`state_dict`."""
        self._kept = [image.to(device) for image in state.get("images", torch.empty(0))]
