"""The training step with a task balancing beside the step with fixed weights: time and peak memory."""

import torch
from mmengine.optim import OptimWrapper

from benchmarks.allocated_memory import held_mib, peak_mib
from benchmarks.joint_model import CONFIG
from benchmarks.provenance import ROOT
from benchmarks.results import Measurement, Options, Ratio, Result
from benchmarks.scenes import render_arrays
from benchmarks.timing import interleave
from benchmarks.training_steps import LEARNING_RATE, Batch
from mtl_plugins.config.load import load_config
from mtl_plugins.registry import MODELS

CONFIGS = dict(joint=CONFIG, branched='configs/branched/branched_r18-d16_1xb16-32e_miniscapes-256x256.py')
STRATEGIES = {
    'fixed': dict(type='FixedWeights'),
    'by loss': dict(type='UncertaintyWeights'),
    'on features': dict(type='AggregatedGradients', aggregator='UPGrad', place='features'),
    'on parameters': dict(type='AggregatedGradients', aggregator='UPGrad', place='parameters'),
}
# Of the time and the memory with fixed weights, at most.
TARGETS = {
    ('joint', 'by loss'): 1.02,
    ('joint', 'on features'): 1.25,
    ('joint', 'on parameters'): 2.0,
    ('branched', 'by loss'): 1.02,
    ('branched', 'on features'): 1.15,
    ('branched', 'on parameters'): None,
}
MEMORY_TARGET = 1.3


class BalancedStep:
    """The whole of a model's step, with Adam, on one batch of normalised images."""

    def __init__(self, system: str, strategy: str, batch: Batch, seed: int) -> None:
        torch.manual_seed(seed)
        config = load_config(str(ROOT / CONFIGS[system])).model
        config.task_balancing = dict(STRATEGIES[strategy])
        # The batch is normalised, and mmengine's own only moves it to the device.
        config.data_preprocessor = dict(type='BaseDataPreprocessor')
        self.model = MODELS.build(config).to(batch.images.device).train()
        images = batch.images.contiguous(memory_format=self.model.memory_format)
        self.data = dict(inputs=images, targets=dict(semseg=batch.labels, depth=batch.depths))
        self.wrapper = OptimWrapper(torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE))

    def __call__(self) -> None:
        self.model.train_step(self.data, self.wrapper)

    def peak_mib(self, device: str) -> float:
        """Most MiB within a step: of weights, the optimizer's state, and the step itself."""
        state = [value for values in self.wrapper.optimizer.state.values() for value in values.values()]
        return peak_mib(self, device) + held_mib([*self.model.parameters(), *self.model.buffers(), *state])


def run(options: Options) -> Result:
    """Forward, losses, backward passes and Adam with two tasks, on one batch."""
    crop, batch_size = (64, 2) if options.quick else (256, 4)
    scenes = render_arrays(batch_size, (crop, 2 * crop), options.seed)
    batch = Batch.from_scenes(scenes, crop, options.device)
    steps = {
        f'{system}, {strategy}': BalancedStep(system, strategy, batch, options.seed)
        for system in CONFIGS
        for strategy in STRATEGIES
    }
    step = Measurement('step', 'ms', interleave(steps, options.repeats, device=options.device))
    memory = Measurement(
        'peak of a step', 'MiB', {name: [contender.peak_mib(options.device)] for name, contender in steps.items()}
    )
    ratios = []
    for (system, strategy), target in TARGETS.items():
        pair = f'{system}, {strategy}', f'{system}, fixed'
        ratios.append(Ratio(' / '.join(pair), step, *pair, target=target, bound='most'))
        ratios.append(Ratio(f'memory: {" / ".join(pair)}', memory, *pair, target=MEMORY_TARGET, bound='most'))
    return Result(
        name='balancing',
        settings=dict(configs=CONFIGS, crop_size=crop, batch_size=batch_size, device=options.device),
        measurements=[step, memory],
        ratios=ratios,
    )
