from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_ext.wire import exchange, messages
from ray_ext.wire.messages import decode_from_guest, decode_to_guest, encode_message

PARTS = messages.ErrorParts("code", "what", "where", "fix", {"n": 1, "l": ["x"], "z": None})
TO_GUEST: list[Any] = [
    messages.Welcome(1, 100), messages.Call(2**63, "m", 1), messages.Cancel(3), messages.Shutdown(1.5),
    messages.Load(messages.Metadata("i", "n", "v", "d", "a", "c", ("t",)), 2, "m:C", ["/p"], {"A": "1"}, "/d"),
]  # fmt: skip
FROM_GUEST: list[Any] = [
    messages.Hello([1, 2], "0.1", "3.11"), messages.Loaded([messages.ExportedMethod("m", True, "()", "s")]),
    messages.LoadRefused(PARTS), messages.Result(5), messages.Result(5, 1), messages.Failure(6, PARTS),
    messages.Log(1.5, 20, "l", "m", "t"), messages.Bye(), messages.Bye(PARTS),
]  # fmt: skip


@pytest.mark.parametrize("message", TO_GUEST)
def test_a_message_to_the_guest_comes_back_equal_and_is_none_from_it(message: object) -> None:
    assert decode_to_guest(encode_message(message)) == message
    with pytest.raises(msgspec.ValidationError):
        decode_from_guest(encode_message(message))


@pytest.mark.parametrize("message", FROM_GUEST)
def test_a_message_from_the_guest_comes_back_equal_and_is_none_to_it(message: object) -> None:
    assert decode_from_guest(encode_message(message)) == message
    with pytest.raises(msgspec.ValidationError):
        decode_to_guest(encode_message(message))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_decode_error(data: bytes) -> None:
    try:
        message = decode_from_guest(data)
    except msgspec.DecodeError:
        return
    assert decode_from_guest(encode_message(message)) == message


def test_exchanges_and_answers_come_back_equal() -> None:
    call = exchange.CallItem(1, "m", None, 0, b"b")
    sent = exchange.Exchange(b"c", 2, [call], [1], [3], is_recovering=True)
    answer = exchange.Answer(4, [exchange.ReplyItem(1, exchange.OK, 0, b"r")])
    assert exchange.decode_call(exchange.encode_exchange_part(call)) == call
    assert exchange.decode_exchange(exchange.encode_exchange_part(sent)) == sent
    assert exchange.decode_answer(exchange.encode_exchange_part(answer)) == answer
