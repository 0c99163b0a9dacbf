"""State of a runner that hooks need."""

from mmengine.model import is_model_wrapper
from torch import nn


def is_training(runner) -> bool:
    """Return True if the runner trains, False in a validation or test without training."""
    # mmengine builds the loop when the training begins; before, it is its config.
    loop = runner._train_loop
    return loop is not None and not isinstance(loop, dict)


def unwrap(model: nn.Module) -> nn.Module:
    """Return the model inside a wrapper for several processes; any other model as it is."""
    return model.module if is_model_wrapper(model) else model
