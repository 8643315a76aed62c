"""Tokens: secrets of this state home, made once, in files that their owner alone can read."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

__all__ = ["secret_in"]


def secret_in(path: Path) -> str:
    """The secret in this file, 64 hexadecimal digits; made where there is none yet.

    The folder exists, and is private. Of several who make it at once, all find the first one's.
    """
    with suppress(FileNotFoundError):
        return _read(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        # Whole or not at all, and never in place of another's.
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink()
    return _read(path)


def _read(path: Path) -> str:
    return path.read_text().strip()
