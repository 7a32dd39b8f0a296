"""Cloud masks without one label: how good is a model that saw nothing but simulated patches?

    python benchmarks/simulation_only.py FOLDER [--patches 3000] [--epochs 14] [--steps 100] [--batch 8] [--crop 256]
        [--workers 0] [--workspace simulation_only] [--weights FILE --learning-rate 0.0003]
        [--distil simulation-large --share 0.5] [--block 1] [--band-dropout 0]
        [--release cloud_assets/networks/simulation_large]

Trains a U-Net with EfficientNet-B2 on simulated Landsat patches, chooses the epoch on simulated patches, predicts in
four orientations, and scores it once on all labelled patches of FOLDER/38-cloud: next to a brightness threshold, which
is fitted to the labels of the training split, and ukis-csmask where that is installed.
Thick and thin cloud are told apart on held-out simulated patches, for 38-Cloud's masks do not. Interrupted, run it
again with the same workspace: it goes on from its last epoch. A batch takes 1.6 seconds of one core that computes in
bfloat16, 5 of one that does not; with --crop 128 a fifth. A GPU wants loading processes: --workers as many as there
are cores.
"""

import argparse
from pathlib import Path

import numpy as np
from mask_scoring import ModelMask
from real_patches import COLUMNS, show, show_real

from cloud_assets.families import family_of
from cloud_assets.families.segmentation.recipe import Distillation, Segmentation
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.learning.recipe import FocalDice, Optimisation
from cloud_assets.learning.training_run import TrainingRun, fingerprint
from cloud_assets.networks.specifications import EfficientNetUNet
from cloud_assets.patches.augmentation import Augmentation
from cloud_assets.patches.simulated import simulated_store
from cloud_assets.patches.splits import GroupedSplit, Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.simulation.clouds import CloudRecipe
from cloud_assets.simulation.ground import BIOMES, GroundRecipe
from cloud_assets.simulation.patch import SimulationRecipe
from cloud_assets.simulation.sensor import SensorRecipe
from cloud_assets.tasks.landsat_segmentation import TASK

BANDS = ("red", "green", "blue", "nir")
# Level 1 of Landsat without metadata is not corrected for the height of the sun: white may be dark. Veils that reflect
# a twentieth are cloud (below it haze and veil are one), and detectors may end at a fifth. Ice and ground without any
# texture are what real patches confuse most.
SIMULATION = SimulationRecipe(
    ground=GroundRecipe(biomes=(*BIOMES, *["ice sheet"] * 3, "sea ice", "snowy land"), texture=(0.04, 1.3)),
    clouds=CloudRecipe(thin_from=0.05, none=0.3, stratus=0.15, overcast=0.25, veil=0.08),
    sensor=SensorRecipe(
        saturation_chance=0.5,
        saturation=(0.22, 1.1),
        saturation_tint=0.22,
        saturation_knee=(0.0, 0.1),
        noise=(0.0001, 0.002),
        shot_noise=(0.0, 0.002),
    ),
    haze=(0.02, 0.6),
    sun_elevation=(8.0, 75.0),
    illumination=(0.3, 1.15),
)
AUGMENTATION = Augmentation(
    brightness=0.3,
    contrast=0.2,
    gamma=0.15,
    band_gain=0.03,
    band_offset=0.01,
    saturation=0.25,
    saturation_range=(0.3, 1.0),
    quantisation=0.2,
    blur=0.1,
    noise=0.003,
    coarser=0.1,
    nodata_wedge=0.1,
    resolution=(0.6, 1.6),
)
OPTIONAL = ("blue", "nir")  # scenes may lack one of them; which band stands in: missing_bands.py
HELD_OUT_PATCHES, HELD_OUT_SEED = 60, 5_000_011


def main() -> None:
    """Trains, scores, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--patches", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--steps", type=int, default=100, help="batches an epoch")
    parser.add_argument("--batch", type=int, default=8, help="patches a batch")
    parser.add_argument("--workers", type=int, default=0, help="processes that load patches")
    parser.add_argument("--crop", type=int, default=256, help="side of what is cut from a patch for training")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--weights", default="none", help="of an earlier model, to go on from: its weights.safetensors")
    parser.add_argument("--distil", help="a model whose answers count beside the labels, as --model takes it")
    parser.add_argument("--share", type=float, default=0.5, help="of the loss that its answers have")
    parser.add_argument("--block", type=float, default=1, help="side of the network's pixels, in the picture's")
    parser.add_argument(
        "--band-dropout", type=float, default=0.0, help="share of patches that lack blue or near infrared"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--workspace", type=Path, default=Path("simulation_only"))
    parser.add_argument("--release", type=Path, help="folder to write the model to as it comes with the package")
    parser.add_argument("--simulated", type=Path, default=Path("simulated_patches"), help="cache of simulated patches")
    options = parser.parse_args()
    simulated, held_out = (
        simulated_store(
            options.simulated,
            instrument="landsat8_l1", bands=BANDS, size=256, count=count, seed=seed, recipe=SIMULATION,
            workers=max(2, options.workers),
        )
        for count, seed in ((options.patches, 0), (HELD_OUT_PATCHES, HELD_OUT_SEED))
    )  # fmt: skip
    bundle = trained(options, simulated, GroupedSplit(fractions=(0.95, 0.025, 0.025)).split(simulated))
    if options.release is not None:
        bundle = released(bundle)
        bundle.save(options.release)
    record = bundle.card.training
    print(f"{record.epochs_run} epochs in {record.seconds / 60:.0f} minutes; model: {options.workspace / 'model'}")
    print("patches", "rule", *COLUMNS, sep=" | ")
    show("simulated, held out", {"model": ModelMask.of(bundle, held_out)}, held_out, np.arange(len(held_out)))
    show_real({"model": bundle}, options.folder, options.workspace)


def trained(options: argparse.Namespace, store: PatchStore, splits: Splits) -> ModelBundle:
    """The model, trained or finished or opened."""
    recipe = Segmentation(
        network=EfficientNetUNet(encoder_weights=options.weights, block=options.block),
        distil=Distillation(teacher=options.distil, share=options.share) if options.distil else None,
        optional_bands=OPTIONAL,
        loss=FocalDice(focal=0.25),
        clip=(0.0, 1.2),
        crop=options.crop,
        augmentation=AUGMENTATION.model_copy(update={"band_dropout": options.band_dropout}),
        texture=True,
        test_time_augmentation=True,
        mirrored_border=32,
        classes="four",
        optimisation=Optimisation(
            learning_rate=options.learning_rate, scheduler="linear", max_epochs=options.epochs,
            steps_per_epoch=options.steps, patience=None, weight_averaging=0.998, seed=options.seed,
            threads=options.threads, batch_size=options.batch, workers=options.workers,
        ),
    )  # fmt: skip
    identity = fingerprint(recipe, store, splits)
    folder = options.workspace / "model"
    if folder.is_dir():
        bundle = ModelBundle.open(folder)
        if bundle.card.training.fingerprint != identity:
            raise SystemExit(
                f"{folder} is a model of other options or of an earlier version of the simulation: name another "
                "--workspace, or delete this one."
            )
        return bundle
    run = TrainingRun(TASK.name, "simulation_only", store, splits, options.workspace / "training" / identity)
    bundle = family_of(recipe).train(recipe, run)
    bundle.save(folder)
    return bundle


def released(bundle: ModelBundle) -> ModelBundle:
    """The same model, filters in half precision: half the size, the same masks but for a pixel here and there.

    Its card keeps no path of the machine it was trained on: of weights that it went on from, the name of the workspace.
    """
    weights = {name: tensor.half() if tensor.ndim > 1 else tensor for name, tensor in bundle.state_dict().items()}
    card = bundle.card
    recipe = dict(card.training.recipe)
    start = recipe["network"].get("encoder_weights", "none")
    if Path(start).suffix:
        recipe["network"] = {**recipe["network"], "encoder_weights": f"from {Path(start).resolve().parent.parent.name}"}
    changed = card.model_copy(
        update={
            "network": card.network.model_copy(update={"encoder_weights": "none"} if start != "none" else {}),
            # It learnt under suns of any height; scenes are read as corrected for it, where it is known: sun_angle.py.
            "preprocessing": card.preprocessing.model_copy(update={"instrument": "landsat8_toa"}),
            "training": card.training.model_copy(update={"recipe": recipe}),
        }
    )
    return ModelBundle(changed, weights)


if __name__ == "__main__":
    main()
