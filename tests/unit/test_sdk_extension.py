from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from ray_ext import Extension, exported
from ray_ext.errors import ArgumentMismatch, LoadFailed, NotExported
from ray_ext.sdk.extension import Context, bind
from ray_ext.sdk.methods import MethodTable
from ray_ext.wire import values
from ray_ext.wire.messages import Metadata


class Sample(Extension):
    @exported
    async def typed(self, x: int, *rest: float, flag: bool = False, **more: str) -> None: ...

    @exported
    async def unresolvable(self, x: NoSuchName) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    async def hidden(self) -> None: ...


def arguments(method: str, *args: object, **kwargs: object) -> tuple[list[Any], dict[str, Any]]:
    return MethodTable(Sample()).get(method).arguments(values.encode_value((args, kwargs)), values.MSGPACK)


def test_arguments_are_converted_by_the_annotations() -> None:
    assert arguments("typed", 1, 2, flag=True, a="x") == ([1, 2.0], {"flag": True, "a": "x"})
    assert type(arguments("typed", 1, 2)[0][1]) is float


@pytest.mark.parametrize(
    ("args", "kwargs", "name"), [(("1",), {}, "x"), ((1, "2"), {}, "argument 1"), ((1,), {"more": 3}, "more")]
)
def test_an_argument_of_a_wrong_type_is_named(args: tuple[object, ...], kwargs: dict[str, object], name: str) -> None:
    with pytest.raises(ArgumentMismatch) as caught:
        arguments("typed", *args, **kwargs)
    assert caught.value.details["argument"] == name


def test_an_annotation_that_cannot_be_resolved_converts_nothing() -> None:
    assert arguments("unresolvable", "anything") == (["anything"], {})
    assert "NoSuchName" in MethodTable(Sample()).get("unresolvable").description.signature


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x01", b"\x93\x01\x02\x03"])
def test_arguments_that_are_none_are_refused(body: bytes) -> None:
    with pytest.raises(ArgumentMismatch):
        MethodTable(Sample()).get("typed").arguments(body, values.MSGPACK)


def test_only_marked_methods_are_in_the_table() -> None:
    table = MethodTable(Sample())
    assert {method.name for method in table.descriptions()} == {"typed", "unresolvable"}
    with pytest.raises(NotExported, match="typed, unresolvable"):
        table.get("hidden")
    with pytest.raises(LoadFailed):
        MethodTable(Extension())


def test_what_cannot_be_exported_is_refused_where_it_is_written() -> None:
    def _private() -> None: ...

    for wrong in (_private, property(lambda self: 1), staticmethod(_private), 3):
        with pytest.raises(TypeError):
            exported(wrong)  # type: ignore[arg-type]


def test_the_context_is_there_after_binding_and_its_configuration_is_read_only(tmp_path: Path) -> None:
    extension = Sample()
    with pytest.raises(RuntimeError, match="on_load"):
        extension.config  # noqa: B018
    config = {"a": 1}
    bind(extension, Context(Metadata("i", "n", "1"), 1, tmp_path, config, logging.getLogger("x")))
    config["a"] = 2
    assert extension.config == {"a": 1}
    assert extension.get_metadata().id == "i"
    with pytest.raises(TypeError):
        extension.config["a"] = 3  # type: ignore[index]
