# SPDX-License-Identifier: Apache-2.0
"""Docker's containers that an agent made: Amazon ECS' or Nomad's.

Each gives a container labels, and a name that is made of the same:

    ECS      `ecs-<family>-<version>-<container>-<random>` (as in the agent's engine/docker_task_engine.go)
    Nomad    `<task>-<allocation>` (as in its drivers/docker/driver.go)

Neither was seen live. Labels are believed where the name has been made of them, since an image can bring labels too.
"""

import re

import msgspec

from tracer.containers.runtime_state.names import ContainerNames, harmless

_TASK = re.compile(r"(?:.*/)?([0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})", re.DOTALL)
_ALLOCATION = re.compile(r"(.+)-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})", re.DOTALL)
_PAUSE = "~internal~ecs~pause"
_SHORT_TASK = 8


class Labels(
    msgspec.Struct,
    rename={
        "task_arn": "com.amazonaws.ecs.task-arn",
        "container_name": "com.amazonaws.ecs.container-name",
        "family": "com.amazonaws.ecs.task-definition-family",
        "version": "com.amazonaws.ecs.task-definition-version",
        "allocation": "com.hashicorp.nomad.alloc_id",
    },
):
    """Those of a container's that agents give."""

    task_arn: str = ""
    container_name: str = ""
    family: str = ""
    version: str = ""
    allocation: str = ""


def names_by_agent(name: str, labels: Labels, image: str | None) -> ContainerNames | None:
    """Of a container of this name; None if no agent made it.

    The task of ECS and the allocation of Nomad are what a pod is. A task is called after its definition and by the
    first digits of its id, as no other on the node is: `web:3-e95a40ef`.
    """
    task = _TASK.fullmatch(labels.task_arn)
    if task is not None and labels.family and name.startswith(f"ecs-{labels.family}-{labels.version}-"):
        is_sandbox = labels.container_name == _PAUSE
        return ContainerNames(
            runtime="docker",
            is_sandbox=is_sandbox,
            container_name=None if is_sandbox else harmless(labels.container_name),
            pod_name=harmless(f"{labels.family}:{labels.version}-{task[1][:_SHORT_TASK]}"),
            pod_uid=task[1],
            image=image,
        )
    allocation = _ALLOCATION.fullmatch(name)
    if allocation is not None and allocation[2] == labels.allocation:
        return ContainerNames(
            runtime="docker", container_name=harmless(allocation[1]), pod_uid=allocation[2], image=image
        )
    return None
