"""Metrics: time per image, and memory over the number of images."""

import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from benchmarks import peers
from benchmarks.evaluation_memory import is_supported, measure_growth
from benchmarks.results import Measurement, Options, Ratio, Result
from benchmarks.scenes import SceneArrays, imitate_predictions, render_arrays, write_scenes
from benchmarks.timing import interleave
from mtl_plugins.evaluation.metrics import MultiTaskMetric

OURS = 'ours, MultiTaskMetric'
PEER = 'mmseg, IoUMetric + DepthMetric'
_EVALUATORS = {
    OURS: [dict(type='MultiTaskMetric')],
    PEER: [dict(type='mmseg.IoUMetric'), dict(type='mmseg.DepthMetric')],
}


def run(options: Options) -> Result:
    """The scores of data samples in memory; then validations in a fresh process, of few images and of many."""
    size, num_samples = ((64, 128), 2) if options.quick else ((256, 512), 16)
    samples = _data_samples(render_arrays(num_samples, size, options.seed))

    def ours() -> None:
        metric = MultiTaskMetric()
        for sample in samples:
            metric.process({}, [sample])
        metric.evaluate(len(samples))

    evaluate_peer = peers.build_mmseg_metrics()
    contenders = {OURS: ours, PEER: lambda: evaluate_peer(samples)}
    time = Measurement('time per image', 'ms', interleave(contenders, options.repeats, scale=1e3 / num_samples))
    measurements = [time]
    ratios = [Ratio('mmseg / ours', time, PEER, OURS, target=3.3)]
    settings = dict(image_size=size, num_samples=num_samples)
    # A fresh process costs ten seconds and more.
    if is_supported() and not options.quick:
        settings |= dict(memory_image_size=(128, 256), few_images=20, many_images=2000)
        growth = Measurement('peak memory of a validation without a network', 'MiB', _peak_memory(options, settings))
        measurements.append(growth)
        for name in (OURS, PEER):
            ratios.append(
                Ratio(
                    f'MiB, 2,000 images - 20 images: {name}',
                    growth,
                    f'{name}, 2,000 images',
                    f'{name}, 20 images',
                    target=50.0 if name == OURS else None,
                    bound='most',
                    difference=True,
                )
            )
    return Result(name='eval', settings=settings, measurements=measurements, ratios=ratios)


def _data_samples(scenes: SceneArrays) -> list[dict]:
    labels, metres = imitate_predictions(scenes)
    maps = dict(pred_sem_seg=labels, gt_sem_seg=scenes.labels, pred_depth_map=metres, gt_depth_map=scenes.depths)
    return [
        dict(sample_idx=index, **{name: dict(data=torch.from_numpy(values[index : index + 1])) for name, values in maps.items()})
        for index in range(len(labels))
    ]


def _peak_memory(options: Options, settings: dict) -> dict[str, list[float]]:
    peaks: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        size = settings['memory_image_size']
        root = write_scenes(Path(folder, 'data'), settings['few_images'], size, options.seed, options.threads)
        for turn in range(min(options.repeats, 3)):
            for position, (name, evaluator) in enumerate(_EVALUATORS.items()):
                counts = (settings['few_images'], settings['many_images'])
                work_dir = Path(folder, f'{turn}_{position}')
                # Spawned: a forked process would inherit this one's memory.
                with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:
                    values = pool.submit(measure_growth, root, work_dir, evaluator, counts, options.threads).result()
                for count, value in zip(('20 images', '2,000 images'), values, strict=True):
                    peaks.setdefault(f'{name}, {count}', []).append(value)
    return peaks
