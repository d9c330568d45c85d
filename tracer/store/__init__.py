# SPDX-License-Identifier: Apache-2.0
"""Schemas, Parquet files, rotation, retention and the run's manifest."""
