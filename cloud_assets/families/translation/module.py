"""Lightning module of translation models: CycleGAN, pix2pix and combinations, by the weights of the losses."""

from typing import Any, ClassVar, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cloud_assets.families.translation.batches import WholePairs
from cloud_assets.families.translation.losses import GeneratorLosses, Translated, least_squares
from cloud_assets.families.translation.recipe import Translation
from cloud_assets.learning.fit import TrainedModule, build_optimiser
from cloud_assets.networks.generators import fix_statistics
from cloud_assets.patches.preprocessing import Preprocessing

Pair = tuple[Tensor, Tensor, Tensor, Tensor]
"""Radar (N, C, H, W) and optical (N, K, H, W) pictures, each followed by its validity (N, 1, H, W)."""


class TranslationModule(TrainedModule):
    """Generators and discriminators in turn.

    Args:
        recipe: The recipe.
        in_channels: Radar bands.
        target: Bands and scaling of the optical pictures.
        samples: Training pairs on which the statistics of normalisation are measured before each validation.
    """

    monitor: ClassVar[str] = "val_psnr"
    mode: ClassVar[Literal["max", "min"]] = "max"

    def __init__(self, recipe: Translation, in_channels: int, target: Preprocessing, samples: WholePairs) -> None:
        bands, loss = len(target.bands), recipe.loss
        networks: dict[str, nn.Module] = {"generator": recipe.network.build(in_channels, bands + int(loss.ndvi > 0))}
        judges: dict[str, int] = {}
        if loss.adversarial:
            judges["optical"] = bands + (in_channels if recipe.conditional else 0)
        if loss.cycle:
            networks["back"] = recipe.network.build(bands, in_channels)
            judges |= {"radar": in_channels} if loss.adversarial else {}
        discriminators = {name: recipe.discriminator.build(channels) for name, channels in judges.items()}
        super().__init__(
            nn.ModuleDict({**networks, "discriminators": nn.ModuleDict(discriminators)}), recipe.optimisation
        )
        self.automatic_optimization = False
        self.recipe = recipe
        self.losses = GeneratorLosses(recipe, target)
        self.pools = {name: ImagePool(recipe.pool) for name in judges}
        self.shown: list[tuple[npt.NDArray[np.float32], ...]] = []
        self._bands = bands
        self._range = target.clip[1] - target.clip[0]
        self._samples = samples
        self._forget_validation()

    @property
    def networks(self) -> nn.ModuleDict:
        """Generators, and discriminators by what they judge."""
        return cast("nn.ModuleDict", self.network)

    @property
    def discriminators(self) -> nn.ModuleDict:
        """Discriminators by what they judge."""
        return cast("nn.ModuleDict", self.networks["discriminators"])

    def model_weights(self) -> dict[str, Tensor]:
        """Weights of the radar-to-optical generator."""
        return self.networks["generator"].state_dict()

    def configure_optimizers(self) -> Any:
        """One optimiser for the generators, one for the discriminators if there are any."""
        makers = [
            weight for name, part in self.networks.items() if name != "discriminators" for weight in part.parameters()
        ]
        optimisers = [build_optimiser(makers, self.optimisation)]
        if len(self.discriminators):
            optimisers.append(build_optimiser(self.discriminators.parameters(), self.optimisation))
        return optimisers

    def training_step(self, batch: Pair, batch_idx: int) -> None:
        """One step of the generators, then one of the discriminators."""
        optimisers: Any = self.optimizers()
        generators, *others = optimisers if isinstance(optimisers, list) else [optimisers]
        self.discriminators.requires_grad_(False)
        pictures = self._translate(batch)
        terms = self.losses(pictures, self.discriminators)
        self._step(generators, self.losses.total(terms))
        logged = {f"train_{name}_loss": value for name, value in terms.items()}
        if others:
            self.discriminators.requires_grad_(True)
            judged = self._discriminator_loss(pictures)
            self._step(others[0], judged)
            logged["train_discriminator_loss"] = judged
        self.log_dict(
            {name: value.detach() for name, value in logged.items()},
            on_step=False,
            on_epoch=True,
            batch_size=len(batch[0]),
        )

    def _step(self, optimiser: Any, loss: Tensor) -> None:
        optimiser.zero_grad()
        self.manual_backward(loss)
        if self.optimisation.gradient_clip is not None:
            self.clip_gradients(optimiser, self.optimisation.gradient_clip, "norm")
        optimiser.step()

    def _translate(self, batch: Pair) -> Translated:
        radar, seen, optical, observed = batch
        loss, make = self.recipe.loss, self.networks["generator"]
        radar, optical = self.to_layout(radar), self.to_layout(optical)
        whole = make(radar)
        pictures = Translated(radar, seen, optical, observed, whole[:, : self._bands], whole[:, self._bands :])
        if loss.cycle:
            back = self.networks["back"]
            pictures.radar_back = back(pictures.made)
            pictures.radar_made = back(optical)
            pictures.optical_back = make(pictures.radar_made)[:, : self._bands]
            if loss.identity:
                pictures.optical_same, pictures.radar_same = make(optical)[:, : self._bands], back(radar)
        return pictures

    def _discriminator_loss(self, pictures: Translated) -> Tensor:
        parts = []
        for name, discriminator in self.discriminators.items():
            true, made = pictures.judged(name, self.recipe.conditional)
            shown = self.pools[name].exchange(made.detach())
            parts.append(
                0.5 * (least_squares(discriminator(true)[0], True) + least_squares(discriminator(shown)[0], False))
            )
        return torch.stack(parts).sum()

    def on_validation_epoch_start(self) -> None:
        """Fixes the statistics of normalisation, as they will be used for prediction."""
        self._forget_validation()
        count = len(self._samples) if self.recipe.statistics_patches else 0
        radar = (torch.from_numpy(self._samples[number][0]).to(self.device) for number in range(count))
        fix_statistics(self.networks["generator"], radar)

    def validation_step(self, batch: Pair, batch_idx: int) -> None:
        """Compares made and true pictures of the same places."""
        radar, _, optical, valid = batch
        made = self.networks["generator"](self.to_layout(radar))[:, : self._bands].float()
        for index in range(min(len(radar), self.recipe.pictures - len(self.shown))):
            self.shown.append(tuple(part[index].cpu().numpy() for part in (radar, made, optical)))
        weight = valid.expand_as(made).double()
        error = (made - optical).double() * (self._range / 2)
        self._squared += float((error.square() * weight).sum())
        self._absolute += float((error.abs() * weight).sum())
        self._count += float(weight.sum())
        for side, pictures in enumerate((made, optical)):
            values = pictures.double() * valid
            self._moments[side] += torch.stack([values.sum(dim=0), values.square().sum(dim=0)]).cpu().numpy()
        self._patches += len(radar)

    def on_validation_epoch_end(self) -> None:
        """Logs mean squared error, PSNR and mean absolute error in reflectance, and how much pictures differ."""
        mean_squared = max(self._squared / max(self._count, 1), 1e-12)
        self.log("val_loss", mean_squared)
        self.log("val_psnr", -10 * float(np.log10(mean_squared)))
        self.log("val_mae", self._absolute / max(self._count, 1))
        if self._patches > 1:
            made, true = (
                float(np.mean(squares / self._patches - np.square(sums / self._patches)))
                for sums, squares in self._moments
            )
            self.log("val_response", float(np.sqrt(max(made, 0.0) / max(true, 1e-12))))

    def _forget_validation(self) -> None:
        self._squared = self._absolute = self._count = 0.0
        self._patches = 0
        self._moments: list[Any] = [0.0, 0.0]
        self.shown = []

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the pools."""
        checkpoint["pools"] = {name: pool.state_dict() for name, pool in self.pools.items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Goes on with them."""
        for name, pool in self.pools.items():
            pool.load_state_dict(checkpoint["pools"][name], self.device)


class ImagePool:
    """Keeps the last pictures that a generator made and hands out a mixture of old and new ones.

    What a discriminator is shown, as in Shrivastava et al. 2017, arXiv:1612.07828.

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
