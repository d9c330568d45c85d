# SPDX-License-Identifier: Apache-2.0
"""Records to windows to labelled rows: the threads and queues that join the rooms."""
