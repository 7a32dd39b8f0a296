"""The command line on a small SEN12MS: from archives to a served champion that turns radar into reflectance."""

import json
import subprocess
import sys
import textwrap

import pytest

from cloud_assets.datasets.samples.sample_writer import write_sample
from cloud_assets.tasks.sar_to_optical import TASK
from cloud_assets_tests.end_to_end.workplace import Workplace

SERVED = """
    import mlflow, numpy as np
    from pathlib import Path
    uri = f"sqlite:///{Path('mlflow/mlflow.db').absolute()}"
    mlflow.set_tracking_uri(uri)
    model = mlflow.pyfunc.load_model("models:/sar_to_optical@champion")
    answer = model.predict(np.full((1, 40, 52, 2), -12, np.float32))["reflectance"]
    assert answer.shape[0] == 1 and answer.shape[2:] == (40, 52), answer.shape
    assert np.isfinite(answer).all()
"""


def _config() -> str:
    ops: dict[str, object] = {}
    for variant, recipe in TASK.variants.items():
        size = {"blocks": 1} if variant.startswith("cyclegan") else {"depth": 2}
        is_paired = recipe.model_dump(mode="json")["pairing"] == "paired"
        optimisation = {
            "max_epochs": 1,
            "steps_per_epoch": 40 if is_paired else 2,
            "batch_size": 2,
            "learning_rate": 4e-3,
            "weight_averaging": None,
        }
        ops[f"sar_to_optical__{variant}_model"] = {
            "config": {
                "network": {"width": 8 if is_paired else 4, **size},
                "discriminator": {"width": 4, "layers": 1},
                "crop": 64,
                "statistics_patches": 2,
                "optimisation": optimisation,
            }
        }
    return json.dumps({"ops": ops})


@pytest.mark.slow
def test_from_archives_to_a_served_champion(workplace: Workplace) -> None:
    data = workplace.folder / "raw"
    write_sample(data, datasets=("sen12ms",), scale=0.01, progress=False)
    place = Workplace(workplace.folder, {**workplace.environment, "CLOUD_ASSETS_DATA": str(data)})
    place.run(place.job("sar_to_optical", _config()))
    results = place.folder / "data" / "sar_to_optical"
    for variant in TASK.variants:
        metrics = json.loads((results / f"{variant}_report" / "metrics.json").read_text())
        assert {"psnr", "psnr_gain", "ssim", "ms_ssim", "r2", "sam", "linear_psnr_gain"} <= metrics.keys()
        assert ("ndvi_rmse" in metrics) == variant.endswith("rgb_nir")
    assert json.loads((results / "champion" / "decision.json").read_text())["challenger_value"] > 0
    subprocess.run([sys.executable, "-c", textwrap.dedent(SERVED)], cwd=place.folder, env=place.environment, check=True)
