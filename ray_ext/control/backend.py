"""What the application asks of the runtime; the control actor fulfils it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ray_ext.control.commands import Command, PlanView
from ray_ext.control.views import ControlView, ExtensionView, News, OperationView, ReleaseView, StatusView
from ray_ext.store.records import AuditEntry

__all__ = ["Backend"]


class Backend(Protocol):
    """Every method raises a :class:`ray_ext.errors.RayExtError`, RuntimeUnreachable where the registry stays away.

    Methods that take an ``operation`` id are applied once for each id, however often they are called with it.
    """

    def control(self) -> ControlView:
        """The control actor itself; asks nobody."""

    async def status(self) -> StatusView:
        """All that is known of the runtime; answers in a few seconds also when the registry does not."""

    async def list_extensions(self) -> list[ExtensionView]:
        """Every installation, by id."""

    async def show(self, extension: str) -> ExtensionView:
        """One installation with its instance's figures; raises ExtensionNotFound."""

    async def plan(self, command: Command) -> PlanView:
        """What the command would do; changes nothing."""

    async def perform(self, command: Command, operation: str) -> ExtensionView | None:
        """Carry the command out; the extension, or None when it is not installed any more. Goes on if not awaited."""

    async def operation(self, operation: str) -> OperationView | None:
        """An operation that has begun, or has ended; None for one that the registry does not know (any more)."""

    async def operations(self, limit: int) -> list[OperationView]:
        """The last operations, the newest first."""

    async def news(self, operation: str, after: str, wait_s: float) -> tuple[list[News], bool]:
        """What an operation has told since the news with the id ``after`` (empty: from its beginning), as soon as there
        is any, or after ``wait_s`` seconds; and whether the operation is over."""

    async def cancel(self, operation: str) -> bool:
        """End an operation at work, undoing what it did; False where it is not at work. It ends as failed, with
        OperationCancelled."""

    async def releases(self, extension: str | None) -> list[ReleaseView]:
        """The known releases."""

    async def register(self, wheel: bytes, source: str, actor: str, operation: str) -> ReleaseView:
        """Make a package's release known without installing it."""

    async def yank(self, extension: str, version: str, reason: str | None, actor: str, operation: str) -> None:
        """Keep plans from choosing a release, and why; None takes that back."""

    async def forget(self, extension: str, version: str, actor: str, operation: str) -> None:
        """Know a release no longer."""

    async def audit(self, extension: str | None, limit: int) -> list[AuditEntry]:
        """Who did what, the newest first."""

    async def collect(self, actor: str, operation: str) -> int:
        """Remove what nothing needs; the bytes freed."""

    async def call(
        self, extension: str, method: str, args: Sequence[Any], kwargs: Mapping[str, Any], timeout_s: float | None
    ) -> Any:
        """Call an exported method; cancelling this cancels the call."""
