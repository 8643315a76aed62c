from __future__ import annotations

import pickle
import re

import pytest

from ray_ext import errors
from ray_ext.errors import ExtensionError, Overloaded, RayExtError, error_classes, error_from_parts
from ray_ext.wire.messages import ErrorParts, decode_error, encode_message

CLASSES = [getattr(errors, name) for name in errors.__all__ if isinstance(getattr(errors, name), type)]


def state(error: RayExtError) -> tuple[object, ...]:
    return type(error), error.code, error.what, error.where, error.fix, error.details, error.args, str(error)


@pytest.mark.parametrize("cls", CLASSES)
def test_an_error_survives_pickle_and_the_wire_with_all_its_parts(cls: type[RayExtError]) -> None:
    for error in (cls("it broke"), cls("it broke", where="w", fix="f", details={"n": 1, "l": ["a"], "z": None})):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            assert state(pickle.loads(pickle.dumps(error, protocol))) == state(error)
        assert state(decode_error(encode_message(ErrorParts.of(error))).to_error()) == state(error)
        assert state(error_from_parts(error.code, error.what, error.where, error.fix, error.details)) == state(error)


def test_codes_are_unique_and_kebab_case() -> None:
    codes = [cls.code for cls in CLASSES]
    assert len(set(codes)) == len(codes) >= 30
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in codes)
    assert {code: cls for code, cls in error_classes().items() if cls in CLASSES} == {c.code: c for c in CLASSES}


@pytest.mark.parametrize("cls", CLASSES)
def test_each_class_says_what_it_is_and_who_must_act(cls: type[RayExtError]) -> None:
    assert cls.__doc__
    assert cls.actor in {"caller", "extension", "operator", "cluster"}
    assert issubclass(cls, RayExtError)
    assert str(cls("one\ntwo", where="w", fix="f")) == f"one\ntwo\n  where: w\n  fix: f [{cls.code}]"
    assert str(cls("it broke")) == f"it broke [{cls.code}]"


def test_an_unknown_code_becomes_the_root_and_keeps_the_code() -> None:
    error = error_from_parts("from-the-future", "new", details={"x": 1})
    assert type(error) is RayExtError
    assert error.details == {"x": 1, "code": "from-the-future"}
    assert state(pickle.loads(pickle.dumps(error))) == state(error)


def test_details_are_a_copy() -> None:
    details = {"n": 1}
    error = RayExtError("x", details=details)
    details["n"] = 2
    assert error.details == {"n": 1}


def test_documented_attributes_read_the_details() -> None:
    assert Overloaded("x", details={"retry_after_s": 0.5}).retry_after_s == 0.5
    assert Overloaded("x").retry_after_s > 0
    assert ExtensionError("x", details={"traceback": "tb"}).traceback_text == "tb"
    assert ExtensionError("x").traceback_text == ""
