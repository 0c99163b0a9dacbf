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
# The name of the graph's input.
INPUT = 'images'
FLOATS = ('float32', 'bfloat16', 'float16')
_FORM = dict(outputs=[dict(name=is_text)], labels={ANY: {}}, size=[is_number], batch=is_number, made={})


@dataclass(frozen=True)
class Description:
    """Description of an exported file.

    Attributes:
        labels: Config of the kind of label of each output, by the name of the output, in their order.
        precision: In which the network computes: ``'float32'``, ``'bfloat16'``, ``'float16'`` or ``'int8'``.
        size: Height and width of the only images that it takes; None for any.
        batch: The only number of images that it takes; None for any.
        made: Where it comes from: config, checkpoint, versions.
    """

    labels: dict[str, dict[str, Any]]
    precision: str = 'float32'
    size: tuple[int, int] | None = None
    batch: int | None = None
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
            # Of earlier files.
            if found.pop('content', 'images') != 'images':
                raise ValueError('a bare network')
            found.pop('network_input', None)
            outputs = found.pop('outputs')
            # Objects of JSON keep their order, those of other writers may not.
            found['labels'] = {output['name']: dict(found['labels'][output['name']]) for output in outputs}
            found['size'] = tuple(found['size']) if found['size'] else None
            description = cls(**found)
            if description.precision not in (*FLOATS, 'int8') or not outputs:
                raise ValueError('unknown precision, or no outputs')
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
    configs = model.data_preprocessor.label_configs
    # As JSON gives them back: lists for tuples, strings for keys.
    labels = {name: json.loads(json.dumps(dict(configs[name]))) for name in model.label_names}
    return Description(labels=labels, **attributes)
