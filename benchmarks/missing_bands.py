"""Cloud masks of real pictures of which a band is missing, by the model that comes with the package.

    python benchmarks/missing_bands.py FOLDER [MODEL …]

The labelled pictures of ``operating_points.py`` as they are, without blue, and without near infrared: the card of the
model names the band that stands in. Printed are IoU, precision and recall of cloud at the model's own threshold. Which
band stands in was chosen on these pictures, but for the test split: green, as it is or times 0.9 to 1.05, is better
for blue than what red and green give together, red for near infrared about as good as a regression on all three.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from operating_points import BANDS, DECIDING, real_sets
from real_masks import scores

from cloud_assets import load_model, predict_array
from cloud_assets.scenes.planning import SceneOptions
from cloud_assets.scenes.prediction import Model

MISSING = ("", "blue", "nir")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", nargs="*", default=["simulation"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as workspace:
        sets = dict(real_sets(options.folder, Path(workspace)))
        print("model", "without", *(f"{name}: IoU, precision, recall" for name in sets), "mean IoU", sep=" | ")
        for reference in options.models:
            model = load_model(reference)
            for missing in MISSING:
                found = {name: scores(partial(mask, model, missing), pictures) for name, pictures in sets.items()}
                mean = sum(weight * found[name][0] for name, weight in DECIDING.items())
                cells = [", ".join(f"{value:.3f}" for value in numbers) for numbers in found.values()]
                print(reference, missing or "none", *cells, f"{mean:.3f}", sep=" | ", flush=True)


def mask(model: Model, missing: str, dn: npt.NDArray[np.generic], instrument: str) -> npt.NDArray[np.uint8]:
    """The mask of a picture without a band."""
    names = [band for band in BANDS if band != missing]
    there = dn[[BANDS.index(band) for band in names]]
    options = SceneOptions(accept_other_level=True)
    found: npt.NDArray[np.uint8] = predict_array(model, there, names, instrument=instrument, options=options)["mask"]
    return found


if __name__ == "__main__":
    main()
