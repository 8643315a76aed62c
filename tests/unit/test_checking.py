"""How checks are run: each is bounded, and none ends the doctor."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from ray_ext.cli.checking import Check, Finding, Patient, check, checks, fail, ok, run
from ray_ext.home import Home


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    return Patient(Home(tmp_path / "home"))


def test_a_check_that_raises_has_failed_with_what_it_raised_and_the_others_go_on(patient: Patient) -> None:
    @check("broken", "Broken")
    def broken(_: Patient) -> Finding:
        raise ValueError("it broke")

    @check("good", "Good")
    def good(_: Patient) -> Finding:
        return ok("well")

    first, second = run(patient, [broken, good])
    assert (first.id, first.status, second.status) == ("broken", "fail", "ok")
    assert "ValueError: it broke" in first.evidence
    assert first.fix


def test_a_check_that_does_not_end_has_failed_when_its_time_is_up(patient: Patient) -> None:
    release = threading.Event()

    @check("hanging", "Hanging", limit_s=0.05, late_fix="wake it")
    def hanging(_: Patient) -> Finding:
        release.wait()
        return ok("at last")

    (found,) = run(patient, [hanging])
    release.set()
    assert (found.status, found.fix) == ("fail", "wake it")
    assert "no answer within" in found.evidence


def test_each_check_has_an_id_of_its_own_and_a_title() -> None:
    found = checks()
    ids = [each.id for each in found]
    assert len(set(ids)) == len(ids) >= 20
    assert [name for name in ids if not re.fullmatch(r"[a-z]+(-[a-z]+)*", name)] == []
    assert all(each.title and each.limit_s > 0 for each in found)


def test_a_file_in_the_package_is_enough_for_a_check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import ray_ext.cli.checks as package

    (tmp_path / "weather.py").write_text(
        "from ray_ext.cli.checking import check, ok\n"
        "@check('weather', 'Weather')\n"
        "def weather(patient):\n"
        "    return ok('fine')\n"
    )
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    assert "weather" in [each.id for each in checks()]


def test_whatever_is_not_well_has_a_fix(patient: Patient) -> None:
    for result in run(patient, checks()):
        assert result.evidence, result.id
        assert (result.fix == "") if result.status == "ok" else True, result.id
        assert result.fix or result.status in ("ok", "skip"), result.id


def test_failures_name_their_fix() -> None:
    assert fail("broken", "mend it") == Finding(status="fail", evidence="broken", fix="mend it")
    assert isinstance(checks()[0], Check)
