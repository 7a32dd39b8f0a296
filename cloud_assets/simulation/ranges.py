"""Closed intervals that recipes are made of, and drawing from them."""

import math
from collections.abc import Mapping
from typing import Annotated

import numpy as np
from pydantic import AfterValidator


def _ordered(interval: tuple[float, float]) -> tuple[float, float]:
    low, high = interval
    if not low <= high:
        raise ValueError(f"a range runs from its smaller to its larger end, not from {low} to {high}")
    return interval


def _positive(interval: tuple[float, float]) -> tuple[float, float]:
    if interval[0] <= 0:
        raise ValueError(f"a scale must be positive, and {interval[0]} is not")
    return interval


Interval = Annotated[tuple[float, float], AfterValidator(_ordered)]
"""A closed range (low, high) from which values are drawn evenly."""

Scale = Annotated[tuple[float, float], AfterValidator(_ordered), AfterValidator(_positive)]
"""A closed range (low, high) of positive values, drawn evenly in the logarithm."""


def uniform(rng: np.random.Generator, interval: tuple[float, float]) -> float:
    """Draws one value evenly from a closed range."""
    return float(rng.uniform(*interval))


def log_uniform(rng: np.random.Generator, interval: tuple[float, float]) -> float:
    """Draws one positive value whose logarithm is evenly distributed over the range."""
    return math.exp(rng.uniform(math.log(interval[0]), math.log(interval[1])))


def mostly_low(rng: np.random.Generator, interval: tuple[float, float]) -> float:
    """Draws one value from a closed range, half of the draws from its lowest eighth."""
    low, high = interval
    return low + (high - low) * float(rng.random()) ** 3


def draw(rng: np.random.Generator, weights: Mapping[str, float]) -> str:
    """Draws one name by its weight relative to the others'."""
    values = np.array(list(weights.values()))
    return list(weights)[int(rng.choice(len(values), p=values / values.sum()))]


def chance(rng: np.random.Generator, probability: float) -> bool:
    """True with the given probability."""
    return bool(rng.random() < probability)
