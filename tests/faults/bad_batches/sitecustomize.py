"""Makes the loss of some micro-batches NaN in every process that has this folder first on its PYTHONPATH.

No video does: pixels are bytes. What can is a defect of a kernel or of memory, which this stands for.
"""

import importlib.util
import sys
from importlib.abc import MetaPathFinder
from types import ModuleType

BAD_BLOCKS = {49, 85, 91, 94}
"""With four micro-batches a step: one of step 13, and one of each of steps 22, 23 and 24."""


class Spoiler(MetaPathFinder):
    """Waits for the tasks to be imported: torch should not be by processes that do without."""

    def find_spec(self, name, path=None, target=None):
        if name != "mae_dist.train.tasks":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def execute_and_spoil(module: ModuleType) -> None:
            execute(module)
            spoil(module.PretrainTask)

        spec.loader.exec_module = execute_and_spoil
        return spec


def spoil(task: type) -> None:
    forward = task.forward

    def spoiled(self, batch):
        out = forward(self, batch)
        if batch["block"] not in BAD_BLOCKS:
            return out
        loss = out.loss * float("nan")
        return out._replace(loss=loss, metrics={"loss": loss.detach()})

    task.forward = spoiled


sys.meta_path.insert(0, Spoiler())
