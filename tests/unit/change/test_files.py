"""A file that is replaced is the same file to everybody else, or is left alone."""

from __future__ import annotations

import errno
import os
import stat
import struct
from pathlib import Path

import pytest

from unhang.change import files
from unhang.change.files import replace_file, why_not_replaceable

ACL = "system.posix_acl_access"
DEFAULT_ACL = "system.posix_acl_default"
NOBODY = 0xFFFF_FFFF
OTHER_USER = 33


def an_acl(user: int, group: int, mask: int) -> bytes:
    """What `setfacl -m u:33:{user},g::{group},m::{mask}` leaves on a file of mode 0600."""
    entries = [
        (0x01, 6, NOBODY),
        (0x02, user, OTHER_USER),
        (0x04, group, NOBODY),
        (0x10, mask, NOBODY),
        (0x20, 0, NOBODY),
    ]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def set_or_skip(path: Path, name: str, value: bytes) -> None:
    if not hasattr(os, "setxattr"):
        pytest.skip("no extended attributes on this system")
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        pytest.skip(f"no {name} on this file system")


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "settings.py"
    path.write_text("SECRET_KEY = 'old'\n")
    path.chmod(0o640)
    return path


def assert_untouched(path: Path) -> None:
    assert path.read_text() == "SECRET_KEY = 'old'\n"
    assert os.listdir(path.parent) == [path.name]  # noqa: PTH208 (hidden names count)


def test_the_acl_and_its_mask_are_kept(settings: Path) -> None:
    acl = an_acl(user=4, group=0, mask=4)
    set_or_skip(settings, ACL, acl)
    replace_file(settings, b"new\n")
    assert settings.read_bytes() == b"new\n"
    assert os.getxattr(settings, ACL) == acl
    assert stat.S_IMODE(settings.stat().st_mode) == 0o640


def test_the_group_may_not_read_for_a_moment_either(
    settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_or_skip(settings, ACL, an_acl(user=4, group=0, mask=4))
    real, modes = os.setxattr, []

    def watched(path: Path, name: str, value: bytes) -> None:
        modes.append(stat.S_IMODE(path.stat().st_mode))
        real(path, name, value)

    monkeypatch.setattr(os, "setxattr", watched)
    replace_file(settings, b"new\n")
    assert modes == [0o600]


def test_a_mode_that_is_asked_for_closes_the_acl(settings: Path) -> None:
    set_or_skip(settings, ACL, an_acl(user=4, group=4, mask=4))
    replace_file(settings, b"new\n", mode=0o600)
    assert os.getxattr(settings, ACL) == an_acl(user=4, group=4, mask=0)


def test_the_default_acl_of_the_folder_lets_nobody_in_whom_the_file_did_not(
    settings: Path,
) -> None:
    set_or_skip(settings.parent, DEFAULT_ACL, an_acl(user=4, group=4, mask=4))
    replace_file(settings, b"new\n")
    assert ACL not in os.listxattr(settings)
    assert stat.S_IMODE(settings.stat().st_mode) == 0o640


def test_other_attributes_are_kept_though_the_acl_ends_the_right_to_write(settings: Path) -> None:
    set_or_skip(settings, "user.origin", b"ansible")
    read_only = an_acl(user=4, group=0, mask=4).replace(
        struct.pack("<HHI", 1, 6, NOBODY), struct.pack("<HHI", 1, 4, NOBODY)
    )
    set_or_skip(settings, ACL, read_only)
    replace_file(settings, b"new\n")
    assert os.getxattr(settings, "user.origin") == b"ansible"
    assert os.getxattr(settings, ACL) == read_only


def test_an_attribute_that_cannot_be_kept_leaves_the_old_file(
    settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_or_skip(settings, "user.origin", b"ansible")

    def full(path: Path, name: str, value: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "setxattr", full)
    with pytest.raises(OSError, match=r"user\.origin of .* cannot be kept: No space") as caught:
        replace_file(settings, b"new\n")
    assert caught.value.errno == errno.ENOSPC
    assert_untouched(settings)


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="no extended attributes on this system")
@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES, errno.ENOTSUP])
def test_a_label_that_only_root_may_set_is_tried(
    settings: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    labels = {"security.selinux": b"httpd_config_t", "security.ima": b"hash of the old bytes"}
    tried = []

    def refused(path: Path, name: str, value: bytes) -> None:
        tried.append(name)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "listxattr", lambda path: list(labels) if path == settings else [])
    monkeypatch.setattr(os, "getxattr", lambda _path, name: labels[name])
    monkeypatch.setattr(os, "setxattr", refused)
    replace_file(settings, b"new\n")
    assert settings.read_bytes() == b"new\n"
    assert tried == ["security.selinux"]


def test_a_system_without_attributes_is_fine(
    settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("listxattr", "getxattr", "setxattr", "removexattr"):
        monkeypatch.delattr(os, name, raising=False)
    replace_file(settings, b"new\n")
    assert settings.read_bytes() == b"new\n"
    assert stat.S_IMODE(settings.stat().st_mode) == 0o640


def test_a_file_with_a_second_name_is_left_alone(settings: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    other.hardlink_to(settings)
    assert "hard links" in why_not_replaceable(settings)
    with pytest.raises(OSError, match="hard links") as caught:
        replace_file(settings, b"new\n")
    assert caught.value.errno == errno.EMLINK
    assert settings.samefile(other)
    other.unlink()
    assert_untouched(settings)


def test_a_file_that_is_a_mount_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my project"
    folder.mkdir()
    path, neighbour = folder / "settings.py", folder / "settings.py2"
    path.write_text("SECRET_KEY = 'old'\n")
    mounts = tmp_path / "mountinfo"
    escaped = str(path).replace(" ", r"\040")
    mounts.write_text(f"42 27 254:0 /srv/settings.py {escaped} rw - ext4 /dev/vda rw\n")
    monkeypatch.setattr(files, "_MOUNTS", mounts)
    link = tmp_path / "link.py"
    link.symlink_to(path)
    assert "mounted" in why_not_replaceable(link)
    assert why_not_replaceable(neighbour) == ""
    with pytest.raises(OSError, match="mounted") as caught:
        replace_file(path, b"new\n")
    assert caught.value.errno == errno.EBUSY
    assert_untouched(path)


def test_without_a_list_of_mounts_the_device_tells(
    settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_MOUNTS", tmp_path / "none")
    assert why_not_replaceable(settings) == ""
    real = Path.stat

    def elsewhere(path: Path, **options: bool) -> os.stat_result:
        found = list(real(path, **options))
        found[stat.ST_DEV] += path == settings
        return os.stat_result(found)

    monkeypatch.setattr(Path, "stat", elsewhere)
    assert "mounted" in why_not_replaceable(settings)


def test_an_owner_that_only_root_could_keep_is_a_reason(
    settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: settings.stat().st_uid + 1)
    assert "another user or group" in why_not_replaceable(settings)
    with pytest.raises(PermissionError, match="another user or group"):
        replace_file(settings, b"new\n")
    assert_untouched(settings)


def test_a_group_that_is_not_ours_is_a_reason_unless_the_folder_gives_it(
    tmp_path: Path,
) -> None:
    mine = os.geteuid() or 1000
    base = list(tmp_path.stat())
    base[stat.ST_UID], base[stat.ST_GID] = mine, 77_777
    old = os.stat_result(base)
    base[stat.ST_MODE] |= stat.S_ISGID
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: mine)
        assert not files._may_keep_the_owner(old, old)
        assert files._may_keep_the_owner(old, os.stat_result(base))


def test_a_folder_that_cannot_be_written_is_a_reason(
    settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = os.F_OK | os.R_OK | os.X_OK
    monkeypatch.setattr(os, "access", lambda _path, mode: not mode & ~allowed)
    assert why_not_replaceable(settings) == f"no file can be written in {settings.parent}"
    with pytest.raises(PermissionError, match="no file can be written"):
        replace_file(settings, b"new\n")
    assert_untouched(settings)


def test_a_missing_folder_is_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "none" / "settings.py"
    assert "no file can be written" in why_not_replaceable(path)
    with pytest.raises(FileNotFoundError):
        replace_file(path, b"new\n")


def test_a_usual_file_and_a_new_one_are_replaceable(settings: Path, tmp_path: Path) -> None:
    assert why_not_replaceable(settings) == ""
    assert why_not_replaceable(tmp_path / "new.py") == ""
    replace_file(tmp_path / "new.py", b"new\n")
    assert stat.S_IMODE((tmp_path / "new.py").stat().st_mode) == 0o644


def test_one_of_two_names_can_be_deleted(settings: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    other.hardlink_to(settings)
    replace_file(other, None)
    assert_untouched(settings)
