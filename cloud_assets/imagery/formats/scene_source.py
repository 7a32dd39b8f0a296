"""A scene on disk, described but not opened, so that any thread or process can open it for itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from cloud_assets.bands import INSTRUMENTS, Instrument
from cloud_assets.datasets.scene import Grid
from cloud_assets.errors import InvalidData, InvalidScene
from cloud_assets.imagery.formats.container import Container
from cloud_assets.imagery.formats.file_names import is_address
from cloud_assets.imagery.formats.scene_reader import SceneBand, SceneReader
from cloud_assets.imagery.formats.sun import before_correction
from cloud_assets.imagery.geometry import pixel_metres

STATED_CLOUD = "stated_cloud_percentage"
"""Attribute of a scene whose metadata tell how cloudy it is, by the agency's own rule of thumb."""
_SURFACE = ("_l2", "_l2a")
"""How the names of instruments end whose products are of the surface."""


@dataclass(frozen=True)
class SceneSource:
    """A scene: its bands, its grid, and what is known about it."""

    name: str
    """Names the folder of its products."""
    instrument: str
    """Key in :data:`cloud_assets.bands.INSTRUMENTS`."""
    bands: Mapping[str, SceneBand]
    """By the instrument's own band names."""
    grid: Grid
    """The grid that all bands are brought to."""
    location: str
    """What the user named: a file or a folder."""
    fingerprint: str
    """Changes when a file of the scene does."""
    acquired: datetime | None = None
    sun_elevation: float | None = None
    """Degrees above the horizon, where level 1 was corrected for it."""
    warnings: tuple[str, ...] = ()
    """What a user of the products should know."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Whatever else the metadata tell, such as the processing baseline."""
    container: Container | None = field(default=None, compare=False)
    """What holds the files, where that is an archive or a folder."""

    @property
    def profile(self) -> Instrument:
        """The instrument's profile: digital numbers that a reader hands out are to be read with it."""
        return INSTRUMENTS[self.instrument]

    @property
    def level(self) -> str:
        """Where the signal is from: "surface" or "top of atmosphere"; for radar "backscatter"."""
        return level_of(self.profile)

    @property
    def address(self) -> str:
        """The same from any working folder: an address, or an absolute path."""
        return self.location if is_address(self.location) else str(Path(self.location).absolute())

    @property
    def megapixels(self) -> float:
        """Pixels of the scene, in millions."""
        return self.grid.height * self.grid.width / 1e6

    @property
    def pixel_metres(self) -> float | None:
        """Side of a pixel in metres, the longer one; None without a coordinate reference system."""
        return pixel_metres(self.grid)

    def resolve(self, bands: Sequence[str]) -> tuple[str, ...]:
        """Own names of bands asked for by own or common names.

        Raises:
            UnknownBand: The instrument has no such band.
            InvalidData: The instrument has it, this scene does not.
        """
        names = tuple(self.profile.find(band).name for band in bands)
        missing = [f"{name} ({self.profile.find(name).common_name})" for name in names if name not in self.bands]
        if missing:
            raise InvalidData(
                f"{self.location} has no band {', '.join(missing)}; it has {', '.join(self.bands)}. "
                "Add the missing files, or use a model that does without these bands."
            )
        return names

    def has(self, bands: Sequence[str]) -> bool:
        """Whether the scene holds all these bands."""
        held = [band for band in self.profile.bands if band.name in self.bands]
        known = {name for band in held for name in (band.name, band.common_name)}
        return known.issuperset(bands)

    def read_as(self, instrument: str) -> "SceneSource":
        """The scene as a model reads it that learnt from an instrument: level 1 before the correction for the sun too.

        Args:
            instrument: What the model learnt from, a key in :data:`cloud_assets.bands.INSTRUMENTS`.
        """
        if INSTRUMENTS[instrument].is_sun_corrected or self.sun_elevation is None:
            return self
        name, bands = before_correction(self.instrument, self.bands, self.sun_elevation)
        return replace(self, instrument=name, bands=bands, sun_elevation=None)

    def open(self, bands: Sequence[str]) -> SceneReader:
        """Opens the files of some bands for reading; to be closed, or used in a ``with`` block.

        Args:
            bands: Own or common names; the order in which the reader hands them out.

        Raises:
            UnknownBand: The instrument has no such band.
            InvalidData: This scene does not hold one of them. A file cannot be opened.
        """
        return SceneReader(self, self.resolve(bands))

    def at_resolution(self, metres: float) -> "SceneSource":
        """The same scene on a coarser grid of the same corner.

        Args:
            metres: Wanted side of a pixel; not finer than the scene's own.

        Raises:
            InvalidScene: If the scene has no coordinate reference system, or is coarser than that already.
        """
        own = self.pixel_metres
        if own is None or metres < own * 0.999:
            raise InvalidScene(
                f"{self.location} cannot be brought to {metres:g} m: "
                + ("it has no coordinate reference system." if own is None else f"its own pixels measure {own:g} m.")
            )
        factor = metres / own
        a, b, c, d, e, f = self.grid.transform
        height, width = (max(1, round(side / factor)) for side in (self.grid.height, self.grid.width))
        transform = (a * factor, b * factor, c, d * factor, e * factor, f)
        return replace(self, grid=Grid(height, width, self.grid.crs, transform))


def level_of(instrument: Instrument) -> str:
    """Where an instrument's signal is from: "surface" or "top of atmosphere"; for radar "backscatter"."""
    if instrument.unit != "reflectance":
        return "backscatter"
    return "surface" if instrument.name.endswith(_SURFACE) else "top of atmosphere"
