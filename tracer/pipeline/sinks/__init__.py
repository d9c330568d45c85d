# SPDX-License-Identifier: Apache-2.0
"""Where labelled rows go: each sink behind a bounded queue of its own, or none where it keeps only the last rows."""
