# SPDX-License-Identifier: Apache-2.0
"""`python -m fairlead`: the command `fairlead`."""

import sys

from fairlead.cli import main

sys.exit(main())
