"""What the command line prints, and what it says of an operation that it lost sight of."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_ext.cli.exits import Interrupted
from ray_ext.cli.output import printable, size_text
from ray_ext.cli.progress import Watch
from ray_ext.control.addresses import HomeAddress
from ray_ext.control.remote import RemoteRuntime
from ray_ext.control.transport import Transport
from ray_ext.errors import RuntimeUnreachable
from ray_ext.home import Home

OPERATION = "0123456789abcdef"


@pytest.fixture
def gone(tmp_path: Path) -> RemoteRuntime:
    """A runtime that is not up any more."""
    return RemoteRuntime(Transport(HomeAddress(Home(tmp_path / "home"))))


def test_control_characters_are_escaped() -> None:
    assert printable("\x1b[2Ja\tb\r\n\x07\u202e\u9b8e") == r"\x1b[2Ja\tb\r\n\x07\u202e" + "\u9b8e"
    assert printable("one\ntwo\x00", is_one_line=False) == "one\ntwo\\x00"
    assert printable("plain é ✓") == "plain é ✓"


def test_sizes_are_for_people() -> None:
    assert [size_text(each) for each in (0, 1023, 1024, 1536 << 10, 3 << 30)] == [
        "0 B",
        "1023 B",
        "1 KiB",
        "1.5 MiB",
        "3 GiB",
    ]


def watch(runtime: RemoteRuntime, *, is_begun: bool, is_interrupted: bool = False) -> None:
    with Watch(runtime, "Installing") as watching:
        if is_begun:
            watching.begin(OPERATION)
        if is_interrupted:
            raise KeyboardInterrupt
        runtime.show("anything")


@pytest.mark.parametrize("is_interrupted", [False, True])
def test_a_lost_operation_says_how_to_find_out(gone: RemoteRuntime, is_interrupted: bool) -> None:
    with pytest.raises(RuntimeUnreachable) as caught:
        watch(gone, is_begun=True, is_interrupted=is_interrupted)
    assert f"ray-ext operations wait {OPERATION}" in caught.value.fix
    assert caught.value.details["operation"] == OPERATION


def test_a_runtime_that_is_lost_before_anything_began_is_just_that(gone: RemoteRuntime) -> None:
    with pytest.raises(RuntimeUnreachable) as caught:
        watch(gone, is_begun=False)
    assert "operations wait" not in caught.value.fix


def test_an_interruption_before_anything_began_says_so(gone: RemoteRuntime) -> None:
    with pytest.raises(Interrupted) as caught:
        watch(gone, is_begun=False, is_interrupted=True)
    assert caught.value.what == "Interrupted: nothing was begun."
