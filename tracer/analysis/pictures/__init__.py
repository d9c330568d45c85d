# SPDX-License-Identifier: Apache-2.0
"""Pictures of a recording: what they show (plain arrays), as image files, and on a page of their own.

The modules that read tables know nothing of drawing; `figures` draws for files, `page` and its script for a browser.
"""
