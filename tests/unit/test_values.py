from __future__ import annotations

import dataclasses
import pickle
from datetime import UTC, datetime
from typing import Any

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_ext.errors import ArgumentNotSerialisable, NestedObjectRef
from ray_ext.wire import values


@dataclasses.dataclass
class Point:
    x: Any
    y: int = 2


class Item(msgspec.Struct):
    name: str
    part: Any = None


class Model(pydantic.BaseModel):
    count: int
    inner: list[int] = []


class ObjectRef:
    """Looks like Ray's by its name, which is what the refusal goes by."""


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.datetimes(timezones=st.just(UTC)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(-100, 100), inner),
    max_leaves=20,
)


@given(PLAIN)
def test_a_plain_value_comes_back_equal(value: object) -> None:
    assert values.decode_value(values.encode_value(value)) == value


@given(st.lists(PLAIN, max_size=3), st.dictionaries(st.text(min_size=1), PLAIN, max_size=3))
def test_arguments_come_back_equal(args: list[object], kwargs: dict[str, object]) -> None:
    encoding, body = values.encode_arguments(tuple(args), kwargs)
    assert encoding == values.MSGPACK
    assert values.decode_value(body) == [args, kwargs]


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Point(1), {"x": 1, "y": 2}), (Item("n", Point(1)), {"name": "n", "part": {"x": 1, "y": 2}}),
        (Model(count=1), {"count": 1, "inner": []}), ((1, 2), [1, 2]), ([Model(count=2)], [{"count": 2, "inner": []}]),
    ],
)  # fmt: skip
def test_typed_values_travel_as_maps_and_are_made_anew_where_a_type_is_asked_for(value: object, plain: object) -> None:
    body = values.encode_value(value)
    assert values.decode_value(body) == plain
    if not isinstance(value, (list, tuple)):
        assert type(values.convert(plain, type(value))) is type(value)
        assert type(values.typed_decoder(type(value))(body)) is type(value)


def test_a_datetime_without_zone_travels_as_text() -> None:
    assert values.decode_value(values.encode_value(datetime(2026, 1, 2, 3))) == "2026-01-02T03:00:00"
    moment = datetime(2026, 1, 2, 3, tzinfo=UTC)
    assert values.decode_value(values.encode_value(moment)) == moment


def circle() -> list[object]:
    ring: list[object] = []
    ring.append(ring)
    return ring


@pytest.mark.parametrize(
    ("args", "kwargs", "path"),
    [
        ((1, object()), {}, "argument 1"),
        ((), {"body": {"when": [1, object()]}}, "body['when'][1]"),
        ((), {"body": Point(x={"a": object()})}, "body.x['a']"),
        ((), {"body": Item("n", object())}, "body.part"),
        ((2**64,), {}, "argument 0"), (([-(2**63) - 1],), {}, "argument 0[0]"),
        ((), {"t": "\ud800"}, "t"), ((), {"t": {"\ud800": 1}}, "t (a key)"), ((), {"t": {object(): 1}}, "t (a key)"),
        ((), {"t": {None: 1, "x": object()}}, "t['x']"),
        ((), {"c": Point}, "c"),
    ],
)  # fmt: skip
def test_what_cannot_be_sent_is_named_by_its_path(
    args: tuple[object, ...], kwargs: dict[str, object], path: str
) -> None:
    with pytest.raises(ArgumentNotSerialisable) as caught:
        values.encode_arguments(args, kwargs)
    assert caught.value.details["path"] == path
    assert path in caught.value.what
    assert caught.value.fix


def test_a_value_that_contains_itself_is_refused() -> None:
    with pytest.raises(ArgumentNotSerialisable, match="ring"):
        values.encode_arguments((), {"ring": circle()})


def test_an_object_ref_inside_another_value_has_an_error_of_its_own() -> None:
    with pytest.raises(NestedObjectRef) as caught:
        values.encode_arguments((), {"refs": [1, ObjectRef()]})
    assert caught.value.details["path"] == "refs[1]"
    assert "ray.get" in caught.value.fix


def test_a_value_that_fails_only_once_is_refused_all_the_same() -> None:
    class Moody:
        calls = 0

        def model_dump(self) -> dict[str, int]:
            self.calls += 1
            if self.calls == 1:
                raise RuntimeError("not now")
            return {}

    with pytest.raises(ArgumentNotSerialisable, match="the arguments cannot be sent: RuntimeError"):
        values.encode_arguments((Moody(),), {})


def test_the_pickler_takes_only_what_msgpack_cannot() -> None:
    assert values.encode_arguments((1,), {}, pickler=pickle.dumps)[0] == values.MSGPACK
    encoding, body = values.encode_arguments(({1, 2},), {"c": complex(1, 2)}, pickler=pickle.dumps)
    assert encoding == values.PICKLE
    assert values.decode_value(body, encoding) == (({1, 2},), {"c": complex(1, 2)})
    with pytest.raises(ArgumentNotSerialisable):
        values.encode_arguments((lambda: 1,), {}, pickler=pickle.dumps)
    assert values.encode_result(complex(1), pickler=pickle.dumps)[0] == values.PICKLE
    with pytest.raises(TypeError):
        values.encode_result(complex(1))


@pytest.mark.parametrize("value", [{"x": [1, {"y": 2}]}, None, Point(1)])
def test_nothing_is_found_in_what_can_be_sent(value: object) -> None:
    assert values.find_unserialisable(value, "result") is None


def test_the_part_that_cannot_be_sent_is_found_with_its_type() -> None:
    assert values.find_unserialisable({"a": [1, {2: object()}]}, "result") == ("result['a'][1][2]", "object")


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65_535, 65_536])
def test_bytes_alone_are_found_without_decoding(size: int) -> None:
    value = b"x" * size
    encoded = values.encode_value(value)
    assert values.bytes_alone(encoded) == value
    for forged in (encoded[:-1] if size else encoded[:1], encoded + b"x", b"\xc6" + encoded[1:] + b"more"):
        assert values.bytes_alone(forged) is None


@pytest.mark.parametrize("value", [None, True, 1, "x", [b"x"], {"a": b"x"}])
def test_what_is_not_bytes_alone_is_left_alone(value: object) -> None:
    assert values.bytes_alone(values.encode_value(value)) is None
    assert values.bytes_alone(b"") is None
