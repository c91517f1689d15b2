# SPDX-License-Identifier: BSD-2-Clause
"""The commands in Python: bench, latency and pressure have a folder each; common has what they
share. tools/common/python-command.in starts them."""
