"""The grammar of permission scopes: one function for each kind of permission, and topics.

Every scope has exactly one spelling, so that granting, comparing and enforcing are comparisons of text.
"""

from __future__ import annotations

import ipaddress
import re

from ray_ext.manifests.grammar import Unfit

__all__ = [
    "check_database",
    "check_endpoint",
    "check_file",
    "check_integration",
    "check_network",
    "check_topic",
    "check_topic_pattern",
]

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?")
_INTEGRATION_SCOPE = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
_TOKEN = re.compile(r"[A-Za-z0-9_-]+")
_PATH_SEGMENT = re.compile(r"[A-Za-z0-9._~-]+")
_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")


def check_file(value: str) -> str:
    """``PATH`` or ``PATH/**``: absolute, without ``.``, ``..``, empty parts or other wildcards."""
    allowed = 'an absolute path, or a path and "/**" for a tree; without "..", ".", "//" and other wildcards'
    path = value.removesuffix("/**") if value.endswith("/**") else value
    parts = path.split("/")
    if path not in ("", "/") and (parts[0] != "" or any(part in ("", ".", "..") for part in parts[1:])):
        raise Unfit(allowed, 'write it like "/srv/repos/**"')
    if value == "" or len(value) > 1024 or any(c in "*?[]\\" or not c.isprintable() for c in path):
        raise Unfit(allowed, 'write it like "/srv/repos/**"')
    return value


def check_network(value: str) -> str:
    """``host:port`` in its one canonical spelling: a lower-case DNS name, or an IP address (RFC 5952)."""
    host, colon, port = value.rpartition(":")
    allowed = "host:port with a lower-case host name or IP address, and a port from 1 to 65535"
    fix = 'write it like "api.github.com:443"'
    if not colon or len(host) > 253:
        raise Unfit(allowed, fix)
    if not (port.isascii() and port.isdigit() and port[0] != "0" and len(port) <= 5 and int(port) <= 65_535):
        raise Unfit(allowed, fix)
    if not host.isascii():
        raise Unfit(allowed, "write an international name in its ASCII form (xn--...)")
    if host.startswith("[") and host.endswith("]"):
        _check_ipv6(host[1:-1], port)
        return value
    labels = host.split(".")
    # A last label of digits (or 0x...) makes resolvers read the whole as an IPv4 number, in several spellings.
    if labels[-1].isdigit() or labels[-1].lower().startswith("0x"):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise Unfit(allowed, 'write an IPv4 address as four decimal numbers, such as "192.0.2.1:443"') from None
    elif not all(_LABEL.fullmatch(label) for label in labels):
        lowered = host.lower().rstrip(".")
        is_repairable = all(_LABEL.fullmatch(label) for label in lowered.split("."))
        raise Unfit(allowed, f'write "{lowered}:{port}"' if is_repairable else fix)
    return value


def _check_ipv6(host: str, port: str) -> None:
    allowed = "an IPv6 address in brackets, lower-case and compressed (RFC 5952), without a zone"
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        raise Unfit(allowed, 'write it like "[2001:db8::1]:443"') from None
    if address.ipv4_mapped is not None:
        raise Unfit(allowed, f'write "{address.ipv4_mapped}:{port}"')
    if str(address) != host or address.scope_id is not None:
        raise Unfit(allowed, f'write "[{str(address).partition("%")[0]}]:{port}"')


def check_database(value: str) -> str:
    """``name:read`` or ``name:write``."""
    name, _, mode = value.partition(":")
    if _NAME.fullmatch(name) and mode in ("read", "write"):
        return value
    raise Unfit("name:read or name:write, the name in lower case", 'write it like "analytics:read"')


def check_integration(value: str) -> str:
    """``name:scope``, a scope of the operator's catalogue for this integration."""
    name, _, scope = value.partition(":")
    if len(value) <= 200 and _NAME.fullmatch(name) and _INTEGRATION_SCOPE.fullmatch(scope):
        return value
    raise Unfit("name:scope in lower case, the scope dotted", 'write it like "github:issues.write"')


def check_topic(value: str) -> str:
    """A dotted topic without wildcards."""
    if len(value) <= 255 and all(_TOKEN.fullmatch(token) for token in value.split(".")):
        return value
    raise Unfit("a dotted topic of letters, digits, _ and -, without wildcards", 'write it like "triage.labelled"')


def check_topic_pattern(value: str) -> str:
    """A dotted topic where ``*`` stands for one token and a last ``**`` for the rest."""
    *first, last = value.split(".")
    is_pattern = all(token == "*" or _TOKEN.fullmatch(token) for token in first)
    if len(value) <= 255 and is_pattern and (last in ("*", "**") or _TOKEN.fullmatch(last)):
        return value
    raise Unfit("a dotted topic; * stands for one whole token, ** at the end for the rest", 'write it like "triage.*"')


def check_endpoint(value: str) -> str:
    """``METHOD /path`` with a literal, canonical path."""
    method, _, path = value.partition(" ")
    allowed = f'METHOD /path; METHOD is one of {", ".join(_METHODS)}; the path without query, "..", "//" and escapes'
    if method not in _METHODS:
        is_known = method.upper() in _METHODS and path.startswith("/")
        raise Unfit(allowed, f'write "{method.upper()} /..."' if is_known else 'write it like "POST /webhooks/github"')
    segments = path.split("/")
    is_canonical = path == "/" or all(_PATH_SEGMENT.fullmatch(s) and s not in (".", "..") for s in segments[1:])
    if len(path) > 512 or segments[0] != "" or len(segments) < 2 or not is_canonical:
        raise Unfit(allowed, 'write it like "POST /webhooks/github"')
    return value
