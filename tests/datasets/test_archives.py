import bz2
import gzip
import hashlib
import io
import lzma
import os
import random
import shutil
import stat
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointcover.datasets import archives
from pointcover.datasets.archives import extract_archive
from tests.processes import FULL_DISK, run_python

BODY = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(300_000)
MD5 = f"md5:{hashlib.md5(BODY).hexdigest()}"


# --- unpacking -------------------------------------------------------------------------------

TREE = {"images/a.tif": b"first" * 1000, "masks/a.tif": b"second", "readme": b"text"}


def make_zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def make_tar(path: Path, members: dict[str, bytes], mode: str = "w:") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


MAKERS = {"zip": make_zip, "tar": make_tar}


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def assert_refused(archive: Path, wanted: str, **limits: int) -> None:
    """Unpacking raises a ValueError with the archive and ``wanted`` in it, and leaves nothing."""
    before = set(archive.parent.rglob("*"))
    with pytest.raises(ValueError, match=wanted) as caught:
        extract_archive(archive, archive.parent / "out", **limits)
    assert str(archive) in str(caught.value)
    assert "wanted" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert set(archive.parent.rglob("*")) == before


@pytest.mark.parametrize("mode", ["zip", "w:", "w:gz", "w:xz", "w:bz2"])
def test_every_kind_unpacks_to_what_was_packed(tmp_path: Path, mode: str) -> None:
    archive = tmp_path / "content"  # a name that says nothing
    _ = make_zip(archive, TREE) if mode == "zip" else make_tar(archive, TREE, mode)
    extract_archive(archive, tmp_path / "new" / "out")
    assert files_in(tmp_path / "new" / "out") == TREE
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]


def test_folders_and_dots_in_names_are_understood(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "images" / "empty").mkdir(parents=True)
    (source / "images" / "a.tif").write_bytes(b"pixels")
    subprocess.run(["tar", "-czf", tmp_path / "a.tgz", "-C", source, "."], check=True)
    extract_archive(tmp_path / "a.tgz", tmp_path / "out")
    assert files_in(tmp_path / "out") == {"images/a.tif": b"pixels"}
    assert (tmp_path / "out" / "images" / "empty").is_dir()


def test_a_zip_made_by_another_program_unpacks(tmp_path: Path) -> None:
    shutil.make_archive(str(tmp_path / "a"), "zip", Path(__file__).parent, Path(__file__).name)
    extract_archive(tmp_path / "a.zip", tmp_path / "out")
    assert files_in(tmp_path / "out") == {Path(__file__).name: Path(__file__).read_bytes()}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize(
    "name", ["/escaped", "../escaped", "images/../../escaped", "..\\escaped", "C:/escaped"]
)
def test_a_member_that_would_land_elsewhere_is_refused(
    tmp_path: Path, make: Callable[[Path, dict[str, bytes]], Path], name: str
) -> None:
    archive = make(tmp_path / "a", {"good": b"1", name: b"2"})
    assert_refused(archive, r"escaped.*would be written elsewhere.*`source:`")


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a.tif", "A.TIF"),
        ("Images/a", "images/b"),
        ("straße", "STRASSE"),
        ("caf\u00e9", "cafe\u0301"),
        ("a", "a/b"),
        ("a/b", "a"),
        ("a/b", "a/./b"),
    ],
)
def test_names_that_some_disk_takes_for_one_are_refused(
    tmp_path: Path, make: Callable[[Path, dict[str, bytes]], Path], first: str, second: str
) -> None:
    assert_refused(make(tmp_path / "a", {first: b"1", second: b"2"}), "clashes with member")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_a_tar_with_a_link_or_device_is_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("images/trap")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    assert_refused(tmp_path / "a.tar", "'images/trap' is a link or device")


def test_a_name_with_a_zero_byte_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("a")
        info.pax_headers = {"path": "a\0b"}
        archive.addfile(info)
    assert_refused(tmp_path / "a.tar", "has no usable name")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_a_zip_with_a_link_or_device_is_refused(tmp_path: Path, kind: int) -> None:
    info = zipfile.ZipInfo("images/trap")
    info.create_system, info.external_attr = 3, (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    assert_refused(tmp_path / "a.zip", "'images/trap' is a link or device")


def patch_zip(path: Path, offset: int, value: bytes) -> None:
    """Overwrite bytes of the only member's header in the central directory of a zip."""
    data = bytearray(path.read_bytes())
    start = data.index(b"PK\x01\x02") + offset
    data[start : start + len(value)] = value
    path.write_bytes(data)


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"a.tif": b"data"})
    patch_zip(archive, 8, b"\x01\x00")
    assert_refused(archive, "'a.tif' is encrypted")


def test_a_zip_packed_by_another_method_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"a.tif": b"data"})
    patch_zip(archive, 10, b"\x09\x00")  # deflate64, as Windows makes of big files
    assert_refused(archive, "'a.tif' is packed by method 9: wanted stored or deflated")


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_more_bytes_than_allowed_are_refused(
    tmp_path: Path, make: Callable[[Path, dict[str, bytes]], Path]
) -> None:
    archive = make(tmp_path / "a", {"a": b"12345", "b": b"67890"})
    assert_refused(archive, "'b' unpacks beyond 9 bytes", max_bytes=9)
    extract_archive(archive, tmp_path / "out", max_bytes=10)


@pytest.mark.parametrize("mode", ["zip", "w:gz", "w:xz", "w:bz2"])
def test_a_bomb_is_refused_by_its_ratio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr(archives, "HARMLESS_BYTES", 2**20)
    path, bomb = tmp_path / "a", {"bomb": bytes(2**23)}
    archive = make_zip(path, bomb) if mode == "zip" else make_tar(path, bomb, mode)
    assert_refused(archive, "'bomb' unpacks beyond")


def test_a_small_archive_may_be_as_empty_as_a_mask_of_one_class(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"mask.tif": bytes(2**23)})
    assert archive.stat().st_size * archives.MAX_RATIO < 2**23
    extract_archive(archive, tmp_path / "out")
    assert (tmp_path / "out" / "mask.tif").stat().st_size == 2**23


def test_a_zip_whose_header_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"bomb": bytes(2**20)})
    patch_zip(archive, 24, (1000).to_bytes(4, "little"))
    assert_refused(archive, "broken or cut off at member 'bomb'", max_bytes=2000)


def test_a_reader_that_gives_more_than_the_header_says_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = make_zip(tmp_path / "a.zip", {"bomb": b"12345"})
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: io.BytesIO(bytes(2**23)))
    assert_refused(archive, "'bomb' unpacks beyond", max_bytes=2**21)


def test_a_member_that_says_it_is_too_big_is_not_even_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = make_zip(tmp_path / "a.zip", {"bomb": b"12345"})
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("opened"))
    assert_refused(archive, "'bomb' unpacks beyond 4 bytes", max_bytes=4)


def test_a_reader_that_gives_less_than_the_header_says_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = make_zip(tmp_path / "a.zip", {"a.tif": b"12345"})
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: io.BytesIO(b"1234"))
    assert_refused(archive, "broken or cut off at member 'a.tif' .4 of 5 bytes")


def test_a_swarm_of_empty_members_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 9)
    archive = make_tar(tmp_path / "a", {str(number): b"" for number in range(10)})
    assert_refused(archive, "'9' is one too many: wanted up to 9")


@pytest.mark.parametrize("mode", ["zip", "w:", "w:gz", "w:xz", "w:bz2"])
@pytest.mark.parametrize("part", [0.2, 0.5, 0.9, 0.999])
def test_a_truncated_archive_is_refused(tmp_path: Path, mode: str, part: float) -> None:
    path = tmp_path / "a"
    members = {"a": BODY[:30_000], "b": OTHER[:30_000]}
    _ = make_zip(path, members) if mode == "zip" else make_tar(path, members, mode)
    data = path.read_bytes().rstrip(b"\0") if mode == "w:" else path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    assert_refused(path, "broken or cut off")


def test_a_tar_cut_off_between_two_members_is_refused(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "a.tar", {"a": bytes(512), "b": bytes(512)})
    archive.write_bytes(archive.read_bytes()[:1024])
    assert_refused(archive, r"broken or cut off at member 'a' \(no further member")


def test_a_tar_with_a_damaged_header_is_refused(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "a.tar", {"a": bytes(512), "b": bytes(512)})
    data = bytearray(archive.read_bytes())
    data[1024:1030] = b"xxxxxx"
    archive.write_bytes(data)
    assert_refused(archive, r"broken or cut off at member 'a' \(no further member")


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_flipped_bit_in_a_packed_tar_is_refused(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    data = bytearray(pack(make_tar(tmp_path / "a", {"a": BODY[:30_000]}).read_bytes()))
    data[len(data) // 2] ^= 1
    (tmp_path / "a").write_bytes(data)
    assert_refused(tmp_path / "a", "broken or cut off")


def test_a_flipped_bit_in_a_zip_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"a.tif": BODY[:30_000]}, zipfile.ZIP_STORED)
    data = bytearray(archive.read_bytes())
    data[15_000] ^= 1
    archive.write_bytes(data)
    assert_refused(archive, "broken or cut off at member 'a.tif'.*CRC")


@pytest.mark.parametrize("data", [b"", b"PK", b"<html>log in</html>", BODY], ids=len)
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    assert_refused(tmp_path / "a", "broken or cut off at its start")


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_an_archive_without_data_is_refused(
    tmp_path: Path, make: Callable[[Path, dict[str, bytes]], Path]
) -> None:
    assert_refused(make(tmp_path / "a", {}), "it holds no data")


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.zip: no such file"):
        extract_archive(tmp_path / "gone.zip", tmp_path / "out")


def test_an_existing_folder_is_left_as_it_is(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", TREE)
    (tmp_path / "out").mkdir()
    with pytest.raises(FileExistsError, match=r"out: exists already.*remove it"):
        extract_archive(archive, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_crash_leaves_only_the_partial_folder_and_the_next_call_succeeds(
    tmp_path: Path,
) -> None:
    archive = make_zip(tmp_path / "a.zip", TREE)
    crash = """
        import os, sys
        from pathlib import Path
        from pointcover.datasets import archives
        os.sync = lambda: os._exit(9)
        archives.extract_archive(Path(sys.argv[1]), Path(sys.argv[2]))
    """
    assert run_python(crash, str(archive), str(tmp_path / "out")).returncode == 9
    assert {path.name for path in tmp_path.iterdir()} == {"a.zip", "out.partial"}
    (tmp_path / "out.partial" / "left over").write_text("by the crash")
    extract_archive(archive, tmp_path / "out")
    assert files_in(tmp_path / "out") == TREE
    assert not (tmp_path / "out.partial").exists()


def test_a_disk_that_fills_up_while_unpacking_leaves_nothing(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"small": b"1", "big.tif": BODY})
    call = "archives.extract_archive(Path(sys.argv[1]), Path(sys.argv[2]))"
    done = run_python(FULL_DISK.format(call=call), str(archive), str(tmp_path / "out"))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    for part in ("OSError", "File too large", "'big.tif'", str(archive), "free some space"):
        assert part in line
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text("aA./\\:\0é", min_size=1, max_size=8), min_size=1, max_size=3))
def test_no_name_makes_a_file_outside_the_folder(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    root = tmp_path_factory.mktemp("names")
    archive = make_tar(root / "a.tar", dict.fromkeys(names, b"x"))
    try:
        extract_archive(archive, root / "deep" / "out")
    except ValueError:
        assert not (root / "deep" / "out").exists()
    else:
        assert len(files_in(root / "deep" / "out")) == len(set(names))
    assert set(os.listdir(root)) <= {"a.tar", "deep"}  # noqa: PTH208
    shutil.rmtree(root)
