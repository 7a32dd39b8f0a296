"""What the model card of a coverage classifier holds besides the common part."""

from pydantic import Field

from cloud_assets.families.classification.coverage_labels import CoverageClasses
from cloud_assets.inference.bundle import CardSection, ModelCard


class ClassificationSection(CardSection):
    """Which patches are classified, into which classes."""

    input_size: int = Field(ge=1, description="Side of the network's input, pixels.")
    minimum_valid: float = Field(ge=0, le=1, description="A patch with a smaller share of valid pixels is refused.")
    boundaries: tuple[float, ...] = Field(description="Cloud cover between one class and the next, percent, rising.")

    def classes(self, card: ModelCard) -> CoverageClasses:
        """The classes with their names, which the common part of the card holds."""
        return CoverageClasses(boundaries=self.boundaries, names=card.classes)
