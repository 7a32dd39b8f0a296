"""The queue of a Ray cluster's runs: each asks for what its steps need. ``deploy/dagster.cluster.yaml`` names it."""

import json

import dagster as dg

from cloud_assets.orchestration.jobs import SCENES_TAG, TASK_TAG
from cloud_assets.orchestration.scene_assets import GROUP
from cloud_assets.settings import RESOURCES_TAG, StepResources, settings


class StepSizedRuns(dg.QueuedRunCoordinator):
    """Notes on a run, as it is queued, the CPUs, GPUs and memory of the most demanding of its steps, and whose it is.

    ``RayRunLauncher`` asks Ray for them, and the queue counts the runs of a task and of scenes, whatever started a run:
    a job, a backfill, or a click on some assets. A tag that the run has already wins.
    """

    def submit_run(self, context: dg.SubmitRunContext) -> dg.DagsterRun:
        """Queues the run."""
        run = context.dagster_run
        tags = {}
        if RESOURCES_TAG not in run.tags:
            tags[RESOURCES_TAG] = json.dumps(self._needed(run))
        groups = {key.path[0] for key in run.asset_selection or ()}
        if len(groups) == 1 and not {TASK_TAG, SCENES_TAG} & run.tags.keys():
            (group,) = groups
            tags[SCENES_TAG if group == GROUP else TASK_TAG] = group
        self._instance.add_run_tags(run.run_id, tags)
        return super().submit_run(context)

    def _needed(self, run: dg.DagsterRun) -> dict[str, float]:
        if settings().executor == "ray":
            # Each step is a job that asks for its own; CPUs that its run held could be the ones that it waits for.
            return {"num_cpus": 0.01}
        plan = self._instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id or "")
        tags = [step.tags or {} for step in plan.steps if step.key in plan.step_keys_to_execute]
        needs = [json.loads(tag.get(RESOURCES_TAG, "{}")) for tag in tags]
        return {name: max(one.get(name) or 0 for one in needs) for name in StepResources.model_fields}
