"""Metadata of an exported file: its outputs with their units and classes, and its input."""

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from mtl_plugins.errors import CorruptFileError
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.labels.presets import build_label
from mtl_plugins.utils.data_files import ANY, find_misfit, is_number, is_text, parse_json, shorten

if TYPE_CHECKING:
    from torch import nn

# The key of ONNX' metadata and of OpenVINO's `rt_info`, and the name of the extra file in a `.pt2`.
KEY = 'mtl_plugins'
FORMAT = 1
# The name of the input by content: of a graph that prepares its images, and of the bare network.
INPUTS = dict(images='images', network='inputs')
FLOATS = ('float32', 'bfloat16', 'float16')
_FORM = dict(outputs=[dict(name=is_text)], labels={ANY: {}}, size=[is_number], batch=is_number, network_input={}, made={})


@dataclass(frozen=True)
class Description:
    """Description of an exported file.

    Attributes:
        labels: Config of the kind of label of each output, by the name of the output, in their order.
        content: ``'images'``: uint8 RGB ``(N, H, W, 3)`` in, values of the labels out. ``'network'``: normalised float32 ``(N, 3,
            H, W)`` in, the network's upsampled raw outputs ``(N, C, H, W)`` out.
        precision: In which the network computes: ``'float32'``, ``'bfloat16'``, ``'float16'`` or ``'int8'``.
        size: Height and width of the only images that it takes; None for any.
        batch: The only number of images that it takes; None for any.
        network_input: ``mean``, ``std`` and ``size_divisor`` of the input of ``'network'``.
        made: Where it comes from: config, checkpoint, versions.
    """

    labels: dict[str, dict[str, Any]]
    content: str = 'images'
    precision: str = 'float32'
    size: tuple[int, int] | None = None
    batch: int | None = None
    network_input: dict[str, Any] = field(default_factory=dict)
    made: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the text in the file: the attributes, and ``outputs`` with kind, unit and classes for other programs."""
        outputs = [
            dict(name=name, kind=type(kind).__name__, unit=kind.unit, classes=list(getattr(kind, 'classes', ())) or None)
            for name, kind in self.build_labels().items()
        ]
        return json.dumps(dict(format=FORMAT, outputs=outputs, **asdict(self)))

    @classmethod
    def from_json(cls, text: str | None, path: Any) -> 'Description':
        """Read the description of the file ``path``, or raise `CorruptFileError`."""
        try:
            found = parse_json(text or '')
            misfit = find_misfit(found, _FORM)
            if misfit:
                raise ValueError(misfit)
            if found.pop('format') != FORMAT:
                raise ValueError(f'another `format` than {FORMAT}')
            outputs = found.pop('outputs')
            # Objects of JSON keep their order, those of other writers may not.
            found['labels'] = {output['name']: dict(found['labels'][output['name']]) for output in outputs}
            found['size'] = tuple(found['size']) if found['size'] else None
            description = cls(**found)
            if description.content not in INPUTS or description.precision not in (*FLOATS, 'int8') or not outputs:
                raise ValueError('unknown content or precision')
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptFileError(
                f"'{path}' should be written by tools/deployment/export.py, whose files describe themselves. Found no such "
                f'description ({type(error).__name__}: {shorten(error)}).'
            ) from error
        return description

    def build_labels(self) -> dict[str, LabelKind]:
        """Build the kinds of the outputs; `ConfigError` if one is that of a plug-in which is not imported."""
        return {name: build_label(name, config) for name, config in self.labels.items()}


def describe(model: 'nn.Module', **attributes: Any) -> Description:
    """Return the description of a :class:`MultiTaskSegmentor`, with the given attributes."""
    preprocessor = model.data_preprocessor
    network_input = dict(
        mean=preprocessor.mean.flatten().tolist(),
        std=preprocessor.std.flatten().tolist(),
        size_divisor=preprocessor.size_divisor,
    )
    # As JSON gives them back: lists for tuples, strings for keys.
    labels = {name: json.loads(json.dumps(dict(preprocessor.label_configs[name]))) for name in model.label_names}
    return Description(labels=labels, network_input=network_input, **attributes)
