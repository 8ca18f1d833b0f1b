# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module whose arguments may hold secrets in any place, such as the content of files."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule


class QuietModule(AnsibleModule):
    """Keeps its arguments out of the system log of the host.

    Its constructor's own ``no_log`` does not: what the task says takes its place before the arguments are logged. And
    ``no_log`` in the argument specification would hide every line of a diff too.
    """

    def _log_invocation(self) -> None:
        pass
