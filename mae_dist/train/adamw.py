"""AdamW (arXiv 1711.05101) as torch has it, but for the import of torch's compiler."""

from __future__ import annotations

import inspect
from typing import Any

import torch


def _plain(method: str) -> Any:
    """The method of torch's AdamW without any decorator."""
    return inspect.unwrap(getattr(torch.optim.AdamW, method))


class AdamW(torch.optim.AdamW):
    """torch.optim.AdamW for a training that compiles its model and not its optimiser.

    Torch's methods import all of the compiler, a second of CPU whenever a worker starts, only to say that it
    should leave them alone.
    """

    step = torch.no_grad()(_plain("step"))
    add_param_group = _plain("add_param_group")
    zero_grad = _plain("zero_grad")
    state_dict = _plain("state_dict")
    load_state_dict = _plain("load_state_dict")
