"""No secret of a configuration is in a log, whatever an extension prints or logs."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest

from ray_ext.actors.logbook import Logbook
from ray_ext.actors.redaction import Redactor
from ray_ext.manifests import secret_texts
from tests.unit.conftest import Driver

SECRET = 'pa"ss\\wörd/+&42'
SCHEMA: dict[str, Any] = {
    "properties": {
        "token": {"writeOnly": True},
        "pin": {"type": "integer", "writeOnly": True},
        "ratio": {"writeOnly": True},
        "is_on": {"writeOnly": True},
        "none": {"writeOnly": True},
        "hosts": {"items": {"properties": {"password": {"writeOnly": True}}}},
        "all": {"writeOnly": True},
        "plain": {},
    }
}


# ---- which texts are secret


def test_every_secret_value_of_a_configuration_is_a_text_to_hide() -> None:
    values = {
        "token": "t0ken", "pin": 123456, "ratio": 0.25, "is_on": True, "none": None, "plain": "not me",
        "hosts": [{"password": "first", "name": "a"}, {"password": "second", "name": "b"}],
        "all": {"deep": ["x-1", {"deeper": "x-2"}]},
    }  # fmt: skip
    assert secret_texts(SCHEMA, values) == ("0.25", "123456", "first", "second", "t0ken", "x-1", "x-2")


def test_a_value_where_a_table_with_a_secret_should_be_is_hidden() -> None:
    schema = {"properties": {"account": {"anyOf": [{"properties": {"password": {"writeOnly": True}}}, {}]}}}
    assert secret_texts(schema, {"account": "hunter2"}) == ("hunter2",)


def test_without_a_schema_nothing_is_secret() -> None:
    assert secret_texts(None, {"a": "b"}) == ()


# ---- finding them in a text


@pytest.mark.parametrize(
    "written",
    [
        SECRET,
        json.dumps(SECRET),
        json.dumps({"a": SECRET}, ensure_ascii=False),
        json.dumps(json.dumps({"a": SECRET})),
        repr(SECRET),
        repr({"a": SECRET.encode()}),
        f"https://user:{quote_plus(SECRET)}@example.org",
        f"{SECRET[:5]}\n{SECRET[5:]}",
        "\n    ".join(SECRET),
        f"{SECRET[:5]}  \r\n\t{SECRET[5:9]}\n{SECRET[9:]}",
    ],
    ids=["as it is", "JSON", "JSON, not ASCII", "JSON twice", "repr", "bytes", "URL", "two lines", "each", "wrapped"],
)
def test_a_secret_is_found_however_it_is_written(written: str) -> None:
    said = Redactor([SECRET])(f"before {written} after")
    assert "<secret>" in said
    assert said.startswith("before ")
    assert said.endswith(" after")
    for part in ("pa", "ss", "wörd", "rd", "42"):
        assert part not in said.replace("<secret>", "")


def test_each_line_of_a_secret_with_several_is_hidden_and_so_is_one_without_its_last_newline() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADAN\n  BgkqhkiG9w0B\n-----END KEY-----\n"
    hidden = Redactor([key, "token\n"])
    for line in key.splitlines():
        assert hidden(f"x {line} y").split() == ["x", "<secret>", "y"]
    assert hidden(f"> {key}<") == "> <secret><"
    assert hidden("is token?") == "is <secret>?"


def test_secrets_that_overlap_are_hidden_together_and_a_placeholder_is_no_secret() -> None:
    assert Redactor(["abcdef", "defghi"])("_abcdefghi_") == "_<secret>_"
    assert Redactor(["abab"])("_ababab_") == "_<secret>_"
    assert Redactor(["secret", "long secret"])("a long secret") == "a <secret>"


def test_secrets_of_fewer_than_four_characters_are_left_alone() -> None:
    assert Redactor(["abc", ""])("abc") == "abc"
    assert Redactor(["abcd"])("abcd") == "<secret>"


@pytest.mark.parametrize("length", [4, 5, 11])
def test_where_a_text_was_cut_no_part_of_a_secret_is_left(length: int) -> None:
    hidden = Redactor(["0123456789ab"])
    long = "x" * 300
    head, tail = "0123456789ab"[:length], "0123456789ab"[-length:]
    assert hidden(f"{long} {head}") == f"{long} <secret>"
    assert hidden(f"{tail} {long}") == f"<secret> {long}"
    assert hidden(f"{head}\n… 7 characters left out …\n{tail}") == ("<secret>\n… 7 characters left out …\n<secret>")
    assert hidden(f"{head}…") == "<secret>…"
    assert hidden(f"{long} {head} {long}") == f"{long} {head} {long}"


def test_what_is_no_secret_stays_as_it_is() -> None:
    text = "nothing\n  of\r\nthe kind…"
    assert Redactor(["0123456789ab"])(text) is text
    assert Redactor([])(SECRET) == SECRET


# ---- in a log


def test_message_traceback_and_logger_are_redacted(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    book = Logbook.of_instance(str(path), "demo", 1, ["hunter2x"])
    book.write(0.0, logging.INFO, "of.hunter2x", "it is hunter2x", "ValueError: hunter2x")
    book.note(logging.ERROR, "ended: hunter2x")
    assert b"hunter2x" not in path.read_bytes()
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert (first["logger"], first["message"]) == ("of.<secret>", "it is <secret>")
    assert first["traceback"] == "ValueError: <secret>"
    assert second["message"] == "ended: <secret>"


CODE = """
import json

class Demo(Extension):
    async def on_load(self):
        if self.config["is_failing"]:
            raise ValueError("the token is " + self.config["token"])

    @exported
    async def leak(self):
        token = self.config["token"]
        print(token)
        print(json.dumps(dict(self.config)))
        print(repr(token), repr(token.encode()), file=sys.stderr)
        print("x" * 31_990 + token)
        print("z" * 200_000 + token)
        logging.getLogger(token).warning("with %s", token)
        self.logger.info("wrapped\\n" + token[:7] + "\\n  " + token[7:])
        self.logger.info("y" * 31_990 + token)
        try:
            raise KeyError(token)
        except KeyError:
            self.logger.exception("failed")

    @exported
    async def die(self):
        os._exit(3)
"""


def settings(*, is_failing: bool) -> dict[str, Any]:
    return {"config": {"token": SECRET, "is_failing": is_failing}, "secrets": (SECRET,)}


async def test_a_guest_cannot_log_a_secret_by_accident(driver: Driver, is_trusted: bool) -> None:
    driven = await driver.start(CODE, is_trusted=is_trusted, **settings(is_failing=False))
    await driven.call("leak")
    await driven.instance.stop(1.0)
    records = driven.log()
    for record in records:
        said = json.dumps(record, ensure_ascii=False).replace("<secret>", "")
        assert not any(part in said for part in ('pa"', 'a\\"ss', "ss\\", "wörd", "/+&", "w\\xf6rd")), said[-300:]
    messages = [record["message"] for record in records]
    assert [message for message in ("wrapped\n<secret>", "y" * 31_990 + "<secret>") if message not in messages] == []
    (failed,) = [record for record in records if record["message"] == "failed"]
    assert "KeyError: '<secret>'" in failed["traceback"]
    if not is_trusted:  # what a trusted extension prints is its host's output
        printed = ("<secret>", "x" * 31_990 + "<secret>", "'<secret>' b'<secret>'")
        assert [message for message in printed if message not in messages] == []
        assert [record["logger"] for record in records if record["message"] == "with <secret>"] == ["<secret>"]
        # Of a line that is too long there is one record: what was left out might begin with half a secret.
        assert [len(message) for message in messages if "zz" in message] == [32_000]


async def test_a_failed_load_and_its_cause_hold_no_secret(driver: Driver) -> None:
    driven = driver.make(CODE, **settings(is_failing=True))
    with pytest.raises(Exception, match="the token is <secret>") as caught:
        await driven.instance.start()
    gone = await driven.instance.exit
    for text in (repr(caught.value), str(getattr(caught.value, "details", "")), gone.cause, json.dumps(driven.log())):
        assert "rd/+&42" not in text
    assert "<secret>" in gone.cause


async def test_the_cause_of_an_end_holds_no_secret(driver: Driver) -> None:
    driven = await driver.start(CODE, **settings(is_failing=False))
    driven.instance._end("crashed", f"it said {SECRET}")
    assert (await driven.instance.exit).cause == "it said <secret>"
    assert driven.log()[-1]["message"] == "generation 1 ended: crashed (it said <secret>)"
