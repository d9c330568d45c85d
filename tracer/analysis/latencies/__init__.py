# SPDX-License-Identifier: Apache-2.0
"""A service's own latencies beside what it waited: where its slowest requests were slower."""
