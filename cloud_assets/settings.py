"""Every ``CLOUD_ASSETS_*`` environment variable: its name, meaning and default."""

import difflib
import os
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ByteSize, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from cloud_assets.errors import InvalidRecipe

PREFIX: Final = "CLOUD_ASSETS_"
RESOURCES_TAG: Final = "dagster-ray/config"
"""Tag by which Ray places a step, or a run with all its steps: :class:`StepResources` in JSON."""
_CRONS_OF_TASKS = (f"{PREFIX}RETRAINING_CRON_", f"{PREFIX}EVALUATION_CRON_")


def _folder(path: Path) -> Path:
    return path.expanduser().absolute()


def _existing_folder(path: Path) -> Path:
    if not path.expanduser().is_dir():
        raise ValueError(f"{path} is no folder; put <job>.yaml files there, or unset it")
    return _folder(path)


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{name} is no time zone; give one such as Europe/Berlin") from error
    return name


class StepResources(BaseModel, frozen=True, extra="forbid"):
    """What a step needs of one node of a Ray cluster, which starts it where that much is free."""

    num_cpus: float = Field(1, gt=0)  # without any, Ray starts what it is given on the head node and does not count it
    num_gpus: float = Field(0, ge=0)
    memory: ByteSize = Field(ByteSize(0), ge=0)


def _resources(given: str | StepResources | None) -> StepResources | None:
    if given is None or isinstance(given, StepResources):
        return given
    try:
        return StepResources.model_validate(dict(pair.split("=") for pair in given.split(",")))
    except ValueError:
        raise ValueError(f"{given} says no resources; give them as num_cpus=8,num_gpus=1,memory=32GB") from None


Resources = Annotated[StepResources, NoDecode, BeforeValidator(_resources)]


class Settings(BaseSettings):
    """What operators set in the environment: the variable of a field is ``CLOUD_ASSETS_`` and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True)

    data: str | None = Field(
        None, description="Folder of the raw data sets, or its address in an object store. Unset: the embedded sample."
    )
    home: str = Field("data", description="Where results go: a folder or the address of an object store.")
    work: Annotated[Path, AfterValidator(_folder)] | None = Field(
        None,
        description="Folder of checkpoints, caches and local copies where results go to an object store: needed then, "
        "the same for all processes. Where results go to a folder, these lie there.",
    )
    inbox: Annotated[Path, AfterValidator(_folder)] | None = Field(
        None, description="Folder that scenes are dropped into. Unset: inbox/ among the results."
    )
    tasks: Annotated[Path, AfterValidator(_folder)] | None = Field(
        None, description="Folder of tasks of one's own, one YAML file each. Unset: tasks/ among the results."
    )
    run_configs: Annotated[Path, AfterValidator(_existing_folder)] | None = Field(
        None, description="Folder whose <job>.yaml configures the runs that schedules and sensors start."
    )
    timezone: Annotated[str, AfterValidator(_zone)] = Field("UTC", description="Time zone of all schedules.")
    retraining_cron: str | None = Field(
        None,
        description="When tasks are trained again; followed by _<TASK> for one task. Unset: at three, each task on a "
        "day of the week of its own.",
    )
    evaluation_cron: str | None = Field(
        None, description="When champions are evaluated; followed by _<TASK> for one task. Unset: every night at one."
    )
    stale_days: int = Field(30, ge=0, description="Days back that scenes are made again for a new champion; 0: none.")
    keep_trainings: int = Field(3, ge=1, description="How many workspaces of finished trainings a variant keeps.")
    approval: Annotated[Literal["automatic", "manual"], BeforeValidator(str.lower)] = Field(
        "automatic", description="manual: every task's champions wait for a person's approval."
    )
    notify_command: str | None = Field(
        None, description="Command that gets a JSON object about each failed run on its standard input."
    )
    notify_webhook: SecretStr | None = Field(
        None, description="http(s) address that a JSON object about each failed run is posted to; never shown."
    )
    executor: Literal["in_process", "multiprocess", "ray"] = Field(
        "in_process",
        description="multiprocess: every step is a process of its own, as many at once as there are cores. ray: every "
        "step is a Ray job of its own. The same for all processes of a cluster.",
    )
    training_resources: Resources = Field(
        StepResources(),
        description="What a training, a study or an evaluation needs of a Ray node, such as "
        "`num_cpus=8,num_gpus=1,memory=32GB`. Unset, and for other steps: one CPU.",
    )
    scene_resources: Resources = Field(
        StepResources(), description="What the products of scenes need of a Ray node, in the same form."
    )
    rank_resources: Annotated[StepResources | None, NoDecode, BeforeValidator(_resources)] = Field(
        None,
        description="What each rank of a training on several devices needs of a Ray node, in the same form: Ray Train "
        "then spreads the ranks over the cluster. Unset: they are processes of the node that the step works on.",
    )
    scenes_a_run: int = Field(
        50, ge=1, description="How many scenes a run of a backfill or sensor makes, with one load of the models."
    )
    dagster_url: str = Field("http://127.0.0.1:3000", description="Where people reach the Dagster user interface.")

    def cron(self, name: Literal["retraining_cron", "evaluation_cron"], task: str, default: str) -> str:
        """When something is done for a task: as set for the task, else as set for all tasks, else the default."""
        return os.environ.get(f"{PREFIX}{name}_{task}".upper()) or getattr(self, name) or default


def settings() -> Settings:
    """The settings as the environment is now; warns of ``CLOUD_ASSETS_*`` variables that there are not.

    Raises:
        InvalidRecipe: A variable has a value that makes no sense.
    """
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known and not name.startswith(_CRONS_OF_TASKS):
            nearest = difflib.get_close_matches(name, known, 1, 0)[0]
            warnings.warn(f"{name} is set, but means nothing to Cloud Assets. Is {nearest} meant?", stacklevel=2)
    try:
        return _settings_of(tuple(os.environ.items()), Path.cwd())
    except ValidationError as error:
        raise InvalidRecipe(
            "\n".join(
                f"{PREFIX}{str(problem['loc'][0]).upper()}: {problem['msg'].removeprefix('Value error, ')}."
                for problem in error.errors(include_input=False)
            )
        ) from None


@lru_cache(maxsize=1)
def _settings_of(_environment: tuple[tuple[str, str], ...], _folder: Path) -> Settings:
    return Settings()  # milliseconds, and the definitions ask for them ninety times
