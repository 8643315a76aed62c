"""Discovery: every extension on the search paths is listed, valid or with its problems, and nothing of it runs."""

from __future__ import annotations

import io
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_ext.packages import discovery, pack_folder
from ray_ext.packages.discovery import Discovered, discover, discover_configured, search_paths

MANIFEST = """\
schema_version = 1
id = "hello-world"
name = "Hello"
version = "1.0"
description = "Says hello"
category = "workflow.orchestration"
entry_point = "hello_world:Hello"
"""
CODE = "class Hello: ...\n"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def project(folder: Path, *, version: str = "1.0", code: str = CODE) -> Path:
    write(folder / "hello_world" / "__init__.py", code)
    write(folder / "extension.toml", MANIFEST.replace('"1.0"', f'"{version}"'))
    write(folder / "pyproject.toml", f'[project]\nname = "hello-world"\nversion = "{version}"\n')
    return folder


def wheel(path: Path, scratch: Path, *, version: str = "1.0") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pack_folder(project(scratch / f"{path.name}-{version}", version=version)))
    return path


def brief(found: list[Discovered]) -> list[tuple[str, str, str, bool]]:
    return [(Path(each.source).name, each.kind, each.version, each.is_valid) for each in found]


def only(paths: list[Path]) -> Discovered:
    (found,) = discover(paths, distributions=False)
    return found


def problem_of(found: Discovered) -> str:
    assert not found.is_valid
    assert (found.id, found.version, found.name, found.description, found.shadowed_by) == ("", "", "", "", "")
    (problem,) = found.problems
    return problem


# ---- search paths


def test_the_search_path_is_the_variable_or_the_default(tmp_path: Path) -> None:
    default = tmp_path / "extensions"
    assert search_paths({}, default) == (default,)
    assert search_paths({"RAY_EXT_PATH": ""}, default) == (default,)
    assert search_paths({"RAY_EXT_PATH": os.pathsep}, default) == (default,)
    written = os.pathsep.join(["/b", "", "~/x", "~", "/a", "/b", "relative", "~~nobody/x"])
    expected = ("/b", "/home/me/x", "/home/me", "/a", "relative", "~~nobody/x")
    assert search_paths({"RAY_EXT_PATH": written, "HOME": "/home/me"}, default) == tuple(map(Path, expected))


def test_a_relative_path_is_refused_even_where_it_would_lead_to_an_extension(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(tmp_path / "project")
    monkeypatch.chdir(tmp_path)
    assert "project: found a relative path" in problem_of(only([Path("project")]))


# ---- folders and wheels


def test_projects_and_wheels_of_a_folder_are_listed_by_name(tmp_path: Path) -> None:
    place = tmp_path / "place"
    project(place / "c", version="3.0")
    wheel(place / "b.whl", tmp_path, version="2.0")
    write(place / "a" / "extension.toml", "schema_version = 1\n")
    write(place / "no_extension" / "readme.txt", "")
    write(place / "readme.txt", "")
    project(place / "no_extension" / "deeper")
    project(place / ".hidden")
    found = discover([place], distributions=False)
    assert brief(found) == [("a", "folder", "", False), ("b.whl", "wheel", "2.0", True), ("c", "folder", "3.0", True)]
    assert found[2] == Discovered(
        source=str(place / "c"),
        kind="folder",
        id="hello-world",
        version="3.0",
        name="Hello",
        description="Says hello",
        is_valid=True,
    )
    assert any(problem.startswith("extension.toml: id: found nothing") for problem in found[0].problems)
    assert pickle.loads(pickle.dumps(found)) == found


def test_a_path_may_be_a_project_or_a_wheel_itself(tmp_path: Path) -> None:
    paths = [wheel(tmp_path / "x.whl", tmp_path), project(tmp_path / "project", version="2.0")]
    found = discover(paths, distributions=False)
    assert brief(found) == [("x.whl", "wheel", "1.0", True), ("project", "folder", "2.0", True)]


def test_the_same_release_further_down_is_listed_as_shadowed(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    project(second / "a", version="1.0.0")
    project(second / "b", version="2.0")
    write(second / "broken" / "extension.toml", "")
    project(first / "z", version="1.0")
    found = discover([first, second], distributions=False)
    assert [each.shadowed_by for each in found] == ["", str(first / "z"), "", ""]


def test_a_place_that_is_reached_twice_is_listed_once(tmp_path: Path) -> None:
    project(tmp_path / "place" / "a")
    paths = [tmp_path / "place", tmp_path / "place" / "a"]
    assert [each.shadowed_by for each in discover(paths, distributions=False)] == [""]


def test_the_order_does_not_depend_on_the_order_of_creation(tmp_path: Path) -> None:
    for place, names in (("one", "abcdef"), ("two", "fedcba")):
        for name in names:
            project(tmp_path / place / name)
    one, two = (brief(discover([tmp_path / place], distributions=False)) for place in ("one", "two"))
    assert one == two == sorted(one)


def test_links_on_the_path_are_followed_and_links_inside_a_project_are_not(tmp_path: Path) -> None:
    project(tmp_path / "elsewhere" / "project")
    place = tmp_path / "place"
    write(place / "inside" / "pyproject.toml", "")
    (place / "inside" / "extension.toml").symlink_to(tmp_path / "elsewhere" / "project" / "extension.toml")
    (place / "linked").symlink_to(tmp_path / "elsewhere" / "project")
    (place / "around").symlink_to(place)
    (place / "nowhere").symlink_to(tmp_path / "nothing")
    (tmp_path / "link").symlink_to(place)
    found = discover([tmp_path / "link"], distributions=False)
    assert brief(found) == [("inside", "folder", "", False), ("linked", "folder", "1.0", True)]
    assert problem_of(found[0]).startswith("extension.toml: found a link")


# ---- what cannot be read


def test_a_path_that_cannot_be_read_is_listed_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "round").symlink_to("round")
    file = write(tmp_path / "file", "")
    assert "no such file or directory" in problem_of(only([tmp_path / "missing"]))
    assert "bytes that are no zip archive" in problem_of(only([file]))
    assert "a link when it is opened" in problem_of(only([tmp_path / "round"]))
    assert "file name too long" in problem_of(only([tmp_path / ("x" * 300)]))
    assert "unprintable characters in the path" in problem_of(only([tmp_path / "a\0b"]))


@pytest.fixture
def closed() -> Iterator[Path]:
    """A folder in which modes count: whoever runs the tests is nobody in particular."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)
        os.seteuid(user)


def test_what_may_not_be_read_is_listed_with_the_reason(closed: Path) -> None:
    project(closed / "a").chmod(0)
    (project(closed / "b") / "extension.toml").chmod(0)
    write(closed / "c.whl", "").chmod(0)
    write(closed / "d" / "e", "").parent.chmod(0o711)
    if os.geteuid() == 0:
        os.seteuid(65534)
    found = discover([closed, closed / "d"], distributions=False)
    assert [Path(each.source).name for each in found] == ["a", "b", "c.whl", "d"]
    assert all("permission denied" in problem_of(each) for each in found)


@pytest.mark.parametrize("name", ["x.whl", "x"])
def test_special_files_are_listed_as_wheels_at_most_and_never_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    found = discover([tmp_path], distributions=False)
    assert [problem_of(each).split(": ")[1] for each in found] == (
        ["found a folder or special file; allowed"] if name == "x.whl" else []
    )
    assert "special file" in problem_of(only([tmp_path / name]))


def test_folders_sockets_devices_and_broken_links_named_like_wheels_are_listed_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "a.whl").mkdir()
    (tmp_path / "b.whl").symlink_to("/dev/zero")
    (tmp_path / "c.whl").symlink_to("nowhere")
    (tmp_path / "d.whl").symlink_to("d.whl")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "e.whl"))
        found = discover([tmp_path], distributions=False)
    assert [each.kind for each in found] == ["wheel"] * 5
    reasons = ["special file", "special file", "no such file", "too many levels of symbolic links", "no such device"]
    assert all(reason in problem_of(each) for reason, each in zip(reasons, found, strict=True))


def test_a_name_that_cannot_be_printed_is_listed_in_a_printable_form(tmp_path: Path) -> None:
    (tmp_path / "a\x1b[2J.whl").write_text("")
    os.close(os.open(os.fsencode(tmp_path) + b"/\xff.whl", os.O_CREAT))
    project(tmp_path / "n\nl")
    found = discover([tmp_path], distributions=False)
    assert [each.kind for each in found] == ["wheel", "folder", "wheel"]
    for each in found:
        assert "unprintable characters in the name" in problem_of(each)
        assert each.source.isprintable()
        assert each.problems[0].isprintable()


def test_a_folder_of_too_many_entries_is_one_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "_ENTRIES", 3)
    for name in "abc":
        project(tmp_path / name)
    assert len(discover([tmp_path], distributions=False)) == 3
    write(tmp_path / "d", "")
    assert "more than 3 entries" in problem_of(only([tmp_path]))


# ---- installed distributions


def site(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for distributions; only those in it are seen."""
    folder.mkdir()
    monkeypatch.setattr(sys, "path", [str(folder)])
    return folder


def install(place: Path, scratch: Path, *, info: str = "hello_world-1.0.dist-info", **changed: str | None) -> Path:
    """Unpack a wheel as an installer does; ``changed`` files of its .dist-info get another text, or go."""
    packed = pack_folder(project(scratch / f"to-install-{len(list(scratch.iterdir()))}"))
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        archive.extractall(place)
    (place / "hello_world-1.0.dist-info").rename(place / info)
    for name, text in changed.items():
        path = place / info / {"entry_points": "entry_points.txt"}.get(name, name)
        if text is None:
            path.unlink()
        else:
            path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return place / "hello_world"


def test_installed_distributions_are_listed_after_the_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = site(tmp_path / "site", monkeypatch)
    installed = install(place, tmp_path)
    write(place / "other-1.dist-info" / "METADATA", "Name: other\nVersion: 1\n")
    write(place / "other-1.dist-info" / "entry_points.txt", "[console_scripts]\nother = other:main\n")
    path = project(tmp_path / "project")
    found = discover([path], distributions=True)
    assert [(each.source, each.kind, each.shadowed_by) for each in found] == [
        (str(path), "folder", ""),
        (str(installed), "distribution", str(path)),
    ]
    assert (found[1].id, found[1].version, found[1].description) == ("hello-world", "1.0", "Says hello")
    assert brief(discover([path], distributions=False)) == [("project", "folder", "1.0", True)]


def test_distributions_come_in_the_order_of_the_interpreters_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "b", tmp_path)
    install(tmp_path / "a", tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path / name) for name in "bab"])
    first, second = discover([], distributions=True)
    assert (first.source, first.shadowed_by) == (str(tmp_path / "b" / "hello_world"), "")
    assert second.shadowed_by == first.source


GROUP = "[ray_ext.extensions]\n"
BROKEN: list[tuple[dict[str, str | None], str]] = [
    ({"RECORD": None}, "no hello_world/extension.toml among the distribution's files"),
    ({"RECORD": "../../x.pth,,\n"}, "no hello_world/extension.toml among the distribution's files"),
    ({"RECORD": "\udcff"}, "RECORD: found 'utf-8' codec"),
    ({"RECORD": "a,b,c,d\n"}, "RECORD: found "),
    ({"RECORD": "a,x=y,none\n"}, "RECORD: found "),
    ({"RECORD": '"' + "x" * 200_000}, "RECORD: found field larger"),
    ({"METADATA": "\udcff"}, "RECORD: found 'utf-8' codec"),
    ({"METADATA": None}, "METADATA: Name: found None"),
    ({"METADATA": "Name: hello-world\nVersion: 2\n"}, "METADATA: Version: found '2'"),
    ({"METADATA": "Name: other\nVersion: 1.0\n"}, "METADATA: Name: found 'other'"),
    ({"entry_points": "\udcff"}, "a distribution with unreadable entry points"),
    ({"entry_points": GROUP}, "found no entry"),
    ({"entry_points": f"{GROUP}a = b\nc = d\n"}, "found ['a = b', 'c = d']"),
    ({"entry_points": f"{GROUP}hello-world = ../hello_world\n"}, "<id> = <package>"),
    ({"entry_points": f"{GROUP}hello-world = hello_world:Hello\n"}, "<id> = <package>"),
    ({"entry_points": f"{GROUP}other = hello_world\n"}, "entry_points.txt: found 'other'"),
    ({"entry_points": f"{GROUP}hello-world = nowhere\n"}, "no nowhere/extension.toml among"),
]


@pytest.mark.parametrize(("changed", "said"), BROKEN, ids=range(len(BROKEN)))
def test_a_broken_distribution_is_a_row_and_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, str | None], said: str
) -> None:
    place = site(tmp_path / "site", monkeypatch)
    install(place, tmp_path, info="broken-1.0.dist-info", **changed)
    install(place, tmp_path)
    found = discover([], distributions=True)
    assert sorted(each.is_valid for each in found) == [False, True]
    (broken,) = [each for each in found if not each.is_valid]
    assert broken.kind == "distribution"
    assert any(said in problem for problem in broken.problems), broken.problems


def test_the_manifest_of_a_distribution_is_read_through_no_link_or_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = site(tmp_path / "site", monkeypatch)
    manifest = install(place, tmp_path) / "extension.toml"
    manifest.unlink()
    os.mkfifo(manifest)
    assert "found a pipe" in problem_of(*discover([], distributions=True))
    manifest.unlink()
    manifest.symlink_to(write(tmp_path / "manifest", MANIFEST))
    assert "found a link" in problem_of(*discover([], distributions=True))


# ---- nothing runs


def test_nothing_that_is_discovered_is_executed(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    evil = f"open({str(marker)!r}, 'a').write(__name__)\n"
    place, installed = tmp_path / "place", tmp_path / "site"
    project(place / "project", code=evil)
    (place / "packed.whl").write_bytes(pack_folder(place / "project"))
    install(installed, tmp_path)
    for name in ("setup.py", "conftest.py", "hello_world/conftest.py", "sitecustomize.py", "noxfile.py"):
        write(place / "project" / name, evil)
    write(place / "project" / "evil.pth", f"import os; {evil}")
    write(
        place / "project" / "pyproject.toml",
        '[build-system]\nrequires = []\nbuild-backend = "setup"\nbackend-path = ["."]\n'
        '[project]\nname = "hello-world"\nversion = "1.0"\n',
    )
    write(installed / "hello_world" / "__init__.py", evil)
    write(installed / "late.pth", f"import os; {evil}")
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from ray_ext.packages.discovery import discover\n"
        "place, installed = map(Path, sys.argv[1:])\n"
        "os.chdir(place / 'project')\n"
        "sys.path.append(str(installed))\n"
        "found = discover([place, Path.cwd()], distributions=True)\n"
        "print(*sorted(each.kind for each in found if each.is_valid), 'hello_world' in sys.modules)\n"
    )
    run = [sys.executable, "-c", code, str(place), str(installed)]
    output = subprocess.run(run, capture_output=True, text=True, check=True, timeout=60).stdout
    assert output.split() == ["distribution", "folder", "wheel", "False"]
    assert not marker.exists()
    subprocess.run([sys.executable, "-c", "import hello_world"], cwd=place / "project", check=True, timeout=60)
    assert marker.exists()  # what was not executed would have left its mark


def test_the_variable_takes_the_place_of_both_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    default, named = tmp_path / "default", tmp_path / "named"
    project(default / "one", version="1.0")
    project(named / "two", version="2.0")
    install(tmp_path / "site", tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path / "site")])
    kinds = {"folder": "one", "distribution": "hello_world"}
    found = discover_configured({}, default)
    assert {each.kind: Path(each.source).name for each in found} == kinds
    assert [Path(each.source).name for each in discover_configured({"RAY_EXT_PATH": str(named)}, default)] == ["two"]
    assert [each.kind for each in discover_configured({}, tmp_path / "absent")] == ["distribution"]
