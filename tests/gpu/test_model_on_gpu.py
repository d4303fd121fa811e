"""The model on a GPU: kernels agree with plain mathematics, compiled with eager, the device with the CPU."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from mae_dist.config.schema import InputConfig, TargetConfig
from mae_dist.model.transformer import attend
from mae_dist.train.compilation import compile_in_place
from mae_dist.train.tasks import PretrainTask
from tests.model.small import SMALL, clips, keep, seeded

pytestmark = pytest.mark.gpu

TARGETS = {"mae": "norm_pixel_mae", "videomae": "norm_pixel_videomae"}


def make_task(name: str) -> PretrainTask:
    architecture, grid = SMALL[name]
    torch.manual_seed(0)
    return PretrainTask(architecture, grid, InputConfig(), TargetConfig(kind=TARGETS[name]))


def make_batch(name: str, device: torch.device) -> dict[str, torch.Tensor]:
    architecture, grid = SMALL[name]
    kept = keep(grid, grid.num_tokens // 4)
    return {"clips": clips(architecture, grid).to(device), "keep": kept.to(device)}


def loss_and_gradients(
    task: PretrainTask, batch: dict[str, torch.Tensor], dtype: torch.dtype | None = None
) -> list[torch.Tensor]:
    """The loss, then all gradients, on the CPU."""
    with torch.autocast(batch["clips"].device.type, dtype=dtype, enabled=dtype is not None):
        loss = task(batch).loss
    loss.backward()
    gradients = [parameter.grad for parameter in task.parameters() if parameter.grad is not None]
    return [values.detach().cpu() for values in [loss, *gradients]]


def assert_near(found: list[torch.Tensor], expected: list[torch.Tensor], share: float) -> None:
    """Every tensor differs by at most this share of its norm."""
    for one, other in zip(found, expected, strict=True):
        assert float((one - other).norm()) <= share * float(other.norm())


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_loss_and_gradients_in_float32_are_those_of_the_cpu(name, gpu):
    expected = loss_and_gradients(make_task(name), make_batch(name, torch.device("cpu")))
    found = loss_and_gradients(make_task(name).to(gpu), make_batch(name, gpu))
    assert_near(found, expected, 1e-4)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_bfloat16_stays_near_float32(name, gpu):
    expected = loss_and_gradients(make_task(name).to(gpu), make_batch(name, gpu))
    found = loss_and_gradients(make_task(name).to(gpu), make_batch(name, gpu), torch.bfloat16)
    assert_near(found[:1], expected[:1], 1e-2)
    assert_near(found, expected, 0.1)


@pytest.mark.parametrize("num_tokens", [1, 50, 197, 1568])
def test_attention_in_bfloat16_agrees_with_plain_mathematics(num_tokens, gpu):
    query, key, value = torch.randn(3, 2, 3, num_tokens, 64, generator=seeded(0)).to(gpu, torch.bfloat16)
    with sdpa_kernel(SDPBackend.MATH):
        expected = attend(query.float(), key.float(), value.float())
    torch.testing.assert_close(attend(query, key, value).float(), expected, rtol=0, atol=0.03)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("name", sorted(TARGETS))
def test_a_compiled_step_computes_what_an_eager_one_does(name, dtype, gpu, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    expected = loss_and_gradients(make_task(name).to(gpu), make_batch(name, gpu), dtype)
    task = make_task(name).to(gpu)
    compile_in_place(task.model, gpu)
    found = loss_and_gradients(task, make_batch(name, gpu), dtype)
    assert_near(found, expected, 1e-4 if dtype is None else 0.05)
