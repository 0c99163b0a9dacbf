"""The predictions of the models of a report: errors over the split, and pictures of a few images for the gallery."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from mmengine.config import Config
from PIL import Image

from mtl_plugins.config.links import datasets_of, set_data_root
from mtl_plugins.errors import ConfigError
from mtl_plugins.lab.analysis.analysis import ERROR, Analysis, TrainedModel, analyse, choose_examples, rank_images
from mtl_plugins.lab.analysis.pixel_errors import errors_of
from mtl_plugins.lab.plots.analysis_pictures import draw_ranked
from mtl_plugins.lab.report.groups import RunGroup
from mtl_plugins.lab.runs.work_dirs import recorded_config
from mtl_plugins.lab.samples import Sample, build_loader, labels_of, predict_samples
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.labels.pictures import describe_legend
from mtl_plugins.utils.data_files import PLUGINS_ADVICE

# Larger pictures are made smaller: the page holds all of them.
WIDEST = 640
# Of plots on a page: two of the usual width are side by side, and letters can still be read.
PLOT_SCALE = 0.58
_QUALITY = 82


@dataclass
class Predictions:
    """The models of a report, by name of the group, on the ``number`` images of a split.

    ``samples`` are some images, with the predictions in the order of ``analyses``; ``ranked`` has pictures of the best, median
    and worst images of the model ``ranked_of`` by label.
    """

    labels: dict[str, LabelKind]
    split: str
    number: int
    analyses: dict[str, Analysis]
    samples: list[Sample]
    ranked: dict[str, np.ndarray] = field(default_factory=dict)
    ranked_of: str = ''

    @property
    def aspect(self) -> float:
        height, width = self.samples[0].image.shape[:2]
        return width / height


def predict(
    groups: Sequence[RunGroup],
    best: str,
    data_root: str | None = None,
    split: str | None = None,
    examples: int = 6,
) -> Predictions:
    """Run a model of each group over a split, that of its validation by default.

    ``best`` is the group whose best and worst images are shown, ``examples`` the number of images of the gallery: the classes
    that cover most of an image take turns, whatever is predicted.

    Raises:
        ConfigError: If the data are not there, or a run's classes are others.
        CheckpointError: If a checkpoint does not fit.
    """
    runs = {group.name: group.representative for group in groups}
    configs = [recorded_config(run, 'val_dataloader') for run in runs.values()]
    _set_data_root(configs[0], data_root)
    models = [
        TrainedModel.load(name, config, str(run.checkpoint('best') or run.checkpoint('last')), PLUGINS_ADVICE)
        for (name, run), config in zip(runs.items(), configs, strict=True)
    ]
    networks = [each.model for each in models]
    loader = build_loader(networks, configs, split)
    analyses, largest = {}, []
    for each in models:
        # One by one: they need no label in common.
        (analyses[each.name],), largest = analyse([each], loader)
    labels, dataset = labels_of(loader), loader.dataset
    found = Predictions(
        labels=labels,
        split=dataset.split,
        number=len(dataset),
        analyses=analyses,
        samples=list(predict_samples(networks, loader, choose_examples(largest, examples))),
    )
    if best in analyses:
        found.ranked_of = best
        network = analyses[best].trained.model
        for name in network.label_names:
            if errors_of(labels[name]).names:
                ranks = rank_images(analyses[best], f'{ERROR}{name}', 2)
                wanted = [image['position'] for some in ranks.values() for image in some]
                rows = {
                    each.position: dict(image=each.image, labels=each.values, predictions=each.predictions[0])
                    for each in predict_samples([network], loader, sorted(set(wanted)))
                }
                found.ranked[name] = draw_ranked(ranks, rows, f'{ERROR}{name}', labels)
    return found


def _set_data_root(config: Config, data_root: str | None) -> None:
    if data_root:
        set_data_root(config, data_root)
    for dataset in datasets_of(config.val_dataloader.dataset):
        root = dataset.get('data_root')
        if root and not Path(root).is_dir():
            raise ConfigError(
                f"The data folder '{root}' of the first run does not exist: give --data-root, or --no-predictions for a report "
                'without pictures, confusion matrices and errors by distance.'
            )


def gallery_of(found: Predictions) -> dict:
    """Return the data of the page's gallery.

    Returns:
        ``layers``, each with ``id``, ``title``, ``label`` and ``group`` (None for the photograph and what is true);
        ``legends`` by ``label``; ``examples``, each with ``name``, ``aspect`` and ``pictures``: a data URI by layer.
    """
    names = list(found.analyses)
    layers = [dict(id='image', title='image', label=None, group=None)]
    examples = [dict(name=sample.name, pictures=dict(image=encode_photo(sample.image))) for sample in found.samples]
    for example, sample in zip(examples, found.samples, strict=True):
        example['aspect'] = round(sample.image.shape[1] / sample.image.shape[0], 4)
    legends = {}
    for label, kind in found.labels.items():
        if not any(label in sample.values for sample in found.samples):
            continue
        errors = errors_of(kind)
        layers.append(dict(id=f'{label}/true', title=kind.titles[0], label=label, group=None))
        legends[label] = describe_legend(kind.legend(), kind.colour_bar(), kind.note())
        legends[f'{label}/errors'] = describe_legend([], errors.bar(), errors.note)
        for place, name in enumerate(names):
            shown = [sample.predictions[place].get(label) for sample in found.samples]
            if all(prediction is None for prediction in shown):
                continue
            layers.append(dict(id=f'{label}/{place}', title=kind.titles[1], label=label, group=name))
            for example, prediction in zip(examples, shown, strict=True):
                example['pictures'][f'{label}/{place}'] = encode(kind.colour(prediction))
            if errors.names:
                layers.append(dict(id=f'{label}/{place}/errors', title='errors', label=f'{label}/errors', group=name))
                for example, sample, prediction in zip(examples, found.samples, shown, strict=True):
                    if label in sample.values:
                        picture = errors.colour(sample.values[label], prediction)
                        example['pictures'][f'{label}/{place}/errors'] = encode(picture)
        for example, sample in zip(examples, found.samples, strict=True):
            if label in sample.values:
                example['pictures'][f'{label}/true'] = encode(kind.colour(sample.values[label]))
    return dict(layers=layers, legends=legends, examples=examples)


def encode_photo(image: np.ndarray, widest: int = WIDEST) -> str:
    """Return a picture ``(H, W, 3)`` uint8 as data URI of a JPEG, made smaller where it is wider."""
    picture = Image.fromarray(image)
    if picture.width > widest:
        picture = picture.resize((widest, round(picture.height * widest / picture.width)), Image.Resampling.LANCZOS)
    return _data_uri(picture, 'JPEG', quality=_QUALITY)


def encode_plot(pixels: np.ndarray) -> dict:
    """Return a plot ``(H, W, 3)`` uint8 as ``source``, a data URI of a PNG with 256 colours, and its ``width`` on a page."""
    source = _data_uri(Image.fromarray(pixels).quantize(256, dither=Image.Dither.NONE), 'PNG', optimize=True)
    return dict(source=source, width=round(PLOT_SCALE * pixels.shape[1]))


def encode(colours: np.ndarray) -> str:
    """Return a coloured map ``(H, W, 3)`` uint8 as data URI: exact in a palette where it has few colours, else as JPEG."""
    picture = Image.fromarray(np.ascontiguousarray(colours))
    if picture.width > WIDEST:
        picture = picture.resize((WIDEST, round(picture.height * WIDEST / picture.width)), Image.Resampling.NEAREST)
    few = picture.getcolors(64)
    if few is None:
        return _data_uri(picture, 'JPEG', quality=_QUALITY, subsampling=0)
    return _data_uri(picture.quantize(len(few), dither=Image.Dither.NONE), 'PNG', optimize=True)


def _data_uri(picture: Image.Image, form: str, **options) -> str:
    data = io.BytesIO()
    picture.save(data, form, **options)
    return f'data:image/{form.lower()};base64,{base64.b64encode(data.getvalue()).decode()}'
