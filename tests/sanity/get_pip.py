# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stands in for get-pip.py, which ansible-test fetches from a server of its own to begin an environment with.

Python brings a pip to begin with, and that one gets the wanted version from the package index.
"""

from __future__ import annotations

import ensurepip
import subprocess
import sys

# Words of get-pip.py that pip itself does not know.
OWN = ("--no-setuptools", "--no-wheel")

ensurepip.bootstrap()
words = [word for word in sys.argv[1:] if word not in OWN]
sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", *words]))
