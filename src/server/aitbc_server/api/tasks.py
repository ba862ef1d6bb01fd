"""What jobs ask of their models beside generating, and what miners say that their models do."""

from __future__ import annotations

from collections.abc import Sequence

from aitbc.v1 import jobs_pb2, work_pb2
from aitbc_server.api.convert import TASK_FROM_PROTO
from aitbc_server.dispatch.census import Census
from aitbc_server.domain.errors import InvalidArgument, TaskNotServed
from aitbc_server.domain.jobs import NewJob
from aitbc_server.domain.tasks import ModelInfo, Task, lane_of


def task_of(request: jobs_pb2.SubmitJobRequest) -> Task:
    """Returns what a job asks of its model."""
    return TASK_FROM_PROTO.get(request.task, Task.GENERATE)


def check_served(jobs: Sequence[NewJob], census: Census) -> None:
    """Raises TaskNotServed for the first job that asks what none of its model's miners does.

    One of a model without any miner waits for one.
    """
    for place, job in enumerate(jobs):
        if census.takes(lane_of(job.model, job.task)) or not (tasks := census.tasks(job.model)):
            continue
        field = "task" if len(jobs) == 1 else f"jobs[{place}].task"
        takes = " and ".join([", ".join(tasks[:-1]), tasks[-1]] if tasks[1:] else tasks)
        problem = f"the model {job.model} does not {job.task}: its miners {takes}"
        raise TaskNotServed(field, problem)


def infos_of(hello: work_pb2.Hello) -> dict[str, ModelInfo]:
    """Returns what a miner says of its models. Raises InvalidArgument for others."""
    served, infos = set(hello.models), {}
    for info in hello.model_infos:
        if info.model not in served:
            raise InvalidArgument("model_infos", "must name models of `models`")
        said = {TASK_FROM_PROTO.get(number, Task.GENERATE) for number in info.tasks}
        infos[info.model] = ModelInfo(
            tasks=tuple(task for task in Task if task in said) or (Task.GENERATE,),
            max_model_len=info.max_model_len if info.HasField("max_model_len") else None,
        )
    return infos
