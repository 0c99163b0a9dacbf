"""The function that an exported file holds, and its graph."""

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from mtl_plugins.errors import ConfigError
from mtl_plugins.models.decode_heads.deeplabv3plus_head import SkipDecoder
from mtl_plugins.models.utils.inference import prepare_for_inference

# Neither is a multiple of a stride, so that a graph for any size pads; small, for the graph is all that counts.
EXAMPLE_SIZE = (135, 199)
EXAMPLE_BATCH = 2


class ExportedModel(nn.Module):
    """A trained model as one function of tensors: preparing images, network, decoding.

    Args:
        model: A :class:`MultiTaskSegmentor`; it stays as it is.
        content: See :class:`Description`.
        dtype: Of the weights.
        factored_upsampling: How decoders compute their first convolution, where they choose by the size of the image, which a
            graph for any size cannot.
    """

    def __init__(
        self, model: nn.Module, content: str = 'images', dtype: torch.dtype = torch.float32, factored_upsampling: bool = True
    ) -> None:
        super().__init__()
        self.content = content
        self.model = prepare_for_inference(model, dtype=dtype)
        for module in self.model.modules():
            if isinstance(module, SkipDecoder) and module.factored_upsampling is None:
                module.factored_upsampling = factored_upsampling
        self.model.fix_padding()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the values of each label ``(N, H, W)`` or ``(N, H, W, C)``; with the content ``'network'`` its raw outputs."""
        model = self.model
        if self.content == 'network':
            return {model.labels[task]: output.float() for task, output in model(images).items()}
        maps = model.predict_arrays(model.data_preprocessor.to_inputs(images))
        rows, columns = (torch.arange(length, device=images.device) for length in images.shape[1:3])
        # Chosen by number, not as a slice: of a slice torch asks how it lies in memory, and the graph would hold that answer
        # for this size.
        return {
            name: (each if each.ndim == 3 else each.permute(0, 2, 3, 1)).index_select(1, rows).index_select(2, columns)
            for name, each in maps.items()
        }


def trace(function: ExportedModel, *, batch: int | None = None, size: tuple[int, int] | None = None) -> ExportedProgram:
    """Trace the graph of a model, for any images or for a number and a size ``(height, width)`` of them alone.

    Raises:
        ConfigError: If torch cannot trace it; the message says at what.
    """
    number, (height, width) = batch or EXAMPLE_BATCH, size or EXAMPLE_SIZE
    if function.content == 'images':
        rows, example = 1, torch.zeros(number, height, width, 3, dtype=torch.uint8)
    else:
        divisor = getattr(function.model.data_preprocessor, 'size_divisor', None) or 1
        rows, example = 2, torch.zeros(number, 3, *(-(-length // divisor) * divisor for length in (height, width)))
    free = {} if batch else {0: Dim.DYNAMIC}
    if size is None:
        free |= {rows: Dim.DYNAMIC, rows + 1: Dim.DYNAMIC}
    try:
        with torch.no_grad():
            return torch.export.export(function, (example,), dynamic_shapes=(free,), strict=False)
    except Exception as error:
        raise ConfigError(
            f'The model cannot be traced {"for images of any size" if size is None else "at this size"}: '
            f'{reason_of(error)}' + (' A fixed size may work: pass `--size HxW`.' if size is None else '')
        ) from error


def reason_of(error: BaseException) -> str:
    """Return the sentence that matters in an error of an exporter, which may be pages long."""
    lines = [line.strip(' -') for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    # torch's first line of these says no more than which axis it is about.
    told = lines[1] if lines[0].startswith('Constraints violated') and len(lines) > 1 else lines[0]
    return f'{told[:300].rstrip(".")}.'
