# SPDX-License-Identifier: Apache-2.0
"""vulcand's route language: `parse` reads an expression, `match` finds the one for a request."""
