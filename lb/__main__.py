# SPDX-License-Identifier: Apache-2.0
"""`python -m lb` is vulcand."""

import sys

from lb.cli import main

sys.exit(main())
