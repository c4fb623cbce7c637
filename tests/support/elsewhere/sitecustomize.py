"""Python as it is without POSIX: its own modules missing, processes spawned. Read at start where it is on the path."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

POSIX_MODULES = {"crypt", "fcntl", "grp", "nis", "posix", "pty", "pwd", "resource", "spwd", "syslog", "termios", "tty"}
POSIX_FUNCTIONS = (
    *("fork", "forkpty", "killpg", "setsid", "getpgid", "geteuid", "getgid", "getegid", "getgroups"),
    *("mkfifo", "mknod", "chown", "fchown", "fchmod", "chroot", "statvfs", "nice", "getloadavg", "sysconf"),
    *("sched_getaffinity", "O_DIRECTORY", "O_NOFOLLOW"),
)
POSIX_SIGNALS = ("SIGALRM", "SIGQUIT", "alarm", "setitimer")


class MissingHere(MetaPathFinder):
    """Refuses the modules that only POSIX has."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Raise for those; leave all others to the finders behind this one."""
        if fullname in POSIX_MODULES:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return None


for module in POSIX_MODULES - {"posix"}:  # 'os' itself stands on it here
    sys.modules.pop(module, None)
sys.meta_path.insert(0, MissingHere())
for holder, names in ((os, POSIX_FUNCTIONS), (signal, POSIX_SIGNALS)):
    for name in names:
        if hasattr(holder, name):
            delattr(holder, name)
multiprocessing.set_start_method("spawn")
