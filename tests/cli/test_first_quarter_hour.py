"""The page that shows a new user's first session is what such a session prints."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

_SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "first_quarter_hour.py"


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("first_quarter_hour", _SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_first_quarter_of_an_hour_is_as_the_page_shows_it() -> None:
    script = _script()
    assert script.PAGE.read_text(encoding="utf-8") == script.transcript()
