# SPDX-License-Identifier: BSD-2-Clause
"""The commands that are written in Python: bench, latency and pressure, a folder each, and common for
what they share. tools/common/python-command.in starts them."""
