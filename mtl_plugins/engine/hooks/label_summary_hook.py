"""Contents of the training labels, logged before the training starts."""

from mmengine.dist import master_only
from mmengine.hooks import Hook

from mtl_plugins.datasets.packing.statistics import describe_labels
from mtl_plugins.errors import ArgumentError
from mtl_plugins.registry import HOOKS


@HOOKS.register_module()
class LabelSummaryHook(Hook):
    """Says of each label which classes or metres there are, and warns of what is almost surely a mistake.

    Such as masks of 0 and 255, a class without a pixel, ``reduce_zero_label`` on ids that start with the first class, or depth in
    millimetres. Data sets without labels pass.

    Args:
        max_samples: Most samples to look at, from all over the training split.
        seconds: Time after which no further sample is read.

    Raises:
        ArgumentError: If ``max_samples`` is less than 1.
    """

    priority = 'LOW'

    def __init__(self, max_samples: int = 100, seconds: float = 1.0) -> None:
        if max_samples < 1:
            raise ArgumentError(f'`max_samples` should be at least 1. Found {max_samples}.')
        self.max_samples = max_samples
        self.seconds = seconds

    @master_only
    def before_train(self, runner) -> None:
        lines, doubts = describe_labels(runner.train_dataloader.dataset, self.max_samples, self.seconds)
        for line in lines:
            runner.logger.info(line)
        for doubt in doubts:
            runner.logger.warning(doubt)
