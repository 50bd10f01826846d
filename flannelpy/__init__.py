# SPDX-License-Identifier: Apache-2.0
"""Overlay networking: leases each host a subnet and programs routes to the others."""
