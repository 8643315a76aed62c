"""Where an event loop's calls to one extension go: onto the channel of the current route, or into a queue for it."""

from __future__ import annotations

import asyncio
import weakref

import ray

from ray_ext.calling.call import CallFuture
from ray_ext.calling.channel import ClientChannel
from ray_ext.calling.registry_client import registry_client
from ray_ext.calling.routebook import route_book
from ray_ext.errors import ExtensionCrashed, RayExtError

__all__ = ["caller_for"]

#: How long one question for a route may wait for an instance that is starting, in seconds.
_ROUTE_WAIT_S = 30.0


class Caller:
    """Belongs to one event loop; follows the routes of one extension."""

    def __init__(self, loop: asyncio.AbstractEventLoop, namespace: str, extension: str) -> None:
        self._loop = loop
        self._extension = extension
        self._registry = registry_client(namespace)
        self._book = route_book(namespace)
        self._channel: ClientChannel | None = None
        self._waiting: list[CallFuture] = []
        self._left = 0
        self._finding: asyncio.Task[None] | None = None

    def send(self, call: CallFuture) -> None:
        """Put the call on its way."""
        channel = self._channel
        target = self._book.get(self._extension)
        if (
            channel is not None
            and not channel.is_gone
            and (target is None or target.route.generation <= channel.route.generation)
        ):
            channel.add(call)
            return
        if target is not None and target.route.generation > self._left:
            self._channel = channel = ClientChannel(self._loop, target, self._take_back)
            channel.add(call)
            return
        self._waiting.append(call)
        self._find_route()

    def _take_back(self, generation: int, calls: list[CallFuture]) -> None:
        """Calls that did not run on this generation: they go to a later one."""
        self._left = max(self._left, generation)
        self._book.forget(self._extension, generation)
        self._waiting += calls
        if self._waiting:
            self._find_route()

    def _find_route(self) -> None:
        if self._finding is None:
            self._finding = self._loop.create_task(self._find())

    async def _find(self) -> None:
        failure: BaseException | None = None
        try:
            route = await self._registry.call_async("route", self._extension, self._left, _ROUTE_WAIT_S)
            try:
                # Asking for an actor by name blocks on Ray's control store.
                await self._loop.run_in_executor(None, self._book.learn, route)
            except ValueError:
                # The host is gone, and the registry has not noticed yet. Nothing was sent: a later one takes it.
                self._left = max(self._left, route.generation)
        except ray.exceptions.TaskCancelledError:
            # Ray cancels a question along with the task that happened to send it; whoever else waits asks again.
            pass
        except RayExtError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - whatever it was, every waiting caller must hear of it
            failure = ExtensionCrashed(f"no route to {self._extension}: {type(error).__name__}: {error}")
        except asyncio.CancelledError:
            failure = asyncio.CancelledError()
            raise
        finally:
            self._finding = None
            waiting, self._waiting = self._waiting, []
            for call in waiting:
                if call.done():
                    continue
                if isinstance(failure, Exception):
                    call.fail(failure)
                elif failure is not None:
                    call.cancel()
                else:
                    self.send(call)


_callers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, str], Caller]] = (
    weakref.WeakKeyDictionary()
)


def caller_for(loop: asyncio.AbstractEventLoop, namespace: str, extension: str) -> Caller:
    """The running loop's caller of an extension."""
    callers = _callers.get(loop)
    if callers is None:
        callers = _callers[loop] = {}
    key = (namespace, extension)
    caller = callers.get(key)
    if caller is None:
        caller = callers[key] = Caller(loop, namespace, extension)
    return caller


def forget_callers(namespace: str) -> None:
    """Drop the callers of a namespace, because the Ray connection ends."""
    for callers in _callers.values():
        for key in [key for key in callers if key[0] == namespace]:
            del callers[key]
