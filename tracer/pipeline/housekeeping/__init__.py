# SPDX-License-Identifier: Apache-2.0
"""What the tracer does for itself about once a second; it is no part of turning records into rows."""
