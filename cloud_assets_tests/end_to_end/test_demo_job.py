"""The README's first command, made small: nothing is there but the package."""

import json

from cloud_assets.datasets.samples import SYNTHETIC_MARKER
from cloud_assets_tests.end_to_end.workplace import Workplace

TASK = "cloudsen12_segmentation"
CONFIG = """
ops:
  cloudsen12_segmentation__raw_scenes:
    config: {source: sample, sample_scale: 0.1, max_samples: 3}
  cloudsen12_segmentation__labeled_patches:
    config: {size: 128}
  cloudsen12_segmentation__unet_efficientnet_b2_model:
    config:
      network: {encoder: efficientnet-b0, encoder_weights: none}
      crop: 64
      mirrored_border: 0
      simulated_fraction: 0.0
      simulated_validation: 0
      composited_fraction: 0.0
      optimisation: {max_epochs: 1, steps_per_epoch: 2}
"""


def test_the_demo_makes_its_own_data(workplace: Workplace) -> None:
    workplace.start(workplace.job("demo", CONFIG)).wait(timeout=580)
    # Two steps of training teach nothing: the gate may end the run after the evaluation.
    assert f"✓ {TASK}/unet_efficientnet_b2_report" in workplace.printed()
    assert (workplace.folder / "data" / "sample-0.1" / "cloudsen12" / SYNTHETIC_MARKER).is_file()
    folder = workplace.folder / "data" / TASK
    evaluation = json.loads((folder / "unet_efficientnet_b2_report" / "evaluation.json").read_text())
    assert evaluation["is_synthetic"] is True
    assert workplace.materialisation(TASK, "raw_scenes").metadata["synthetic"].value is True
