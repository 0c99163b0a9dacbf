"""Contents of the training labels, logged before the training starts."""

from mmengine.dist import master_only
from mmengine.hooks import Hook

from mtl_plugins.datasets.packing.statistics import describe_labels
from mtl_plugins.registry import HOOKS


@HOOKS.register_module()
class LabelSummaryHook(Hook):
    """Log which classes or metres each label has, and warn of likely mistakes.

    Such as masks of 0 and 255, a class without a pixel, ``reduce_zero_label`` on ids that start with the first class, or depth in
    millimetres. Looks at 100 samples from all over the training split, within a second. Data sets without labels pass.
    """

    priority = 'LOW'

    @master_only
    def before_train(self, runner) -> None:
        lines, doubts = describe_labels(runner.train_dataloader.dataset)
        for line in lines:
            runner.logger.info(line)
        for doubt in doubts:
            runner.logger.warning(doubt)
