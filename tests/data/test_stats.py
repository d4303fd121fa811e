"""CPU time of a block, wherever it is spent."""

from __future__ import annotations

import subprocess
import sys

from mae_dist import storage
from mae_dist.data.decoder import process_decoder
from mae_dist.data.stats import BlockMeter, cpu_seconds

BUSY = """
import sys, time
while time.process_time() < 0.3:
    pass
print("done", flush=True)
sys.stdin.read()
"""


def test_cpu_time_of_a_child_counts_while_it_lives_and_after():
    before = cpu_seconds(None)
    with subprocess.Popen(
        [sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        alive = cpu_seconds(child.pid) - before
    assert 0.3 <= alive <= cpu_seconds(None) - before


def test_what_is_no_data_is_neither_read_nor_decoded():
    meter = BlockMeter(process_decoder())
    assert [*meter.reading([b"12345", ValueError(), b"678"])][::2] == [b"12345", b"678"]
    assert (meter.stats().decodes, meter.stats().read_bytes) == (2, 8)


def test_a_block_says_what_its_samples_took_from_storage(place):
    uri = storage.join(place, "shard")
    storage.write_bytes(uri, bytes(1000))
    earlier = storage.read_bytes(uri)
    meter = BlockMeter(process_decoder())
    [*meter.reading([storage.read_bytes(uri, start=0, length=500)[:300], earlier[:50]])]
    stats = meter.stats()
    assert (stats.read_bytes, stats.fetched_bytes) == (350, 500)
    assert (stats.requests, stats.retries) == (int(uri.startswith("s3://")), 0)


def test_what_is_read_again_because_it_was_damaged_counts_as_repeated(tmp_path):
    def check(data: bytes) -> None:
        damages.append(data)
        if len(damages) < 2:
            raise storage.StorageDamagedError("a bit has flipped")

    damages: list[bytes] = []
    storage.write_bytes(f"{tmp_path}/file", bytes(100))
    meter = BlockMeter(process_decoder())
    storage.read_checked(f"{tmp_path}/file", check)
    assert (meter.stats().fetched_bytes, meter.stats().retries) == (200, 1)
