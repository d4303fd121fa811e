"""A compiled model computes the same, is kept on disk, and where it cannot be compiled that is said."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from mae_dist.config.geometry import Stack
from mae_dist.model.transformer import Mlp
from mae_dist.train.compilation import CompilationError, cache_folder, compile_in_place

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))


@pytest.mark.slow
def test_a_compiled_model_has_the_same_losses_gradients_and_names_and_is_kept_on_disk():
    # A compiler takes a minute for a whole autoencoder; what is promised shows in one layer.
    plain = Mlp(Stack(width=8, depth=1, heads=1))
    compiled = copy.deepcopy(plain)
    compile_in_place(compiled, CPU)
    tokens = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    losses = [module(tokens).square().sum() for module in (plain, compiled)]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-6, atol=0)
    for loss in losses:
        loss.backward()
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    for expected, found in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-4, atol=1e-6)
    assert list(cache_folder().rglob("*.so"))


def test_the_cache_lies_in_the_users_cache_folder_unless_it_is_named(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "inductor"
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "mae_dist" / "inductor"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "mae_dist" / "inductor"


def test_a_missing_compiler_is_named_before_the_first_step(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    with pytest.raises(CompilationError) as caught:
        compile_in_place(torch.nn.Linear(2, 2), CPU)
    assert str(caught.value) == (
        "train.compile needs a C++ compiler on CPUs, and there is no 'no-such-compiler' on this machine; "
        "install one, name it in the environment variable CXX, or set train.compile=false"
    )
