"""Tar shards: every sample found where tarfile finds it, in few requests, whatever the tar tries."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest

from mae_dist import storage
from mae_dist.config.limits import DecodeLimits
from mae_dist.data.catalog import Catalog
from mae_dist.data.fetch import fetch
from mae_dist.data.readers import SourceError, build_catalog
from mae_dist.data.readers.tars import index_tar
from mae_dist.data.shards import ShardError
from mae_dist.storage import FileInfo

LIMITS = DecodeLimits()


def tar(members: list[tuple[str, bytes]], *, format: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as output:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            output.addfile(info, io.BytesIO(data))
    return file.getvalue()


def noise(seed: int, num_bytes: int) -> bytes:
    return np.random.default_rng(seed).bytes(num_bytes)


def images(num_samples: int, *, size: int = 3000, first: int = 0) -> list[tuple[str, bytes]]:
    """(name, data) of the members of labelled samples; labels come in no order."""
    members = []
    for sample in range(first, first + num_samples):
        members += [
            (f"{sample:06d}.cls", str(sample * 7 % 5).encode()),
            (f"{sample:06d}.jpg", noise(sample, size + sample)),
        ]
    return members


def fetched(catalog: Catalog) -> list[bytes]:
    return [
        data
        for data in fetch(catalog.rows(np.arange(catalog.num_samples)), LIMITS)
        if isinstance(data, bytes)
    ]


@pytest.fixture
def requests(monkeypatch) -> list[tuple[int | None, int | None]]:
    """(start, length) of every read of storage from now on."""
    made = []
    read_bytes = storage.read_bytes

    def counting(uri, *, start=None, length=None):
        made.append((start, length))
        return read_bytes(uri, start=start, length=length)

    monkeypatch.setattr(storage, "read_bytes", counting)
    return made


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_is_read_is_what_tarfile_extracts(place, format):
    for number in range(2):
        long_name = [("deep/" * 15 + "long" * 20 + ".jpg", noise(9, 100))] * (format != tarfile.USTAR_FORMAT)
        data = tar(images(5, first=5 * number) + long_name, format=format)
        storage.write_bytes(storage.join(place, f"{number}.tar"), data)
    catalog = build_catalog(place)
    expected = []
    for number in range(2):
        with tarfile.open(
            fileobj=io.BytesIO(storage.read_bytes(storage.join(place, f"{number}.tar")))
        ) as file:
            for info in file.getmembers():
                member = file.extractfile(info)
                assert member is not None
                expected += [member.read()] * info.name.endswith(".jpg")
    assert fetched(catalog) == expected
    labelled = [sample * 7 % 5 for sample in range(5)]
    assert catalog.table["label"].to_pylist()[:5] == labelled
    assert catalog.table["key"][1].as_py() == "0.tar/000001"
    assert set(catalog.table["media"].to_pylist()) == {"image"}


def test_labels_come_from_cls_or_json_and_are_numbers_or_names(tmp_path):
    members = [
        ("a.mp4", b"video"),
        ("a.json", b'{"label": "run", "fps": 25}'),
        ("b.json", b'{"cls": "jump"}'),
        ("b.mp4", b"another"),
        ("b.txt", b"a caption"),
        ("c.mp4", b"unlabelled"),
        ("d.cls", b"run\n"),
        ("d.mp4", b"last"),
        ("e.txt", b"a sample without pixels"),
    ]
    storage.write_bytes(f"{tmp_path}/a.tar", tar(members))
    catalog = build_catalog(str(tmp_path))
    assert catalog.classes == ("jump", "run")
    assert catalog.table["label"].to_pylist() == [1, 0, -1, 1]
    assert set(catalog.table["media"].to_pylist()) == {"video"}
    assert fetched(catalog) == [b"video", b"another", b"unlabelled", b"last"]


def test_neighbours_of_a_shard_come_with_one_request(tmp_path, requests):
    storage.write_bytes(f"{tmp_path}/0.tar", tar(images(40)))
    storage.write_bytes(f"{tmp_path}/1.tar", tar(images(40, first=40)))
    catalog = build_catalog(str(tmp_path))
    assert catalog.chunk == 512
    requests.clear()
    rows = catalog.rows(np.array([7, 3, 5, 45, 44, 5]))
    data = list(fetch(rows, LIMITS))
    assert len(requests) == 2
    assert data == [noise(sample, 3000 + sample) for sample in (7, 3, 5, 45, 44, 5)]


def test_far_members_come_with_requests_of_their_own(tmp_path, requests):
    storage.write_bytes(f"{tmp_path}/0.tar", tar(images(4, size=1 << 20)))
    catalog = build_catalog(str(tmp_path))
    requests.clear()
    list(fetch(catalog.rows(np.array([0, 2])), LIMITS))
    assert sorted(length for _, length in requests) == [1 << 20, (1 << 20) + 2]


def test_indexing_jumps_over_large_members_and_reads_on_over_small_ones(tmp_path, requests):
    large = tar([(f"{sample}.mp4", bytes(4 << 20)) for sample in range(6)])
    storage.write_bytes(f"{tmp_path}/large/0.tar", large)
    storage.write_bytes(f"{tmp_path}/small/0.tar", tar(images(2000)))
    build_catalog(f"{tmp_path}/large")
    assert sum(length or 0 for _, length in requests) < len(large) / 20
    requests.clear()
    build_catalog(f"{tmp_path}/small")
    assert len(requests) < 12  # 8 MB, in pieces that double


def test_a_shard_that_shrank_or_changed_is_named_sample_by_sample(tmp_path):
    uri = f"{tmp_path}/0.tar"
    data = tar(images(4))
    storage.write_bytes(uri, data)
    catalog = build_catalog(str(tmp_path))
    rows = catalog.rows(np.arange(4))
    storage.write_bytes(uri, data[: rows[2].offset + 100])
    answers = list(fetch(rows, LIMITS))
    assert [isinstance(answer, bytes) for answer in answers] == [True, True, False, False]
    assert str(answers[2]) == "100 bytes are there, the catalog says 3002: it has changed since then"
    storage.delete(uri)
    assert [str(answer) for answer in fetch(rows, LIMITS)] == ["the shard is missing"] * 4


def hostile(kind: str) -> bytes:
    if kind == "cut in a member":
        return tar(images(3))[:5000]
    if kind == "noise after a member":
        whole = bytearray(tar(images(3)))
        whole[1024 : 1024 + 512] = noise(0, 512)
        return bytes(whole)
    if kind == "no tar":
        return noise(1, 4096)
    if kind == "empty":
        return b""
    info = tarfile.TarInfo("a.jpg")
    if kind == "a size below nothing":
        block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        block[124:136] = tarfile.itn(-1024, 12, tarfile.GNU_FORMAT)
    elif kind == "a size beyond everything":
        block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        block[124:136] = tarfile.itn(1 << 60, 12, tarfile.GNU_FORMAT)
    else:
        assert kind == "a chain of long names"
        info.type, info.size = tarfile.GNUTYPE_LONGNAME, 10
        return (info.tobuf(tarfile.GNU_FORMAT) + bytes(512)) * 5000
    block[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(block))[0]
    return tar(images(1))[:4608] + bytes(block) + bytes(4096)  # after the two members and their headers


@pytest.mark.parametrize(
    "kind",
    [
        "cut in a member",
        "noise after a member",
        "no tar",
        "empty",
        "a size below nothing",
        "a size beyond everything",
        "a chain of long names",
    ],
)
def test_a_damaged_or_hostile_tar_is_named_with_the_place(tmp_path, kind):
    uri = f"{tmp_path}/0.tar"
    data = hostile(kind)
    storage.write_bytes(uri, data)
    with pytest.raises(ShardError, match=rf"{uri}: is damaged, or no tar, from byte \d+ of {len(data)} on"):
        build_catalog(str(tmp_path))


def test_path_tricks_are_names_and_links_are_nothing(tmp_path):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as output:
        for name in ("../../outside.jpg", "/absolute.jpg", "a/../b.jpg", ".hidden.jpg", "no ending"):
            info = tarfile.TarInfo(name)
            info.size = 3
            output.addfile(info, io.BytesIO(b"abc"))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo("link.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            output.addfile(info)
    storage.write_bytes(f"{tmp_path}/shards/0.tar", file.getvalue())
    catalog = build_catalog(f"{tmp_path}/shards")
    assert catalog.table["key"].to_pylist() == ["0.tar/../../outside", "0.tar/absolute", "0.tar/a/../b"]
    assert set(catalog.table["uri"].to_pylist()) == {f"{tmp_path}/shards/0.tar"}
    assert fetched(catalog) == [b"abc"] * 3
    assert [path.name for path in tmp_path.rglob("*")] == ["shards", "0.tar"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.left.jpg", b"1"), ("a.right.jpg", b"2")], "sample 'a' has several images or videos"),
        ([("a.jpg", b"1"), ("b.mp4", b"2")], "holds samples with images and samples with videos"),
        ([("a.jpg", b"1"), ("a.json", b"{")], "the label in 'a.json' cannot be read"),
        ([("a.jpg", b"1"), ("a.cls", b"\xff")], "the label in 'a.cls' cannot be read"),
        ([("a.jpg", b"1"), ("a.json", b'{"label": [1]}')], r"is \[1\]; a label is a whole number or a name"),
    ],
)
def test_samples_that_mean_nothing_are_refused(tmp_path, members, message):
    storage.write_bytes(f"{tmp_path}/0.tar", tar(members))
    with pytest.raises(ShardError, match=message):
        index_tar(FileInfo(f"{tmp_path}/0.tar", len(tar(members))))


def test_a_folder_of_packed_or_empty_tars_is_refused(tmp_path):
    storage.write_bytes(f"{tmp_path}/packed/0.tar.gz", b"x")
    with pytest.raises(SourceError, match=r"found 0.tar.gz; a compressed tar cannot be read by range"):
        build_catalog(f"{tmp_path}/packed", kind="tars")
    storage.write_bytes(f"{tmp_path}/empty/0.tar", tar([("readme.txt", b"x")]))
    with pytest.raises(SourceError, match=r"1 shard\(s\), all without samples"):
        build_catalog(f"{tmp_path}/empty")


def test_all_damaged_shards_are_named_at_once(tmp_path):
    for number in range(9):
        good = number in (3, 5)
        storage.write_bytes(f"{tmp_path}/{number}.tar", tar(images(2)) if good else noise(number, 2048))
    with pytest.raises(ShardError, match=r"7 of 9 shards cannot be used:\n") as caught:
        build_catalog(str(tmp_path))
    lines = str(caught.value).splitlines()
    assert len(lines) == 7
    assert lines[1].startswith(f"  {tmp_path}/0.tar: is damaged")
    assert lines[-1] == "  and 2 more"
