"""The totals of a process: requests, repetitions, bytes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from mae_dist import storage


def test_reading_is_counted_from_any_thread(root):
    uri = storage.join(root, "a.bin")
    storage.write_bytes(uri, bytes(1000))
    before = storage.counters()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: storage.read_bytes(uri, start=100, length=500), range(20)))
    after = storage.counters()
    assert after.bytes_read - before.bytes_read == 20 * 500
    assert after.requests - before.requests == (20 if uri.startswith("s3://") else 0)
    assert after.retries == before.retries
