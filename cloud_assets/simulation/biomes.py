"""Landscapes of simulated ground: which surfaces occur together in each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

FIELDS: Mapping[str, float] = {"crop": 3, "grass": 2, "soil": 2, "dry grass": 2, "dark soil": 1}
DRY_FIELDS: Mapping[str, float] = {"soil": 3, "dry grass": 3, "crop": 1.5, "red soil": 1, "burnt": 0.3}
CLEARINGS: Mapping[str, float] = {"grass": 2, "red soil": 1, "crop": 1, "burnt": 0.5}
SNOWY_FIELDS: Mapping[str, float] = {"snow": 3, "old snow": 4, "dirty snow": 2, "dry grass": 0.5}
CITY: Mapping[str, float] = {"town": 6, "asphalt": 2, "red roof": 0.6, "bright roof": 0.25, "grass": 1, "forest": 0.8}
FRESH_WATER: Mapping[str, float] = {"water": 3, "green water": 2, "turbid water": 2}


@dataclass(frozen=True)
class Biome:
    """A landscape: surfaces that mix, and what else is found in it."""

    surfaces: Mapping[str, float]  # surfaces that mix in fractal patches, with their weights
    weight: float = 1.0  # how often the landscape is drawn, relative to the others
    parcels: Mapping[str, float] = field(default_factory=dict)  # uses of parcels, with their weights; empty for none
    parcel_chance: float = 0.0  # probability that there are parcels
    parcel_metres: tuple[float, float] = (90, 700)  # width of a parcel
    circles: float = 0.0  # probability that parcels are irrigation circles
    water: Mapping[str, float] = field(default_factory=lambda: FRESH_WATER)
    """What lakes and rivers hold; for a frozen landscape, ice."""
    lakes: float = 0.1  # probability of lakes
    rivers: float = 0.15  # probability of a river
    town: float = 0.05  # probability of a settlement
    roads: float = 0.1  # probability of a road
    relief: tuple[float, float] = (0.0, 0.12)  # typical tangent of the ground's slope
    snow_line: float = 0.0  # probability that the high ground is covered in snow
    dunes: float = 0.0  # probability of dunes or wind ripples
    softness: float = 1.0  # factor on the width of the borders between surfaces
    contrast: tuple[float, float] | None = None
    """Range of a factor on texture and on the difference between a surface's two spectra; None for a factor of 1."""
    ripples: tuple[float, float] | None = None
    """Range of the relative brightness variation by relief that the wind makes, smaller than a pixel; None for none."""


_wild = partial(Biome, lakes=0, rivers=0, town=0, roads=0, relief=(0, 0))
"""A landscape without lakes, rivers and people."""

BIOMES: Mapping[str, Biome] = {
    "farmland": Biome(
        {"grass": 2, "forest": 2, "dry grass": 1}, 2.0, parcels=FIELDS, parcel_chance=0.95,
        lakes=0.12, rivers=0.25, town=0.35, roads=0.4,
    ),
    "dry farmland": Biome(
        {"dry grass": 2, "soil": 1, "shrub": 1}, 1.4, parcels=DRY_FIELDS, parcel_chance=0.9, circles=0.25,
        rivers=0.2, town=0.25, roads=0.4,
    ),
    "irrigated desert": Biome(
        {"sand": 2, "soil": 1, "pale rock": 0.5}, 0.7, parcels=FIELDS, parcel_chance=0.95, circles=0.7,
        rivers=0.15, town=0.2, dunes=0.15,
    ),
    "forest": Biome(
        {"forest": 4, "conifer": 2, "grass": 1, "shrub": 0.5}, 1.5, parcels=FIELDS, parcel_chance=0.2,
        rivers=0.25, roads=0.15, relief=(0.02, 0.35),
    ),
    "rain forest": Biome(
        {"forest": 5, "grass": 1, "red soil": 0.4, "burnt": 0.3}, 0.9, parcels=CLEARINGS, parcel_chance=0.4,
        rivers=0.4,
    ),
    "boreal forest": Biome({"conifer": 4, "bog": 2, "grass": 0.6, "burnt": 0.4}, 1.0, lakes=0.6, rivers=0.3),
    "wetland": Biome({"bog": 3, "grass": 2, "green water": 1.5, "dry grass": 1}, 0.8, lakes=0.5, rivers=0.5),
    "savanna": Biome(
        {"dry grass": 3, "shrub": 2, "red soil": 2, "forest": 0.5, "burnt": 0.8}, 1.1,
        parcels=DRY_FIELDS, parcel_chance=0.2, rivers=0.25, relief=(0, 0.2),
    ),
    "sand desert": Biome(
        {"sand": 3, "bright sand": 2, "soil": 0.6}, 1.1, lakes=0.02, rivers=0.02, town=0.02,
        relief=(0.005, 0.3), dunes=0.7, softness=2,
    ),
    "rock desert": Biome(
        {"rock": 2, "sand": 1, "red soil": 1, "dark rock": 1, "pale rock": 1}, 1.1, lakes=0.03, rivers=0.15,
        relief=(0.02, 0.5), softness=1.5,
    ),
    "salt flat": Biome(
        {"salt": 3, "bright sand": 1, "soil": 1, "lagoon": 0.4}, 0.8, water={"lagoon": 1, "turbid water": 1}, lakes=0.3,
        relief=(0, 0.04), softness=1.5,
    ),
    "pale quarry": Biome(
        {"pale rock": 2, "bright sand": 1, "soil": 1, "dry grass": 1}, 0.5, parcels=DRY_FIELDS, parcel_chance=0.5,
        town=0.2, relief=(0.02, 0.3),
    ),
    "coast": Biome(
        {"grass": 1, "forest": 1, "sand": 1, "dry grass": 1, "bright sand": 0.4}, 1.0,
        parcels=FIELDS, parcel_chance=0.4, water={"water": 2, "turbid water": 1, "lagoon": 1}, lakes=0.95, town=0.25,
    ),
    "open water": _wild({"water": 3, "green water": 1}, 1.2, softness=3),
    "turbid water": _wild({"turbid water": 2, "water": 1, "green water": 1, "lagoon": 0.5}, 0.7, softness=3),
    "sun glint": _wild({"water": 2, "glint": 1.2}, 0.7, softness=8),
    "reef": _wild({"water": 3, "lagoon": 2, "bright sand": 0.2}, 0.5, softness=1.5),
    "city": Biome(
        {"town": 2, "grass": 1, "forest": 0.7}, 1.2, parcels=CITY, parcel_chance=0.95, parcel_metres=(60, 400),
        rivers=0.3, town=1.0, roads=0.8, relief=(0, 0.08),
    ),
    "mountains": Biome(
        {"rock": 2, "grass": 1.5, "forest": 2, "conifer": 1}, 1.0, lakes=0.12, rivers=0.2,
        relief=(0.12, 0.9), snow_line=0.2,
    ),
    "snowy mountains": Biome(
        {"rock": 2, "conifer": 1.5, "dark rock": 1, "dry grass": 0.7}, 1.3, lakes=0.08, rivers=0.1, town=0,
        relief=(0.12, 0.9), snow_line=1.0,
    ),
    "snow field": _wild({"snow": 3, "old snow": 1.5}, 1.8, relief=(0, 0.12), dunes=0.3, softness=3),
    "snowy land": Biome(
        {"snow": 2, "old snow": 2, "dirty snow": 1.5, "conifer": 2, "forest": 0.5}, 1.1,
        parcels=SNOWY_FIELDS, parcel_chance=0.6, water={"ice": 2, "snow": 1, "water": 1},
        lakes=0.4, rivers=0.3, town=0.15, roads=0.4, relief=(0, 0.35), softness=1.5,
    ),
    "thin snow": Biome(
        {"dirty snow": 2, "dry grass": 2, "shrub": 1, "pale rock": 0.7, "old snow": 0.5}, 0.9,
        parcels=SNOWY_FIELDS, parcel_chance=0.2, water={"ice": 1, "snow": 1, "pale rock": 1},
        lakes=0.2, rivers=0.5, roads=0.3, relief=(0, 0.3), softness=2,
    ),
    "frozen lakes": Biome(
        {"conifer": 2, "bog": 1.5, "shrub": 1, "dirty snow": 0.4}, 0.8,
        water={"ice": 2, "sea ice": 1, "snow": 2, "water": 1}, lakes=0.95, rivers=0.3,
    ),
    "glacier": Biome(
        {"ice": 2, "old snow": 2, "snow": 1, "dark rock": 0.8}, 0.9,
        water={"turbid water": 1, "ice": 1}, town=0, roads=0, relief=(0.02, 0.6), softness=1.5,
    ),
    "sea ice": _wild({"sea ice": 3, "snow": 1.5, "water": 1.5}, 0.9, relief=(0, 0.01)),
    "volcano": Biome(
        {"dark rock": 3, "burnt": 1, "red soil": 1, "shrub": 0.6}, 0.5, relief=(0.04, 0.6), snow_line=0.15, softness=1.5
    ),
    "ice sheet": _wild({"snow": 1}, 1.5, relief=(0, 0.01), dunes=0.3, contrast=(0.01, 0.5), ripples=(0.0008, 0.006)),
    "snowy forest": Biome(
        {"conifer": 3, "dirty snow": 3, "forest": 0.7, "old snow": 0.7}, 0.9,
        water={"ice": 1, "snow": 2, "old snow": 2}, lakes=0.2, rivers=0.6, roads=0.4, relief=(0, 0.35), softness=3,
    ),
}  # fmt: skip
"""Landscapes by name."""

VARIED: tuple[str, ...] = tuple(name for name in BIOMES if name not in ("ice sheet", "snowy forest"))
"""Landscapes on which colour or texture tells clouds from ground. The others ask for near infrared and a deep scale."""

TEXTURE: Mapping[str, tuple[float, float, float]] = {
    "forest": (0.13, 0.09, 0.06),
    "conifer": (0.15, 0.10, 0.06),
    "crop": (0.03, 0.05, 0.07),
    "grass": (0.04, 0.07, 0.07),
    "dry grass": (0.03, 0.06, 0.08),
    "shrub": (0.08, 0.09, 0.07),
    "soil": (0.02, 0.05, 0.08),
    "dark soil": (0.03, 0.05, 0.08),
    "red soil": (0.03, 0.06, 0.08),
    "sand": (0.006, 0.015, 0.04),
    "bright sand": (0.006, 0.015, 0.04),
    "rock": (0.08, 0.12, 0.10),
    "dark rock": (0.08, 0.12, 0.12),
    "pale rock": (0.06, 0.08, 0.08),
    "salt": (0.01, 0.03, 0.07),
    "burnt": (0.08, 0.10, 0.10),
    "bog": (0.07, 0.12, 0.10),
    "water": (0.008, 0.015, 0.05),
    "green water": (0.01, 0.03, 0.10),
    "turbid water": (0.008, 0.04, 0.14),
    "lagoon": (0.02, 0.08, 0.18),
    "glint": (0.05, 0.10, 0.25),
    "town": (0.22, 0.14, 0.06),
    "asphalt": (0.18, 0.10, 0.05),
    "bright roof": (0.20, 0.12, 0.05),
    "red roof": (0.18, 0.10, 0.05),
    "snow": (0.004, 0.010, 0.020),
    "old snow": (0.010, 0.025, 0.050),
    "dirty snow": (0.06, 0.10, 0.10),
    "ice": (0.03, 0.07, 0.10),
    "sea ice": (0.02, 0.05, 0.09),
}
"""Relative brightness variation of each surface: grainy, medium and coarse texture (standard deviations)."""
