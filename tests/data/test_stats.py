"""CPU time of a block, wherever it is spent."""

from __future__ import annotations

import subprocess
import sys

from mae_dist.data.stats import BlockMeter, cpu_seconds

BUSY = """
import sys, time
while time.process_time() < 0.3:
    pass
print("done", flush=True)
sys.stdin.read()
"""


def test_cpu_time_of_a_child_counts_while_it_lives_and_after():
    before = cpu_seconds()
    with subprocess.Popen(
        [sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        alive = cpu_seconds() - before
    assert 0.3 <= alive <= cpu_seconds() - before


def test_what_is_no_data_is_neither_read_nor_decoded():
    meter = BlockMeter()
    assert [*meter.reading([b"12345", ValueError(), b"678"])][::2] == [b"12345", b"678"]
    assert (meter.stats().decodes, meter.stats().read_bytes) == (2, 8)
