"""Metrics of predictions in memory."""

import torch

from benchmarks import peers
from benchmarks.results import Measurement, Options, Ratio, Result
from benchmarks.scenes import SceneArrays, imitate_predictions, render_arrays
from benchmarks.timing import interleave
from mtl_plugins.evaluation.metrics import MultiTaskMetric

OURS = 'ours, MultiTaskMetric'
PEER = 'mmseg, IoUMetric + DepthMetric'


def run(options: Options) -> Result:
    """Scores of data samples, the same for both."""
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
    settings = dict(image_size=size, num_samples=num_samples)
    return Result('eval', settings, [time], [Ratio('mmseg / ours', time, PEER, OURS, target=3.3)])


def _data_samples(scenes: SceneArrays) -> list[dict]:
    labels, metres = imitate_predictions(scenes)
    maps = dict(pred_sem_seg=labels, gt_sem_seg=scenes.labels, pred_depth_map=metres, gt_depth_map=scenes.depths)
    return [
        dict(sample_idx=index, **{name: dict(data=torch.from_numpy(values[index : index + 1])) for name, values in maps.items()})
        for index in range(len(labels))
    ]
