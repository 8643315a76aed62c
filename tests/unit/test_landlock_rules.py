from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

import pytest

from ray_ext.sandbox.landlock import Right, path_rules, ruleset, system_paths


@pytest.mark.parametrize(
    ("abi", "words"),
    [
        (1, (0x1FFF,)),
        (2, (0x3FFF,)),
        (3, (0x7FFF,)),
        (4, (0x7FFF, 3)),
        (5, (0xFFFF, 3)),
        (6, (0xFFFF, 3, 3)),
        (7, (0xFFFF, 3, 3)),
        (99, (0xFFFF, 3, 3)),
    ],
)
def test_every_right_that_the_abi_knows_is_handled(abi: int, words: tuple[int, ...]) -> None:
    assert struct.unpack(f"={len(words)}Q", ruleset(abi)) == words


@pytest.fixture
def rules(tmp_path: Path) -> dict[str, Right]:
    (tmp_path / "code").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "module.py").touch()
    found = path_rules(7, readable=(tmp_path / "code", tmp_path / "module.py"), data_dir=tmp_path / "data")
    return {path: Right(access) for path, access in found}


def test_only_the_data_directory_and_the_null_device_can_be_written(rules: dict[str, Right], tmp_path: Path) -> None:
    writable = {path for path, access in rules.items() if access & ~(Right.READ_FILE | Right.READ_DIR)}
    assert writable == {os.fspath(tmp_path / "data"), "/dev/null"}


def test_nothing_may_be_executed_and_no_special_file_made(rules: dict[str, Right]) -> None:
    special = Right.MAKE_CHAR | Right.MAKE_BLOCK | Right.MAKE_FIFO | Right.MAKE_SOCK
    assert not any(access & (Right.EXECUTE | Right.IOCTL_DEV | special) for access in rules.values())


def test_a_file_gets_no_right_of_directories(rules: dict[str, Right], tmp_path: Path) -> None:
    assert rules[os.fspath(tmp_path / "module.py")] == Right.READ_FILE


def test_the_interpreters_library_is_readable_and_neither_the_venvs_nor_the_home(rules: dict[str, Right]) -> None:
    assert os.path.realpath(os.path.dirname(os.__file__)) in rules
    homes = {
        Path(sys.prefix).resolve(),
        Path(sys.base_prefix).resolve(),
        Path.home(),
        Path("/"),
        Path("/etc"),
        Path("/proc"),
    }
    assert homes.isdisjoint(map(Path, rules)) or sys.prefix == sys.base_prefix
    if sys.prefix != sys.base_prefix:
        assert not any(Path(path).is_relative_to(Path(sys.prefix).resolve()) for path in rules)


def test_no_private_key_lies_below_a_readable_path() -> None:
    private = [Path("/etc/ssl/private"), Path("/etc/pki/tls/private")]
    assert not any(key.is_relative_to(path) for key in private for path in system_paths())


@pytest.mark.parametrize("data", ["code/data", "code", "."])
def test_a_data_directory_that_overlaps_readable_code_is_refused(tmp_path: Path, data: str) -> None:
    (tmp_path / "code/data").mkdir(parents=True)
    with pytest.raises(ValueError, match="overlap"):
        path_rules(7, readable=(tmp_path / "code",), data_dir=tmp_path / data)


def test_a_data_directory_that_is_a_link_into_readable_code_is_refused(tmp_path: Path) -> None:
    (tmp_path / "code/data").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "code/data")
    with pytest.raises(ValueError, match="overlap"):
        path_rules(7, readable=(tmp_path / "code",), data_dir=tmp_path / "link")


def test_the_root_as_a_code_path_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(ValueError, match="overlap"):
        path_rules(7, readable=(Path("/"),), data_dir=tmp_path / "data")
