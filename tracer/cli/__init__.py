# SPDX-License-Identifier: Apache-2.0
"""One module a subcommand: arguments, messages and exit codes; no logic."""
