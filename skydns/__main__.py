# SPDX-License-Identifier: Apache-2.0
"""`python -m skydns`."""

import sys

from skydns.cli import main

sys.exit(main())
