# SPDX-License-Identifier: BSD-2-Clause
"""sluice-prof: heap profiles in other forms."""
