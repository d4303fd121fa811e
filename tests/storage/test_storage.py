"""Storage means the same on a disk and in a bucket."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mae_dist import storage
from mae_dist.storage import StorageDamagedError, StorageError, objects


def test_bytes_written_are_read_back(root):
    uri = storage.join(root, "deep", "er", "a.bin")
    storage.write_bytes(uri, b"first")
    storage.write_bytes(uri, b"second")
    assert storage.read_bytes(uri) == b"second"
    assert storage.size(uri) == 6
    assert storage.exists(uri)
    assert storage.exists(storage.join(root, "deep"))


def test_an_empty_file_is_a_file(root):
    uri = storage.join(root, "empty")
    storage.write_bytes(uri, b"")
    assert storage.exists(uri)
    assert storage.read_bytes(uri) == b""


@pytest.mark.parametrize(("start", "length"), [(0, 3), (2, 4), (8, 5), (10, 1), (25, 2), (3, 0), (4, None)])
def test_a_range_is_what_a_slice_is(root, start, length):
    uri = storage.join(root, "digits")
    data = b"0123456789"
    storage.write_bytes(uri, data)
    expected = data[start:] if length is None else data[start : start + length]
    assert storage.read_bytes(uri, start=start, length=length) == expected


def test_a_large_file_is_read_in_pieces_and_whole(root, monkeypatch):
    monkeypatch.setattr(objects, "LARGE_BYTES", 1000)
    data = os.urandom(10_500)
    uri = storage.join(root, "large")
    storage.write_bytes(uri, data)
    assert storage.read_bytes(uri) == data


def test_a_large_file_is_written_in_parts_and_whole(root):
    data = os.urandom(objects.PART_BYTES * 2 + 1)
    uri = storage.join(root, "large")
    storage.write_bytes(uri, data)
    assert storage.read_bytes(uri) == data
    assert (
        storage.read_bytes(uri, start=objects.PART_BYTES - 1, length=3) == data[objects.PART_BYTES - 1 :][:3]
    )


def test_bytes_are_held_against_their_digest(root):
    uri = storage.join(root, "a.jpg")
    storage.write_bytes(uri, b"0123456789")
    recorded = hashlib.sha256(b"345").hexdigest()
    assert storage.read_bytes(uri, start=3, length=3, sha256=recorded) == b"345"
    storage.write_bytes(uri, b"0123456780")
    assert storage.read_bytes(uri, start=3, length=3, sha256=recorded) == b"345"
    with pytest.raises(StorageDamagedError, match=r"a\.jpg: is damaged or was replaced: sha256 .* recorded"):
        storage.read_bytes(uri, start=7, length=3, sha256=recorded)


def test_appending_adds_to_the_end_and_makes_the_file(root):
    uri = storage.join(root, "logs", "log.jsonl")
    storage.append_bytes(uri, b"one\n")
    storage.append_bytes(uri, b"two\n")
    assert storage.read_bytes(uri) == b"one\ntwo\n"


def test_only_the_first_of_many_creates_a_file(root):
    uri = storage.join(root, "LOCK")
    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(lambda i: storage.create_exclusive(uri, f"driver {i}".encode()), range(8)))
    assert sum(created) == 1
    assert storage.read_bytes(uri) == f"driver {created.index(True)}".encode()
    assert storage.list_dir(root) == ["LOCK"]


def test_a_disk_without_hard_links_still_creates_once(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    uri = str(tmp_path / "LOCK")
    assert storage.create_exclusive(uri, b"a")
    assert not storage.create_exclusive(uri, b"b")
    assert storage.read_bytes(uri) == b"a"


def test_a_folder_lists_its_names_sorted(root):
    for name in ["b.txt", "a/deep.txt", "a/x/y.txt", "c"]:
        storage.write_bytes(storage.join(root, name), b"x")
    assert storage.list_dir(root) == ["a", "b.txt", "c"]
    assert storage.list_dir(storage.join(root, "a")) == ["deep.txt", "x"]
    assert storage.list_dir(storage.join(root, "missing")) == []


def test_walking_finds_every_file_in_order_of_uri(root):
    sizes = {"a/b.txt": 1, "a.txt": 2, "a/c/d.txt": 3, "z": 4, "a-b/e": 5}
    for name, num_bytes in sizes.items():
        storage.write_bytes(storage.join(root, name), b"x" * num_bytes)
    found = list(storage.walk_files(root))
    assert [(file.uri, file.size_bytes) for file in found] == sorted(
        (storage.join(root, name), num_bytes) for name, num_bytes in sizes.items()
    )
    assert list(storage.walk_files(found[0].uri)) == found[:1]
    assert list(storage.walk_files(storage.join(root, "missing"))) == []


def test_walking_follows_links_but_not_in_circles(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "f").write_bytes(b"12")
    (tmp_path / "real" / "up").symlink_to(tmp_path)
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    found = {
        file.uri[len(str(tmp_path)) + 1 :]: file.size_bytes for file in storage.walk_files(str(tmp_path))
    }
    assert found == {"real/f": 2, "linked/f": 2, "dangling": 0}


def test_deleting_twice_is_fine_and_leaves_neighbours_alone(root):
    for name in ["run/a", "run/deep/b", "run-2/c"]:
        storage.write_bytes(storage.join(root, name), b"x")
    for _ in range(2):
        storage.delete(storage.join(root, "run/a"))
    assert storage.list_dir(storage.join(root, "run")) == ["deep"]
    for _ in range(2):
        storage.delete_tree(storage.join(root, "run"))
    assert [file.uri for file in storage.walk_files(root)] == [storage.join(root, "run-2/c")]


def test_an_open_file_can_be_read_here_and_there(root):
    uri = storage.join(root, "letters")
    storage.write_bytes(uri, bytes(range(256)) * 8)
    with storage.open_seekable(uri) as file:
        assert file.seek(-4, os.SEEK_END) == 2044
        assert file.read() == bytes([252, 253, 254, 255])
        assert file.seek(300) == 300
        assert file.read(3) == bytes([44, 45, 46])
        assert file.tell() == 303
        assert file.read(0) == b""


def test_json_goes_there_and_back(root):
    uri = storage.join(root, "a.json")
    storage.write_json(uri, {"größe": [1, 2.5, None]})
    assert storage.read_json(uri) == {"größe": [1, 2.5, None]}
    storage.write_bytes(uri, b'{"a": \n oops}')
    with pytest.raises(StorageError, match=r"a\.json: is not JSON: .*line 2"):
        storage.read_json(uri)


def test_a_killed_writer_leaves_no_half_file(tmp_path):
    """The writer dies after the bytes are written and before they are published."""

    def die(*_: object) -> None:
        os._exit(9)

    uri = str(tmp_path / "state")
    storage.write_bytes(uri, b"old and whole")
    child = os.fork()
    if child == 0:
        Path.replace = die  # type: ignore[method-assign]
        storage.write_bytes(uri, b"new")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert len(list(tmp_path.iterdir())) == 2
    assert storage.read_bytes(uri) == b"old and whole"
    assert storage.list_dir(str(tmp_path)) == ["state"]
    assert [file.uri for file in storage.walk_files(str(tmp_path))] == [uri]


def _read_into(uri: str, pipe) -> None:
    pipe.send(storage.read_bytes(uri))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_process_reads_what_its_parent_wrote(root, method):
    uri = storage.join(root, "shared")
    storage.write_bytes(uri, b"hello child")
    context = multiprocessing.get_context(method)
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_read_into, args=(uri, there))
    child.start()
    try:
        assert here.poll(60), "the child did not answer"
        assert here.recv() == b"hello child"
    finally:
        child.join(10)
        child.kill()


def test_joining_puts_one_slash_between_parts():
    assert storage.join("s3://bucket/", "/a/", "b") == "s3://bucket/a/b"
    assert storage.join("/data", "a", "", "b/c") == "/data/a/b/c"
    assert storage.join("runs") == "runs"
    assert storage.join("/", "a") == "/a"


def test_a_place_on_a_disk_has_a_path_and_one_in_a_bucket_has_none(tmp_path):
    assert storage.local_path(f"file://{tmp_path}/a") == f"{tmp_path}/a"
    assert storage.local_path(f"{tmp_path}/a") == f"{tmp_path}/a"
    assert storage.local_path("s3://bucket/a") is None
