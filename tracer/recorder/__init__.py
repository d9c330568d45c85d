# SPDX-License-Identifier: Apache-2.0
"""The last minutes of all tables in memory, and the rules that say when they are written."""
