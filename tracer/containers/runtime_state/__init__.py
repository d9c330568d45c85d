# SPDX-License-Identifier: Apache-2.0
"""Names of containers and pods from what the runtimes keep on disk: no API, no socket, no daemon asked."""

from tracer.containers.runtime_state.lookup import RuntimeState, state_directory
from tracer.containers.runtime_state.names import ContainerNames
from tracer.containers.runtime_state.reader import Found, Record

__all__ = ["ContainerNames", "Found", "Record", "RuntimeState", "state_directory"]
