# SPDX-License-Identifier: Apache-2.0
"""`python -m confd`."""

import sys

from confd.cli import main

if __name__ == "__main__":
    sys.exit(main())
