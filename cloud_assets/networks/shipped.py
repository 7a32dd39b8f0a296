"""The model that comes with the package, trained on simulated patches alone, and the ways to use it.

``benchmarks/simulation_only.py`` trains it; its folder is an ordinary model bundle, weights in half precision.
"""

import json
from pathlib import Path
from typing import Any, Final

SIMULATION: Final = "simulation"
"""What configurations and commands call the model."""
SIMULATION_MODEL: Final = Path(__file__).parent / "simulation"
"""Its folder."""
SIMULATION_WEIGHTS: Final = SIMULATION_MODEL / "weights.safetensors"
"""Its weights: U-Net with EfficientNet-B2; red, green, blue, near infrared as reflectance 0 … 1.2 and their fine
texture; clear, thick cloud, thin cloud and cloud shadow out of it."""
WAYS: Final = SIMULATION_MODEL / "ways.json"
SHIPPED: Final[dict[str, dict[str, Any]]] = json.loads(WAYS.read_text(encoding="utf-8"))
"""By what commands call it, what each way changes in the model's card: ``simulation`` works on pixels a third longer,
``simulation-fast`` on blocks of two by two; ``simulation-large`` is the mean over four orientations at full size."""
