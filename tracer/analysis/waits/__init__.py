# SPDX-License-Identifier: Apache-2.0
"""Where the time of containers went: who waited behind whom for a CPU, as it was measured."""
