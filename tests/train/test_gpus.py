"""What a user calls a GPU is found in the table, with the memory that is meant."""

from __future__ import annotations

import pytest

from mae_dist.train.gpus import GPUS, gpu_named


@pytest.mark.parametrize(
    ("given", "name", "memory_gb"),
    [
        ("h100", "H100", 80),
        ("H100-PCIe", "H100 PCIe", 80),
        ("h200 nvl", "H200 NVL", 141),
        ("a100", "A100", 40),
        ("A100-80GB", "A100", 80),
        ("v100-pcie-32gb", "V100-PCIE", 32),
    ],
)
def test_a_gpu_has_several_spellings(given, name, memory_gb):
    assert gpu_named(given) == (name, GPUS[name], memory_gb)


def test_every_gpu_can_be_named_and_says_where_its_numbers_come_from():
    for name, gpu in GPUS.items():
        assert gpu_named(name)[0] == name
        assert gpu.source
        assert sorted(gpu.memory_gb) == list(gpu.memory_gb)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [("rtx4090", "no GPU is known as 'rtx4090'"), ("h100-96gb", "H100 comes with 80 GB")],
)
def test_what_is_not_in_the_table_is_refused(given, complaint):
    with pytest.raises(ValueError, match=complaint):
        gpu_named(given)
