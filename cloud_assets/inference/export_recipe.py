"""Settings and record of a model's export; torch-free."""

from pydantic import BaseModel, Field

from cloud_assets.inference.bundle import CardSection

NETWORK_FILE = "network.onnx"
INT8_FILE = "network.int8.onnx"


class ExportRecipe(BaseModel, frozen=True, extra="forbid"):
    """How a model is exported."""

    opset: int = Field(18, ge=17, description="Version of the ONNX operator set.")
    parity_inputs: int = Field(32, ge=1, description="Inputs on which both networks have to agree.")
    tolerance: float = Field(1e-3, gt=0, description="Largest difference of a logit, as a share of the largest.")
    int8: bool = Field(True, description="Also make a network of 8-bit integers.")
    calibration_inputs: int = Field(64, ge=1, description="Training patches that 8-bit ranges are measured on.")


class ExportRecord(BaseModel, frozen=True, extra="forbid"):
    """What was exported, and how equal it is; part of the exported model's card."""

    file: str = NETWORK_FILE
    opset: int
    input_name: str
    input_shape: tuple[int | str, ...]
    inputs_compared: int = Field(description="Number of inputs on which the two networks were compared.")
    max_difference: float = Field(description="Largest difference of a logit between ONNX Runtime and PyTorch.")
    bytes: int
    int8_file: str | None = None
    int8_bytes: int | None = None
    int8_max_difference: float | None = Field(None, description="The same for the 8-bit network.")
    int8_agreement: float | None = Field(None, description="Share of the inputs whose largest logit is the same.")
    calibration_inputs: int | None = None
    milliseconds: float = Field(description="Time of one input on this machine's processor, one thread.")
    int8_milliseconds: float | None = None
    metrics: dict[str, float] = Field(
        default_factory=dict, description="Test metrics of the exported networks and what the 8-bit one loses."
    )


class ExportSection(CardSection):
    """What the card of an exported model holds besides that of the model."""

    export: ExportRecord
