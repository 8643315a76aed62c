"""Where the packages of environments come from, what uv is told about it, and what of it is secret."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote, urlsplit

from ray_ext.errors import EnvironmentFailed

__all__ = ["Sources"]

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_CREDENTIALS = re.compile(r"//\S*@")  # up to the last @ of a word: a password may hold any character
_HIDDEN = "****"

# uv reads a variable for nearly every option. It is given those that say where packages are and how to get there; the
# others (UV_NO_VERIFY_HASHES, UV_SYSTEM_PYTHON, UV_TARGET, ...) would contradict how an environment is built.
_PASSED = frozenset(
    {
        "PATH", "HOME", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS", "NETRC", "SSL_CERT_FILE", "SSL_CERT_DIR",
        "SSL_CLIENT_CERT", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy",
        "all_proxy", "no_proxy", "UV_CONFIG_FILE", "UV_NO_CONFIG", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL",
        "UV_FIND_LINKS", "UV_KEYRING_PROVIDER", "UV_INSECURE_HOST", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS", "UV_OFFLINE",
        "UV_EXCLUDE_NEWER", "UV_CONCURRENT_DOWNLOADS",
    }
)  # fmt: skip
_PASSED_PREFIXES = ("UV_INDEX", "UV_HTTP_")  # UV_INDEX_<NAME>_PASSWORD, UV_HTTP_TIMEOUT, ...
_SECRET_SUFFIXES = ("_USERNAME", "_PASSWORD")

# uv's own would take minutes to give up. Two attempts of 4 s to connect stay below ten seconds.
_PATIENCE = {"UV_HTTP_CONNECT_TIMEOUT": "4", "UV_HTTP_TIMEOUT": "15", "UV_HTTP_RETRIES": "1"}


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where packages come from. Holds no secret, and may be stored and shown.

    ``find_links`` are folders of wheels, looked at beside the index. ``index_url`` takes the place of uv's default
    index; without it uv's own configuration decides (its environment variables, ``uv.toml``). ``${NAME}`` in the URL
    stands for the environment variable NAME, whose value is read when uv is run and written there as it is, not
    percent-encoded. ``is_offline`` lets uv use nothing but ``find_links`` and what it has downloaded before.

    Raises EnvironmentFailed for a URL that is none, or that holds a password or a token as text.
    """

    find_links: tuple[Path, ...] = ()
    index_url: str | None = None
    is_offline: bool = False

    def __post_init__(self) -> None:
        if self.index_url is not None:
            _check_index(self.index_url)

    def uv_options(self) -> list[str]:
        """The options of a uv command; free of secrets, because everybody can read a command line."""
        options = [option for folder in self.find_links for option in ("--find-links", str(folder.absolute()))]
        return [*options, "--offline"] if self.is_offline else options

    def uv_environment(self) -> dict[str, str]:
        """The environment of a uv command, credentials included; raises EnvironmentFailed for a variable not set."""
        passed = {
            name: value for name, value in os.environ.items() if name in _PASSED or name.startswith(_PASSED_PREFIXES)
        }
        if self.index_url is not None:
            values = self._values()
            passed["UV_DEFAULT_INDEX"] = _REFERENCE.sub(lambda match: quote(values[match[1]], safe=""), self.index_url)
        return {**_PATIENCE, **passed}

    def redacted(self, text: str) -> str:
        """A text without the credentials that uv was given."""
        secrets = {value for name, value in os.environ.items() if _is_secret(name)}
        if self.index_url is not None:
            secrets |= set(self._values().values())
        for secret in sorted(secrets - {""}, key=len, reverse=True):
            text = text.replace(secret, _HIDDEN).replace(quote(secret, safe=""), _HIDDEN)
        return _CREDENTIALS.sub(f"//{_HIDDEN}@", text)

    def _values(self) -> dict[str, str]:
        """The values of the variables that the index URL names."""
        names = set(_REFERENCE.findall(self.index_url or ""))
        missing = sorted(name for name in names if name not in os.environ)
        if missing:
            raise EnvironmentFailed(
                f"the index URL {self.index_url} names variables that are not set: {', '.join(missing)}",
                where="the environment of the process that builds",
                fix=f"set {missing[0]} there",
                details={"requirements": [], "cause": f"not set: {', '.join(missing)}"},
            )
        return {name: os.environ[name] for name in names}


def _is_secret(name: str) -> bool:
    return name.startswith("UV_INDEX_") and name.endswith(_SECRET_SUFFIXES)


def _check_index(url: str) -> None:
    shown = _CREDENTIALS.sub(f"//{_HIDDEN}@", url).partition("?")[0]
    try:
        parts = urlsplit(url)
        # Reading the port checks it.
        is_whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole or not url.isprintable() or any(letter in url for letter in " ?#"):
        _refuse(f"the index URL {shown} is none", "write it like https://index.example.org/simple, with nothing after")
    if _REFERENCE.sub("", parts.password or parts.username or ""):
        fix = "put them into environment variables, and write https://${NAME}:${PASSWORD}@index.example.org/simple"
        _refuse(f"the index URL {shown} holds credentials as text", fix)


def _refuse(cause: str, fix: str) -> NoReturn:
    raise EnvironmentFailed(cause, where="the index URL", fix=fix, details={"requirements": [], "cause": cause})
