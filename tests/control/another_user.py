"""``python -m tests.control.another_user``: what a user who owns nothing can do with files, folders and sockets.

Reads the paths to try, one a line, from standard input, and writes those that could be opened, listed, written to or
connected to, one a line. Exits with 3 where the user cannot be changed.
"""

from __future__ import annotations

import os
import socket
import stat
import sys

#: Nobody, by custom.
UID = 65534


def main() -> int:
    """See the module."""
    paths = [line.rstrip("\n") for line in sys.stdin]
    kinds = {path: os.lstat(path).st_mode for path in paths}
    try:
        os.setgroups([])
        os.setgid(UID)
        os.setuid(UID)
    except PermissionError:
        return 3
    for path, mode in kinds.items():
        if _can(path, mode):
            print(path)
    return 0


def _can(path: str, mode: int) -> bool:
    try:
        if stat.S_ISSOCK(mode):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.settimeout(5.0)
                # From its folder: its whole path may be too long for an address.
                os.chdir(os.path.dirname(path))
                client.connect(os.path.basename(path))
        elif stat.S_ISDIR(mode):
            os.listdir(path)
        else:
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except PermissionError:
        return False
    except FileNotFoundError:
        # Gone since; what is there and out of reach is a PermissionError.
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
