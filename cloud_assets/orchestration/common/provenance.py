"""What a materialisation that an asset reports itself was made from, so that Dagster tells when that has changed.

Dagster notes this only of what an asset returns at its end; an asset that tells of each partition as soon as it is
finished has to note it itself.
"""

from collections.abc import Mapping

import dagster as dg

DATA_VERSION_TAG = "dagster/data_version"
_NO_VERSION, _NO_EVENT = "INITIAL", "NULL"
"""What Dagster itself notes of an input that was never materialised."""


def provenance_tags(
    instance: dg.DagsterInstance,
    data_version: str,
    code_version: str | None,
    inputs: Mapping[dg.AssetKey, str | None],
) -> dict[str, str]:
    """Tags of a materialisation.

    Args:
        instance: Knows the inputs' latest materialisations.
        data_version: Version of what was made.
        code_version: Version of the asset's code.
        inputs: Asset -> the partition that was read; None for an asset without partitions.
    """
    tags = {DATA_VERSION_TAG: data_version, "dagster/data_version_is_user_provided": "true"}
    if code_version is not None:
        tags["dagster/code_version"] = code_version
    for key, partition in inputs.items():
        wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=None if partition is None else [partition])
        latest = next(iter(instance.fetch_materializations(wanted, limit=1).records), None)
        made = None if latest is None else latest.asset_materialization
        name = key.to_user_string()
        tags[f"dagster/input_data_version/{name}"] = ((made and made.tags) or {}).get(DATA_VERSION_TAG, _NO_VERSION)
        tags[f"dagster/input_event_pointer/{name}"] = _NO_EVENT if latest is None else str(latest.storage_id)
    return tags
