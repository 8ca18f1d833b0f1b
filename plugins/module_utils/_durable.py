# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put files where they last: a killed run, or a power failure, leaves the old state or the new one.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._run_log import step


def sync(path: str) -> None:
    """Make the content of a file, or the names in a folder, survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: str) -> None:
    """Make a folder, and those above it, that everyone can read, whatever the umask."""
    if not os.path.isdir(path):
        make_folder(os.path.dirname(path))
        os.mkdir(path)
        os.chmod(path, 0o755)


def switch(link: str, target: str) -> None:
    """Let the link lead to the target, with no moment at which it is missing."""
    make_folder(os.path.dirname(link))
    # A fixed name, so that what a killed run left here is replaced by the next.
    new = f"{link}.kubewright-new"
    with step("write", link):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        os.symlink(target, new)
        os.replace(new, link)
        sync(os.path.dirname(link))


def is_full(error: OSError) -> bool:
    """Tell whether there was no room: something that the user can make."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def installing(what: str, home: str) -> Iterator[None]:
    """Turn what the operating system refuses into an error that names the file, the reason and the remedy."""
    try:
        yield
    except OSError as error:
        raise KubewrightError(
            f"{what} cannot be installed",
            where=str(error.filename or home),
            why=error.strerror or str(error),
            remedy="Free some space there; nothing half-made was left" if is_full(error) else "",
        ) from error
