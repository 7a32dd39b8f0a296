"""The picture of the README: a scene, its mask and its cloud probability side by side.

python benchmarks/scene_picture.py SCENE [--model simulation] [--instrument NAME] [--out docs/images/scene_and_mask.png]
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image

from cloud_assets import load_model, predict_scene
from cloud_assets.families.segmentation.products import MASK_COLOURS
from cloud_assets.scenes.planning import SceneOptions

WIDTH = 400


def main() -> None:
    """Predicts, draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path)
    parser.add_argument("--model", default="simulation")
    parser.add_argument("--instrument")
    parser.add_argument("--out", type=Path, default=Path("docs/images/scene_and_mask.png"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wanted = SceneOptions(products=("mask", "probability"))
        made = predict_scene(load_model(options.model), options.scene, folder, wanted, instrument=options.instrument)
        panels = [Image.open(made.paths["quicklook"]).convert("RGBA")]
        table = np.zeros((256, 4), np.uint8)
        for code, colour in MASK_COLOURS.items():
            table[code] = colour
        with rasterio.open(made.paths["mask"]) as raster:
            panels.append(Image.fromarray(table[raster.read(1)]))
        with rasterio.open(made.paths["probability"]) as raster:
            percent = raster.read(1)
        grey = np.repeat((np.minimum(percent, 100) * 2.55).astype(np.uint8)[..., None], 3, axis=2)
        panels.append(Image.fromarray(np.dstack([grey, np.where(percent == 255, 0, 255).astype(np.uint8)])))
    height = round(WIDTH * panels[1].height / panels[1].width)
    whole = Image.new("RGBA", (3 * WIDTH + 20, height), (0, 0, 0, 0))
    for place, panel in enumerate(panels):
        whole.paste(
            panel.resize((WIDTH, height), Image.Resampling.LANCZOS if place == 0 else Image.Resampling.NEAREST),
            (place * (WIDTH + 10), 0),
        )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    whole.save(options.out, optimize=True)
    print(options.out, whole.size)


if __name__ == "__main__":
    main()
