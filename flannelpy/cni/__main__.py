# SPDX-License-Identifier: Apache-2.0
"""python -m flannelpy.cni."""

import sys

from flannelpy.cni.main import main

sys.exit(main())
