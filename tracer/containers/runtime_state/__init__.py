# SPDX-License-Identifier: Apache-2.0
"""Names of containers and pods from what the runtimes keep on disk: no API, no socket, no daemon asked."""

from tracer.containers.runtime_state.lookup import RuntimeState
from tracer.containers.runtime_state.names import ContainerNames, with_names

__all__ = ["ContainerNames", "RuntimeState", "with_names"]
