# SPDX-License-Identifier: Apache-2.0
"""`python -m flannelpy` is flanneld."""

import sys

from flannelpy.cli import main

sys.exit(main())
