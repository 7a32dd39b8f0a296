"""Reproducible stratified samples of a large table, and groups of neighbouring samples."""

from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def choose_samples(table: "pd.DataFrame", identity: str, stratum: str, count: int, seed: int) -> "pd.DataFrame":
    """Chooses rows, the same share of each stratum.

    The order of preference is a hash of each row's id: it depends neither on the order of the rows nor on which other
    rows there are, so a larger count only adds rows to a smaller one.

    Args:
        table: Rows to choose from.
        identity: Column of unique ids.
        stratum: Column to stratify by, such as the split.
        count: How many to choose, at most as many as there are.
        seed: Another seed, another choice.

    Returns:
        ``count`` rows in their original order.
    """
    key = seed.to_bytes(8, "little", signed=True)
    preference = [blake2b(str(name).encode(), digest_size=8, key=key).digest() for name in table[identity]]
    ranked = table.assign(_preference=preference).sort_values("_preference")
    strata = ranked[stratum].fillna("").astype(str)
    # The place of each row in its own stratum, as a share: taking the smallest shares takes the same share of each.
    share = (ranked.groupby(strata).cumcount() + 0.5) / strata.map(strata.value_counts())
    chosen = share.sort_values(kind="stable").index[:count]
    return table.loc[table.index.isin(chosen)]


def merge_groups(region: "pd.Series[str]", product: "pd.Series[str]", split: "pd.Series[str]") -> list[str]:
    """Groups samples that share a region or a satellite product, so that no split cuts either.

    Products are merged inside an official split only: the published splits are kept as they are.

    Args:
        region: Region of each sample.
        product: Satellite product (acquisition) of each sample.
        split: Official split of each sample.

    Returns:
        For each sample the name of its group: the alphabetically first of the regions in it.
    """
    import numpy as np
    import pandas as pd
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    regions, region_names = pd.factorize(region, sort=True)
    products, product_names = pd.factorize(product.astype(str) + "\n" + split.fillna("").astype(str))
    size = len(region_names) + len(product_names)
    links = coo_array((np.ones(len(regions), bool), (regions, products + len(region_names))), shape=(size, size))
    _, component = connected_components(links, directed=False)
    first: dict[int, str] = {}
    for number, name in zip(component, region_names, strict=False):
        first.setdefault(int(number), str(name))
    return [first[int(component[index])] for index in regions]
