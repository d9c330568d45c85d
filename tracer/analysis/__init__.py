# SPDX-License-Identifier: Apache-2.0
"""Questions on stored results. Knows only the tables."""
