# SPDX-License-Identifier: Apache-2.0
"""Two recordings held against each other."""
