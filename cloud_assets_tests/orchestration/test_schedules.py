"""Schedules: off by default, in a stated time zone, one run a tick whatever the clock does."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._utils.schedules import schedule_execution_time_iterator

from cloud_assets.definitions import defs
from cloud_assets.errors import InvalidRecipe
from cloud_assets.orchestration.automation import evaluation_cron, retraining_cron, run_configuration, schedules
from cloud_assets.orchestration.jobs import TASK_TAG
from cloud_assets.settings import settings
from cloud_assets.tasks import ALL_TASKS
from cloud_assets_tests.orchestration.small_task import small_task

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> dg.DagsterInstance:
    return dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("instance")))


def tick(schedule: dg.ScheduleDefinition, when: datetime, instance: dg.DagsterInstance) -> dg.RunRequest | str:
    context = dg.build_schedule_context(instance=instance, scheduled_execution_time=when)
    data = schedule.evaluate_tick(context)
    return data.run_requests[0] if data.run_requests else str(data.skip_message)


def test_nothing_runs_by_itself_until_it_is_switched_on() -> None:
    assert {schedule.default_status for schedule in defs.schedules} == {dg.DefaultScheduleStatus.STOPPED}  # type: ignore[union-attr]
    assert {sensor.default_status for sensor in defs.sensors} == {dg.DefaultSensorStatus.STOPPED}  # type: ignore[union-attr]


def test_each_task_is_trained_on_a_day_of_its_own_and_judged_every_night(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len({retraining_cron(task) for task in ALL_TASKS}) == len(ALL_TASKS)
    assert {evaluation_cron(task) for task in ALL_TASKS} == {"0 1 * * *"}
    monkeypatch.setenv("CLOUD_ASSETS_RETRAINING_CRON", "15 4 1 * *")
    monkeypatch.setenv("CLOUD_ASSETS_RETRAINING_CRON_CLOUD_ANOMALY", "30 5 1 * *")
    crons = {task.name: retraining_cron(task) for task in ALL_TASKS}
    assert crons.pop("cloud_anomaly") == "30 5 1 * *"
    assert set(crons.values()) == {"15 4 1 * *"}


def test_the_time_zone_is_stated_and_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {schedule.execution_timezone for schedule in schedules(small_task())} == {"UTC"}
    monkeypatch.setenv("CLOUD_ASSETS_TIMEZONE", "Europe/Berlin")
    assert {schedule.execution_timezone for schedule in schedules(small_task())} == {"Europe/Berlin"}
    monkeypatch.setenv("CLOUD_ASSETS_TIMEZONE", "Europe/Nowhere")
    with pytest.raises(InvalidRecipe, match="Europe/Nowhere"):
        settings()


@pytest.mark.parametrize(("month", "day"), [(3, 28), (10, 24)], ids=["clocks go forward", "clocks go back"])
def test_a_clock_change_neither_drops_nor_doubles_a_run(
    monkeypatch: pytest.MonkeyPatch, instance: dg.DagsterInstance, month: int, day: int
) -> None:
    """Half past two on the last Sunday of March does not exist in Berlin, and comes twice in October."""
    monkeypatch.setenv("CLOUD_ASSETS_TIMEZONE", "Europe/Berlin")
    monkeypatch.setenv("CLOUD_ASSETS_EVALUATION_CRON", "30 2 * * *")
    schedule = schedules(small_task())[1]
    start = datetime(2026, month, day, tzinfo=BERLIN)
    instants = schedule_execution_time_iterator(start.timestamp(), "30 2 * * *", schedule.execution_timezone)
    ticks = [next(instants) for _ in range(3)]
    assert [one.date() for one in ticks] == [(start + timedelta(days=n)).date() for n in range(3)]
    requests = [tick(schedule, one, instance) for one in (*ticks, ticks[1])]
    keys = [request.run_key for request in requests if isinstance(request, dg.RunRequest)]
    assert len(set(keys)) == 3
    # A tick that is evaluated again after the daemon was restarted asks for the very run that is there.
    assert keys[3] == keys[1]
    assert all(str(key).endswith("+00:00") for key in keys)


def test_a_tick_gives_way_to_its_own_job_only(instance: dg.DagsterInstance) -> None:
    """A weekly tick that gave way to the nightly job of the same task would be lost for a week."""
    schedule = schedules(small_task())[0]
    when = datetime(2026, 1, 4, 3, tzinfo=UTC)

    def started(job: str, task: str) -> dg.DagsterRun:
        return instance.add_run(dg.DagsterRun(job_name=job, tags={TASK_TAG: task}, status=dg.DagsterRunStatus.STARTED))

    started("clouds", "other")
    started("clouds_champion_evaluation", "clouds")
    assert isinstance(tick(schedule, when, instance), dg.RunRequest)
    run = started("clouds", "clouds")
    said = tick(schedule, when, instance)
    instance.delete_run(run.run_id)
    assert isinstance(said, str)
    assert run.run_id in said


def test_runs_take_their_configuration_from_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instance: dg.DagsterInstance
) -> None:
    assert set(run_configuration("clouds")) == {"loggers"}
    monkeypatch.setenv("CLOUD_ASSETS_RUN_CONFIGS", str(tmp_path))
    assert set(run_configuration("clouds")) == {"loggers"}
    (tmp_path / "clouds.yaml").write_text("ops: {clouds__first_model: {config: {quality: 0.7}}}")
    request = tick(schedules(small_task())[0], datetime(2026, 1, 4, 3, tzinfo=UTC), instance)
    assert isinstance(request, dg.RunRequest)
    assert request.run_config["ops"]["clouds__first_model"] == {"config": {"quality": 0.7}}
    monkeypatch.setenv("CLOUD_ASSETS_RUN_CONFIGS", str(tmp_path / "absent"))
    with pytest.raises(InvalidRecipe, match="absent"):
        run_configuration("clouds")
