"""From new files to a promoted challenger, sensor by sensor, with the runs that they ask for."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from mlflow import MlflowClient

from cloud_assets.lifecycle.promotion import Champion, rollback
from cloud_assets.orchestration.automation import CAUSE_TAG, sensors
from cloud_assets.orchestration.jobs import TASK_TAG
from cloud_assets.reports.evaluation import Evaluation
from cloud_assets.tracking import Tracker
from cloud_assets_tests.orchestration.small_task import Made, definitions, folders_in, small_task, write_patches

TASK = small_task()
ARRIVAL, CHALLENGER, _ = sensors(TASK)


class Place:
    """A code location with its instance, and the cursors of its sensors."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.folder = folder
        self.instance = instance
        self.results = folder / "home" / "clouds"
        self.tracker = Tracker(f"sqlite:///{folder}/mlflow/mlflow.db")
        self.cursors: dict[str, str | None] = {}

    def look(self, sensor: dg.SensorDefinition) -> dg.RunRequest | str:
        """One tick: the request for a run, or why there is none."""
        resources = {"folders": folders_in(self.folder)} if sensor is ARRIVAL else {}
        with dg.build_sensor_context(
            self.instance, cursor=self.cursors.get(sensor.name), resources=resources
        ) as context:
            tick = sensor.evaluate_tick(context)
        if tick.cursor is not None:
            self.cursors[sensor.name] = tick.cursor
        return tick.run_requests[0] if tick.run_requests else str(tick.skip_message)

    def run(self, request: dg.RunRequest, quality: float = 0.5) -> dg.ExecuteInProcessResult:
        """What the daemon would run."""
        task = small_task(variants={"first": Made(quality=quality), "second": Made()})
        return (
            definitions(task, self.folder)
            .resolve_job_def("clouds")
            .execute_in_process(
                instance=self.instance, asset_selection=list(request.asset_selection or []), tags=dict(request.tags)
            )
        )

    def requested(self, sensor: dg.SensorDefinition) -> dg.RunRequest:
        found = self.look(sensor)
        assert isinstance(found, dg.RunRequest), found
        return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Place(tmp_path_factory.mktemp("place"), instance)


def test_new_data_become_patches_then_a_challenger_then_the_champion(place: Place) -> None:
    assert "no patches and splits yet" in str(place.look(CHALLENGER))
    assert "0 files" in str(place.look(ARRIVAL))
    write_patches(place.folder, range(10))
    assert "50 files" in str(place.look(ARRIVAL))
    request = place.requested(ARRIVAL)
    assert [key.path[-1] for key in request.asset_selection or []] == ["raw_scenes", "labeled_patches", "splits"]
    assert (request.tags[TASK_TAG], request.tags[CAUSE_TAG]) == ("clouds", ARRIVAL.name)
    assert place.run(request).success
    assert "nothing new" in str(place.look(ARRIVAL))

    request = place.requested(CHALLENGER)
    done = place.run(request)
    assert done.success
    assert Champion.open(place.results / "champion").record.promoted
    assert "last trained on" in str(place.look(CHALLENGER))
    # Every step tells what it cost.
    for event in done.get_asset_materialization_events():
        metadata = event.materialization.metadata
        assert {"seconds", "peak_memory_mb"} <= set(metadata), event.asset_key


def test_both_uis_lead_to_each_other(place: Place) -> None:
    champion = place.tracker.version_at("clouds", "champion")
    assert champion is not None
    tags = MlflowClient(place.tracker.uri).get_run(champion.run_id).data.tags
    assert tags["dagster_run_url"] == f"http://127.0.0.1:3000/runs/{tags['dagster_run_id']}"
    assert tags["dagster_run_url"] in tags["mlflow.note.content"]
    event = place.instance.get_latest_materialization_event(dg.AssetKey(["clouds", "champion"]))
    assert event is not None
    assert event.asset_materialization is not None
    assert champion.run_id in str(event.asset_materialization.metadata["mlflow_run"].value)


def test_worse_data_lead_to_a_rejected_challenger_with_the_reason(place: Place) -> None:
    write_patches(place.folder, range(10, 16))
    place.look(ARRIVAL)
    assert place.run(place.requested(ARRIVAL)).success
    done = place.run(place.requested(CHALLENGER), quality=0.4)
    assert done.success
    record = Champion.open(place.results / "champion").record
    assert not record.promoted
    assert record.version == 1
    (said,) = [
        event.materialization.metadata["reason"].value
        for event in done.get_asset_materialization_events()
        if event.asset_key == dg.AssetKey(["clouds", "champion"])
    ]
    assert said == record.reason
    challenger = place.tracker.version_at("clouds", "challenger")
    assert challenger is not None
    assert challenger.tags["decision"] == record.reason
    # The champion is judged on those test scenes that it was not trained on, for splits were drawn anew.
    assert "that the champion was not trained on" in record.reason or "flatters it" in record.reason


def test_a_run_that_trained_on_new_data_itself_leaves_nothing_to_do(place: Place) -> None:
    write_patches(place.folder, range(16, 18))
    assert definitions(TASK, place.folder).resolve_job_def("clouds").execute_in_process(instance=place.instance).success
    assert "has trained on them" in str(place.look(CHALLENGER))
    assert "last trained on" in str(place.look(CHALLENGER))


def test_sensors_wait_for_a_run_of_the_task(place: Place) -> None:
    run = place.instance.add_run(
        dg.DagsterRun(job_name="clouds", tags={TASK_TAG: "clouds"}, status=dg.DagsterRunStatus.STARTED)
    )
    for sensor in (ARRIVAL, CHALLENGER):
        assert run.run_id in str(place.look(sensor))
    place.instance.delete_run(run.run_id)


def test_the_champion_is_judged_on_the_data_of_today(place: Place) -> None:
    job = definitions(TASK, place.folder).resolve_job_def("clouds_champion_evaluation")
    done = job.execute_in_process(instance=place.instance)
    assert done.success
    evaluation = Evaluation.open(place.results / "champion_evaluation")
    assert evaluation.metrics["iou"] > 0.4
    (check,) = [one for one in done.get_asset_check_evaluations() if one.check_name == "still_passes_gate"]
    assert check.passed
    assert "when it was registered" in str(check.description)


def test_a_rollback_is_not_undone_by_the_next_run(place: Place) -> None:
    request = dg.RunRequest(asset_selection=[dg.AssetKey(["clouds", name]) for name in ("comparison", "champion")])
    before = place.tracker.version_at("clouds", "champion")
    champion = Champion.open(place.results / "champion").record
    assert before is not None
    assert champion.version == before.version
    better = place.run(
        dg.RunRequest(
            asset_selection=[
                *(dg.AssetKey(["clouds", f"first_{name}"]) for name in ("model", "report")),
                *(request.asset_selection or []),
            ]
        ),
        quality=0.9,
    )
    assert better.success
    promoted = Champion.open(place.results / "champion").record
    assert promoted.promoted
    assert rollback(place.tracker, "clouds", "striped masks")[1].version == before.version
    assert place.run(request, quality=0.9).success
    record = Champion.open(place.results / "champion").record
    assert record.version == before.version
    assert "striped masks" in record.reason


def test_a_challenger_below_the_gate_is_turned_down_with_the_reason(place: Place) -> None:
    before = place.tracker.version_at("clouds", "champion")
    keys = [["first_model"], ["first_report"], ["comparison"], ["champion"]]
    request = dg.RunRequest(asset_selection=[dg.AssetKey(["clouds", *key]) for key in keys])
    assert place.run(request, quality=0.1).success
    record = Champion.open(place.results / "champion").record
    assert "does not beat Baseline IoU" in record.reason
    assert before is not None
    assert record.version == before.version
    challenger = place.tracker.version_at("clouds", "challenger")
    assert challenger is not None
    assert challenger.tags["decision"] == record.reason
