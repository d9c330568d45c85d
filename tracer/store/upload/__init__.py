# SPDX-License-Identifier: Apache-2.0
"""Closed files to an object store: an hour's rows of a table as one file, and what says that they are there."""
