"""Steps as jobs of a Ray cluster: what dagster-ray does, with what this project's steps need besides.

A step starts where the run was started (the same folder on every node, since Dagster's and the data's paths may be
relative), with the run's `PIANO_` variables. `RAY_ADDRESS` says where the cluster is.
"""

import os
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dagster._core.events import DagsterEvent
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.step_delegating import CheckStepHealthResult, StepDelegatingExecutor, StepHandlerContext
from dagster_ray.core.executor import RayStepHandler
from ray.job_submission import JobErrorType, JobSubmissionClient

from piano_assets.defs.data import PianoData
from piano_assets.defs.heartbeat import beating

HEALTH_S = 5
"""Seconds between looks at the jobs: how soon a step whose node died is started again, once Ray has noticed."""


class FromHere(JobSubmissionClient):
    """A client whose jobs start in this process's folder."""

    def submit_job(self, *, entrypoint: str, **more: Any) -> str:
        return super().submit_job(entrypoint=f"cd {shlex.quote(os.getcwd())} && {entrypoint}", **more)


class PatientHandler(RayStepHandler):
    """A step may wait for a free node as long as it takes: Ray gives up such a job after a quarter of an hour."""

    def __init__(self, client: JobSubmissionClient) -> None:
        self.asked_again: Counter[str] = Counter()
        unset = {"num_cpus": None, "num_gpus": None, "memory": None, "resources": None}
        super().__init__(client=client, env_vars=None, runtime_env={"env_vars": environment()}, **unset)

    def _get_ray_job_submission_id(self, step_handler_context: StepHandlerContext) -> str:
        name = super()._get_ray_job_submission_id(step_handler_context)
        return f"{name}-again-{self.asked_again[name]}" if self.asked_again[name] else name

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        found = super().check_step_health(step_handler_context)
        if found.is_healthy:
            return found
        job = self.client.get_job_info(self._get_ray_job_submission_id(step_handler_context))
        if job.error_type != JobErrorType.JOB_SUPERVISOR_ACTOR_START_TIMEOUT:
            return found
        self.asked_again[super()._get_ray_job_submission_id(step_handler_context)] += 1
        list(self.launch_step(step_handler_context))
        return CheckStepHealthResult.healthy()


class RayExecutor(StepDelegatingExecutor):
    """Runs steps as Ray jobs; while they wait for a node, the executor itself shows that the run lives."""

    def __init__(self, at_once: int) -> None:
        super().__init__(
            PatientHandler(FromHere()),
            RetryMode.ENABLED,
            check_step_health_interval_seconds=HEALTH_S,
            max_concurrent=at_once,
            should_verify_step=True,
        )

    def execute(self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan) -> Iterator[DagsterEvent]:
        run = plan_context.dagster_run
        resources: Any = run.run_config.get("resources", {})
        given = resources.get("piano", {}).get("config", {})
        with beating(PianoData(**given).store(), run.run_id):
            yield from super().execute(plan_context, execution_plan)


def environment() -> dict[str, str]:
    """What a step's process has besides its node's environment: this one's settings, and this Python's commands."""
    ours = {k: v for k, v in os.environ.items() if k.startswith(("PIANO_", "PERCEPIANO_")) or k == "PYTHONPATH"}
    return {**ours, "PATH": f"{Path(sys.executable).parent}:${{PATH}}"}
