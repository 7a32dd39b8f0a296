"""What the model card of a translation model holds besides the common part."""

from pydantic import Field

from cloud_assets.inference.bundle import CardSection
from cloud_assets.patches.preprocessing import Preprocessing


class TranslationSection(CardSection):
    """What is predicted from what, and how the training went."""

    target: Preprocessing = Field(description="Bands and scaling of the predicted reflectance.")
    input_role: str = Field(default="sar", description="Role of the radar patches in the patch store.")
    output_role: str = Field(default="optical", description="Role of the optical patches.")
    validated_on: str = Field(default="validation", description="Patches that the best epoch was chosen on.")
    ended: str = Field(default="", description="Why the training was stopped early, if it was.")

    @property
    def patches_role(self) -> str:
        """Role of the radar patches."""
        return self.input_role
