# SPDX-License-Identifier: Apache-2.0
"""What is known of a run while it goes on: its running totals, and the socket on which others ask for them.

Nothing here is in the way of the rows: a sink takes them and adds them up, and who asks gets what there is.
"""
