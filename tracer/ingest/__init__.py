# SPDX-License-Identifier: Apache-2.0
"""What applications measure themselves: their messages on a socket of the run, and who sent them."""
