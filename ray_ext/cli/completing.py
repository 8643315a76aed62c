"""What a shell completes of a runtime's own names: ids of extensions, their methods, versions of releases.

Whoever presses the tab key waits: the runtime gets :data:`PATIENCE_S` to answer, and where none is up, or anything is
wrong, there is nothing to complete and nothing to say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from ray_ext.control.remote import RemoteRuntime

__all__ = ["EXTENSION", "METHOD", "PATIENCE_S", "VERSION", "ExtensionId", "MethodName", "ReleaseVersion"]

#: With the start of the process, 0.1 s, this stays below the half second at which a shell seems to hang.
PATIENCE_S = 0.35

Item = tuple[str, str]
"""A word, and what is said of it where the shell shows that."""


class _Name(click.ParamType[str]):
    """A text as it is given; whether there is such a thing, the runtime says."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        given = str(ctx.params.get("extension") or "")
        found = _in_time(lambda runtime: self.items(runtime, given))
        return [CompletionItem(word, help=said) for word, said in found if word.startswith(incomplete)]

    def items(self, runtime: RemoteRuntime, extension: str) -> list[Item]:
        """All that it could be, for the extension that the command line names before it."""
        raise NotImplementedError


class ExtensionId(_Name):
    """The id of an installed extension."""

    name = "extension"

    def items(self, runtime: RemoteRuntime, extension: str) -> list[Item]:
        """All of them."""
        return [(each.id, f"{each.version} {each.state}") for each in runtime.list()]


class MethodName(_Name):
    """A method that the extension before it exports."""

    name = "method"

    def items(self, runtime: RemoteRuntime, extension: str) -> list[Item]:
        """Those of that extension."""
        return [item for each in runtime.list() if each.id == extension for item in sorted(each.methods.items())]


class ReleaseVersion(_Name):
    """A version of the extension before it that is known."""

    name = "version"

    def items(self, runtime: RemoteRuntime, extension: str) -> list[Item]:
        """Those of that extension."""
        return [(each.version, each.source) for each in runtime.releases(extension or None)]


EXTENSION = ExtensionId()
METHOD = MethodName()
VERSION = ReleaseVersion()


def _in_time(ask: Callable[[RemoteRuntime], Sequence[Item]]) -> list[Item]:
    """What the runtime answers; nothing where it does not, or not in time."""
    import threading

    found: list[Item] = []

    def work() -> None:
        try:
            from ray_ext.control.remote import remote_runtime

            with remote_runtime(patience_s=PATIENCE_S) as runtime:
                found.extend(ask(runtime))
        except Exception:  # noqa: BLE001 - a shell's prompt is no place for errors; the verb itself reports them
            return

    thread = threading.Thread(target=work, name="completing", daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    return [] if thread.is_alive() else found
