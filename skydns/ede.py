# SPDX-License-Identifier: Apache-2.0
"""Why a reply is not what was wished for: the extended DNS errors (RFC 8914) that we send."""

from __future__ import annotations

from typing import Final

OTHER: Final = 0
STALE: Final = 3
BLOCKED: Final = 15
FILTERED: Final = 17
PROHIBITED: Final = 18
NOT_AUTHORITATIVE: Final = 20
NO_SERVER: Final = 22
NETWORK: Final = 23
