"""What the decoder shall predict: pixels in several forms and what stands for them, and the loss on it.

pixels      of the patch, normalised as the papers do, and the way back
gradients   histograms of oriented gradients
components  principal components
maker       the target of a micro-batch, as the config says
"""

from mae_dist.model.targets.gradients import oriented_gradients
from mae_dist.model.targets.losses import LOSSES, code_loss, reconstruction_loss
from mae_dist.model.targets.maker import TargetMaker, frames_of
from mae_dist.model.targets.pixels import TARGETS, normalise, to_pixels

__all__ = [
    "LOSSES",
    "TARGETS",
    "TargetMaker",
    "code_loss",
    "frames_of",
    "normalise",
    "oriented_gradients",
    "reconstruction_loss",
    "to_pixels",
]
