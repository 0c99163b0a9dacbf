"""The training step beside its peers, what it keeps for the backward pass, and the whole loop beside the bare step."""

import tempfile
from pathlib import Path

import torch

from benchmarks.joint_model import CONFIG, NARROW_CONFIG, SEPARABLE_CONFIG, build_joint_model
from benchmarks.results import Measurement, Options, Ratio, Result
from benchmarks.scenes import render_arrays, write_scenes
from benchmarks.timing import interleave
from benchmarks.training_loop import WITH_PICTURES, time_training_loop
from benchmarks.training_steps import Batch, MMSegStep, SegmentorStep, SmpStep, TrainingStep

# Iterations between two bare steps of the loop; one of them logs.
BLOCK = 10


def run(options: Options) -> Result:
    """Forward, losses, backward and Adam on one batch of normalised images; the loop adds data, hooks and logging."""
    crop, batch_size = (64, 2) if options.quick else (256, 4)
    scenes = render_arrays(batch_size, (crop, 2 * crop), options.seed)
    batch = Batch.from_scenes(scenes, crop, options.device)
    torch.manual_seed(options.seed)
    contenders: dict[str, TrainingStep] = {
        'ours fp32': SegmentorStep(batch),
        'ours bf16': SegmentorStep(batch, bf16=True),
        'ours separable fp32': SegmentorStep(batch, build_joint_model(SEPARABLE_CONFIG)),
        'ours separable bf16': SegmentorStep(batch, build_joint_model(SEPARABLE_CONFIG), bf16=True),
        'ours separable, 128 channels, fp32': SegmentorStep(batch, build_joint_model(NARROW_CONFIG)),
        'smp fp32': SmpStep(batch),
        'smp fp32, channels last': SmpStep(batch, memory_format=torch.channels_last),
        'smp bf16, channels last': SmpStep(batch, memory_format=torch.channels_last, bf16=True),
        'mmseg fp32': MMSegStep(batch),
    }
    saved = {name: [contender.saved_mib() / batch_size] for name, contender in contenders.items()}
    times = interleave(contenders, options.repeats, device=options.device, processor_time=options.processor_time)
    with tempfile.TemporaryDirectory() as folder:
        num_scenes = 8 if options.quick else 64
        root = write_scenes(Path(folder, 'data'), num_scenes, (crop, 2 * crop), options.seed, options.threads)
        loop = time_training_loop(
            data_root=root,
            work_dir=Path(folder, 'run'),
            batch_size=batch_size,
            crop_size=crop,
            bare_step=contenders['ours fp32'],
            block=2 if options.quick else BLOCK,
            num_blocks=options.repeats,
            num_workers=options.threads,
            seed=options.seed,
        )

    step = Measurement('step', 'ms', times)
    memory = Measurement('saved for backward, per image', 'MiB', saved)
    whole = Measurement('iteration of the whole loop', 'ms', loop)
    return Result(
        name='train',
        settings=dict(
            config=CONFIG,
            separable_config=SEPARABLE_CONFIG,
            narrow_config=NARROW_CONFIG,
            crop_size=crop,
            batch_size=batch_size,
            loop_block=BLOCK,
            num_scenes=num_scenes,
            device=options.device,
        ),
        measurements=[step, memory, whole],
        ratios=[
            Ratio('smp fp32 / ours fp32', step, 'smp fp32', 'ours fp32', target=1.15),
            Ratio('mmseg fp32 (labels only) / ours fp32', step, 'mmseg fp32', 'ours fp32', target=1.4),
            Ratio('smp fp32 / ours bf16', step, 'smp fp32', 'ours bf16', target=1.8),
            Ratio('smp fp32 / ours separable fp32', step, 'smp fp32', 'ours separable fp32', target=1.15),
            Ratio('smp fp32 / ours separable bf16', step, 'smp fp32', 'ours separable bf16', target=1.8),
            Ratio('smp fp32 / ours separable, 128 channels, fp32', step, 'smp fp32', 'ours separable, 128 channels, fp32'),
            Ratio('smp fp32, channels last / ours fp32', step, 'smp fp32, channels last', 'ours fp32'),
            Ratio('smp fp32, channels last / ours separable fp32', step, 'smp fp32, channels last', 'ours separable fp32'),
            Ratio('smp bf16, channels last / ours separable bf16', step, 'smp bf16, channels last', 'ours separable bf16'),
            Ratio('smp bf16, channels last / ours bf16', step, 'smp bf16, channels last', 'ours bf16'),
            Ratio('saved: ours fp32 / smp fp32', memory, 'ours fp32', 'smp fp32', target=0.75, bound='most'),
            Ratio('saved: ours bf16 / smp fp32', memory, 'ours bf16', 'smp fp32'),
            Ratio('saved: ours separable fp32 / smp fp32', memory, 'ours separable fp32', 'smp fp32'),
            Ratio('whole loop / bare step', whole, 'loop', 'bare step', target=1.08, bound='most'),
            Ratio(f'{WITH_PICTURES} / without', whole, WITH_PICTURES, 'loop', target=1.03, bound='most'),
        ],
    )
