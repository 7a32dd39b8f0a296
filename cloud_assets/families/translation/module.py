"""Lightning module of translation models: CycleGAN, pix2pix and combinations, by the weights of the losses.

Pixels without data take no part in any loss.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cloud_assets.bands import vegetation_positions
from cloud_assets.errors import InvalidRecipe
from cloud_assets.families.translation.batches import WholePairs
from cloud_assets.families.translation.figures import sample_picture
from cloud_assets.families.translation.recipe import Translation
from cloud_assets.learning.fit import TrainedModule, build_optimiser
from cloud_assets.learning.ranks import own_part, together
from cloud_assets.networks.generators import fix_statistics
from cloud_assets.patches.preprocessing import Preprocessing

Pair = tuple[Tensor, ...]
"""Radar (N, C, H, W) and optical (N, K, H, W) pictures, their validity (N, 1, H, W); whether paired (N, 1, 1, 1)."""


def mean_where(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of (N, C, H, W) values over the valid (N, 1, H, W) pixels of all ranks; 0 without any."""
    weight = valid.expand_as(values).to(values.dtype)
    total, count = (together(part.sum()[None]).sum() for part in (values * weight, weight))
    return total / count.clamp_min(1)


def least_squares(verdict: Tensor, is_real: bool) -> Tensor:
    """Squared distance of a discriminator's verdicts from 1 (real) or 0 (made), Mao et al. 2017, arXiv:1611.04076."""
    return (verdict.float() - float(is_real)).square().mean()


def spectral_angle(made: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Mean of 1 - cosine of the angle between spectra (N, C, H, W): indifferent to brightness, strict on colour."""
    cosine = torch.nn.functional.cosine_similarity(made.float(), truth.float(), dim=1, eps=1e-6)
    return mean_where(1 - cosine[:, None], valid)


def frequency_distance(made: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Mean absolute difference of the logarithms of Fourier amplitudes: each frequency counts alike.

    L1 alone is satisfied by smooth pictures, since high frequencies hold little of the energy (Jiang et al. 2021,
    arXiv:2012.12821). Where (N, C, H, W) pictures are not valid, both count as 0.
    """
    amplitudes = [
        torch.log1p(torch.fft.rfft2(picture.float() * valid, norm="ortho").abs() / 0.05) for picture in (made, truth)
    ]
    return (amplitudes[0] - amplitudes[1]).abs().mean()


@dataclass
class Translated:
    """A batch and what the generators made of it; pictures (N, …, H, W) are scaled to [-1, 1]."""

    optical: Tensor  # true optical pictures
    observed: Tensor  # (N, 1, H, W), their validity
    known: Tensor  # (N, 1, H, W), the same where the radar picture is of the same place, else 0
    made: Tensor  # optical pictures made of the radar pictures
    ndvi: Tensor  # (N, 1 or 0, H, W), NDVI predicted beside them
    judged: dict[str, tuple[Tensor, Tensor]]  # true and made pictures that a discriminator tells apart, by its name
    reproduced: dict[str, list[tuple[Tensor, Tensor, Tensor]]]
    """Made pictures that should be true ones, these, and their validity, by the loss that compares them."""
    optical_back: Tensor | None = None  # optical pictures made of the radar pictures that were made of them


class TranslationModule(TrainedModule):
    """Generators and discriminators in turn.

    Args:
        recipe: The recipe.
        in_channels: Radar bands.
        target: Bands and scaling of the optical pictures.
        samples: Training pairs on which the statistics of normalisation are measured before each validation.

    Raises:
        InvalidRecipe: If NDVI is asked for without red and near infrared.
    """

    monitor: ClassVar[str] = "val_psnr"

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
        self._weights = loss.model_dump() | {"identity": loss.cycle * loss.identity}
        self.pools = {name: ImagePool(recipe.pool) for name in judges}
        self.shown: list[tuple[npt.NDArray[np.float32], ...]] = []
        self._bands = bands
        self._clip = target.clip
        self._vegetation = vegetation_positions(target.profile, target.bands) or ()
        if loss.ndvi and not self._vegetation:
            raise InvalidRecipe(f"NDVI needs the bands red and nir; the recipe makes {', '.join(target.bands)}.")
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
        terms = self._losses(pictures)
        self._step(generators, torch.stack([self._weights[name] * term for name, term in terms.items()]).sum())
        logged = {f"train_{name}_loss": value for name, value in terms.items()}
        if others:
            self.discriminators.requires_grad_(True)
            judged = self._discriminator_loss(pictures)
            self._step(others[0], judged)
            logged["train_discriminator_loss"] = judged
        detached = {name: value.detach() for name, value in logged.items()}
        self.log_dict(detached, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(batch[0]))

    def _step(self, optimiser: Any, loss: Tensor) -> None:
        optimiser.zero_grad()
        self.manual_backward(loss)
        if self.optimisation.gradient_clip is not None:
            self.clip_gradients(optimiser, self.optimisation.gradient_clip, "norm")
        optimiser.step()

    def _translate(self, batch: Pair) -> Translated:
        radar, seen, optical, observed, matched = batch
        loss, make = self.recipe.loss, self.networks["generator"]
        radar, optical = self.to_layout(radar), self.to_layout(optical)
        whole = make(radar)
        made = whole[:, : self._bands]
        judged = {"optical": (optical, made)}
        pictures = Translated(optical, observed, observed * matched, made, whole[:, self._bands :], judged, {})
        if loss.cycle:
            back = self.networks["back"]
            radar_back, radar_made = back(made), back(optical)
            pictures.judged["radar"] = radar, radar_made
            pictures.optical_back = optical_back = make(radar_made)[:, : self._bands]
            pictures.reproduced["cycle"] = [(radar_back, radar, seen), (optical_back, optical, observed)]
            if loss.identity:
                optical_same, radar_same = make(optical)[:, : self._bands], back(radar)
                pictures.reproduced["identity"] = [(optical_same, optical, observed), (radar_same, radar, seen)]
        if self.recipe.conditional:
            pictures.judged["optical"] = torch.cat([radar, optical], dim=1), torch.cat([radar, made], dim=1)
        return pictures

    def _losses(self, pictures: Translated) -> dict[str, Tensor]:
        """The parts of the generators' loss by the names of their weights, each not weighted yet."""
        weights, optical, known = self.recipe.loss, pictures.optical, pictures.known

        def distance(made: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
            return mean_where((made - truth).abs(), valid)

        terms = self._adversarial(pictures) if weights.adversarial else {}
        for name, (first, second) in pictures.reproduced.items():
            terms[name] = distance(*first) + distance(*second)
        if weights.paired_l1:
            terms["paired_l1"] = distance(pictures.made, optical, known)
        if weights.paired_l2:
            terms["paired_l2"] = mean_where((pictures.made - optical).square(), known)
        if weights.ndvi:
            red, infrared = (self._reflectance(optical)[:, [band]] for band in self._vegetation)
            terms["ndvi"] = distance(pictures.ndvi, (infrared - red) / (infrared + red).clamp_min(1e-3), known)
        # Spectrum and frequencies of all pictures that have a true one to be compared with.
        compared = [(pictures.made, known)]
        compared += [] if pictures.optical_back is None else [(pictures.optical_back, pictures.observed)]
        if weights.spectral:
            true = self._reflectance(optical)
            angles = [spectral_angle(self._reflectance(picture), true, there) for picture, there in compared]
            terms["spectral"] = torch.stack(angles).sum()
        if weights.frequency:
            distances = [frequency_distance(picture, optical, there) for picture, there in compared]
            terms["frequency"] = torch.stack(distances).sum()
        return terms

    def _adversarial(self, pictures: Translated) -> dict[str, Tensor]:
        """How far the discriminators are from taking the pictures for real, and what their features tell apart."""
        terms, verdicts = {}, []
        for name, discriminator in self.discriminators.items():
            true, made = pictures.judged[name]
            verdict, features = discriminator(made)
            verdicts.append(least_squares(verdict, True))
            if self.recipe.loss.perceptual and name == "optical":
                with torch.no_grad():
                    _, wanted = discriminator(true)
                # Mean over the layers (Wang et al. 2018, arXiv:1711.11585).
                layers = zip(features, wanted, strict=True)
                terms["perceptual"] = torch.stack([(a.float() - b.float()).abs().mean() for a, b in layers]).mean()
        return {**terms, "adversarial": torch.stack(verdicts).sum()}

    def _reflectance(self, scaled: Tensor) -> Tensor:
        low, high = self._clip
        return (scaled.float() + 1) * ((high - low) / 2) + low

    def _discriminator_loss(self, pictures: Translated) -> Tensor:
        parts = []
        for name, discriminator in self.discriminators.items():
            true, made = pictures.judged[name]
            # Every rank keeps the same pool, that of one device: their torch generators are seeded alike.
            shown = own_part(self.pools[name].exchange(together(made.detach())))
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
        error = (made - optical).double() * ((self._clip[1] - self._clip[0]) / 2)
        self._squared += float((error.square() * weight).sum())
        self._absolute += float((error.abs() * weight).sum())
        self._count += float(weight.sum())
        for side, pictures in enumerate((made, optical)):
            values = pictures.double() * valid
            self._moments[side] += torch.stack([values.sum(dim=0), values.square().sum(dim=0)]).cpu().numpy()
        self._patches += len(radar)

    def on_validation_epoch_end(self) -> None:
        """Logs mean squared error, PSNR and mean absolute error in reflectance, and how much pictures differ."""
        counts = torch.tensor([[self._squared, self._absolute, self._count, self._patches]], dtype=torch.float64)
        squared, absolute, count, patches = together(counts.to(self.device)).sum(dim=0).tolist()
        own = torch.from_numpy(np.stack(self._moments))[None].to(self.device)
        moments = together(own).sum(dim=0).cpu().numpy()
        mean_squared = max(squared / max(count, 1), 1e-12)
        self.log("val_loss", mean_squared)
        self.log("val_psnr", -10 * float(np.log10(mean_squared)))
        self.log("val_mae", absolute / max(count, 1))
        if patches > 1:
            made, true = (float(np.mean(squares / patches - np.square(sums / patches))) for sums, squares in moments)
            self.log("val_response", float(np.sqrt(max(made, 0.0) / max(true, 1e-12))))

    def _forget_validation(self) -> None:
        self._squared = self._absolute = self._count = self._patches = 0.0
        self._moments: list[Any] = [0.0, 0.0]
        self.shown = []

    def picture(self) -> bytes | None:
        """Some validation patches: radar, made, true."""
        return sample_picture(self.shown) if self.shown else None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the pools."""
        checkpoint["pools"] = {name: pool.state_dict() for name, pool in self.pools.items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Goes on with them."""
        for name, pool in self.pools.items():
            pool.load_state_dict(checkpoint["pools"][name], self.device)


class ImagePool:
    """Keeps the last pictures that a generator made and hands out a mixture of old and new ones.

    What a discriminator is shown, as in Shrivastava et al. 2017, arXiv:1612.07828. Randomness comes from torch's own
    generator, so that a seeded epoch draws the same.

    Args:
        size: How many pictures are kept; with 0 every picture is handed back as it is.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: list[Tensor] = []

    def __len__(self) -> int:
        return len(self._kept)

    def exchange(self, images: Tensor) -> Tensor:
        """Takes new pictures (N, C, H, W); each comes back itself, or, half of the time, stays in place of an older."""
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
