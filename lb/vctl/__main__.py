# SPDX-License-Identifier: Apache-2.0
"""`python -m lb.vctl` is vctl."""

import sys

from lb.vctl.main import main

sys.exit(main())
