# SPDX-License-Identifier: Apache-2.0
"""How much neighbours slow a container down: rows of a recording, the model fitted to them, and when and why else."""
