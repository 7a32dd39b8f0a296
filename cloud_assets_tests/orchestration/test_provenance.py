import dagster as dg

from cloud_assets.orchestration.asset_parts import DATA_VERSION_TAG, provenance_tags

SCENES, CHAMPION = dg.AssetKey(["scenes", "raw_scenes"]), dg.AssetKey(["clouds", "champion"])


def test_inputs_are_noted_with_the_version_that_was_there() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        for partition, version in (("a.tif", "first"), ("b.tif", "other"), ("a.tif", "second")):
            arrival = dg.AssetMaterialization(SCENES, partition=partition, tags={DATA_VERSION_TAG: version})
            instance.report_runless_asset_event(arrival)
        tags = provenance_tags(instance, "products", "code", {SCENES: "a.tif", CHAMPION: None})
        (latest, *_) = instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=SCENES, asset_partitions=["a.tif"]), limit=1
        ).records
    assert tags == {
        "dagster/data_version": "products",
        "dagster/data_version_is_user_provided": "true",
        "dagster/code_version": "code",
        "dagster/input_data_version/scenes/raw_scenes": "second",
        "dagster/input_event_pointer/scenes/raw_scenes": str(latest.storage_id),
        "dagster/input_data_version/clouds/champion": "INITIAL",
        "dagster/input_event_pointer/clouds/champion": "NULL",
    }
