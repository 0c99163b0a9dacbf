"""Training and inference on one GPU beside the plain code and the peers; what feeds them; and the parts that have two forms.

Contenders run one after another: nothing else uses a GPU. One that fails is noted, and the others go on.
"""

import gc
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.contenders import CONFIG, Batch, MMSegStep, SegmentorStep, SmpStep, TrainingStep, build_joint_model, joint_config
from benchmarks.data_benchmark import our_epoch, repeat
from benchmarks.infer_benchmark import infer_ours, infer_peer
from benchmarks.results import Measurement, Options, Ratio, Result, markdown_table
from benchmarks.scenes import render_arrays, write_scenes
from benchmarks.timing import interleave, peak_mib, time_calls
from mtl_plugins.datasets.multitask.split_listing import list_miniscapes
from mtl_plugins.datasets.packing.packed import write_packed
from mtl_plugins.evaluation.metrics import MultiTaskMetric
from mtl_plugins.models.decode_heads.deeplabv3plus_head import SkipDecoder, factored_upsampled_conv3x3, plain_upsampled_conv3x3
from mtl_plugins.models.losses import silog_loss, upsampled_cross_entropy
from mtl_plugins.models.utils.inference import prepare_for_inference
from mtl_plugins.models.utils.model_stats import count_flops
from mtl_plugins.registry import MODELS

PLAIN = 'plain fp32'
# Precisions of which a large matrix product gives the peak.
PEAKS = ('fp32', 'tf32', 'bf16', 'fp16')


class PlainStep(TrainingStep):
    """The joint model as one writes it down: contiguous, dense upsampled outputs, torch's losses, no form of our own."""

    def __init__(self, batch: Batch) -> None:
        super().__init__(build_plain_model(), batch, torch.contiguous_format)
        self.labels, self.depths = batch.labels.long(), batch.depths

    def loss(self) -> Tensor:
        logits, metres = plain_outputs(self.model, self.images)
        cross_entropy = F.cross_entropy(logits, self.labels, ignore_index=255)
        return 0.5 * cross_entropy + 0.5 * silog_loss(metres, self.depths, self.depths > 0)


def build_plain_model() -> nn.Module:
    """The joint model without channels-last memory and factored convolutions."""
    model = MODELS.build(dict(joint_config().model, channels_last=False))
    for module in model.modules():
        if isinstance(module, SkipDecoder):
            module.factored_upsampling = False
    return model


def plain_outputs(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and metres at the size of the images."""
    outputs = {
        name: F.interpolate(predictions[-1].float(), size=images.shape[-2:], mode='bilinear', align_corners=False)
        for name, predictions in model.decode(images).items()
    }
    limits = torch.log(torch.tensor(peers.DEPTH_RANGE)).tolist()
    return outputs['semseg'], outputs['depth'].squeeze(1).clamp(*limits).exp()


class _Table:
    """Numbers of contenders as they come; ``save`` is called with all of them after each."""

    def __init__(self, options: Options, settings: dict, save: Callable[[Result], None]) -> None:
        self.options, self.settings, self._save = options, settings, save
        self.settings |= dict(failures={}, throughput={}, share_of_peak={}, gflops_per_image={}, seconds={})
        self.measurements: dict[str, Measurement] = {}

    def note(self, measurement: str, unit: str, contender: str, values: list[float]) -> None:
        self.measurements.setdefault(measurement, Measurement(measurement, unit, {})).raw[contender] = values

    def time(self, call: Callable[[], object]) -> list[float]:
        """Seconds per call of each round."""
        return time_calls(call, self.options.repeats, self.options.device, seconds=0.0 if self.options.quick else 1.0)

    @contextmanager
    def contender(self, name: str, precision: str) -> Iterator[None]:
        """Set what the precision asks for; an error within is noted, and the memory is freed."""
        start = time.perf_counter()
        print(f'gpu: {name}', file=sys.stderr)
        state = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
        torch.set_float32_matmul_precision('highest' if precision == 'fp32' else 'high')
        torch.backends.cudnn.allow_tf32 = precision != 'fp32'
        torch.backends.cudnn.benchmark = True
        try:
            yield
        except Exception as error:
            # Of any kind: the point is that the other contenders are not lost.
            self.settings['failures'][name] = f'{type(error).__name__}: {error}'[:500]
            print(f'gpu: {name} failed: {error}', file=sys.stderr)
        finally:
            torch.set_float32_matmul_precision(state[0])
            torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = state[1:]
            gc.collect()
            if self.options.device.startswith('cuda'):
                torch.cuda.empty_cache()
            self.settings['seconds'][name] = round(time.perf_counter() - start, 2)
        self._save(self.result())

    def result(self) -> Result:
        ratios = []
        for kind, target in (('training', 3.0), ('inference', 4.0)):
            measurement = self.measurements.get(f'{kind}, time per image')
            plain = f'{kind}, {PLAIN}'
            if measurement is None or plain not in measurement.raw:
                continue
            own = [name for name in measurement.raw if name.startswith(f'{kind}, ours')]
            best = measurement.best_of(own) if own else None
            for name in measurement.raw:
                if name != plain:
                    goal = target if name == best else None
                    ratios.append(Ratio(f'{kind}: plain / {name}', measurement, plain, name, target=goal))
        return Result('gpu', self.settings, list(self.measurements.values()), ratios)

    def measure(self, kind: str, name: str, precision: str, call: Callable[[], object], flops: float, images: int) -> None:
        """Time, share of the peak and memory of a call on ``images`` images of ``flops`` operations each."""
        contender = f'{kind}, {name}'
        self.note(f'{kind}, time per image', 'ms', contender, [1e3 * seconds / images for seconds in self.time(call)])
        self.note(f'{kind}, peak memory', 'MiB', contender, [peak_mib(call, self.options.device)])
        median = self.measurements[f'{kind}, time per image'].median(contender) / 1e3
        self.settings['throughput'][contender] = round(1 / median, 1)
        self.settings['gflops_per_image'][contender] = round(flops / 1e9, 2)
        peak = self.settings['peak_tflops'].get(precision)
        if peak:
            self.settings['share_of_peak'][contender] = round(flops / median / 1e12 / peak, 4)


def run(options: Options, save: Callable[[Result], None] = lambda result: None, compile: bool = False) -> Result:
    """Batch 64 of 256x512, one batch on the device: smaller ones wait for the processor that launches kernels.

    Args:
        options: As for other benchmarks.
        save: Called with all there is after each contender.
        compile: Let ``torch.compile`` take part, last: that costs a minute and more.
    """
    size, batch_size = ((64, 128), 2) if options.quick else ((256, 512), 64)
    settings = dict(config=CONFIG, image_size=size, batch_size=batch_size, device=options.device, peak_tflops={})
    table = _Table(options, settings, save)
    for precision in PEAKS:
        with table.contender(f'matrix product, {precision}', precision):
            settings['peak_tflops'][precision] = _peak_tflops(precision, table)
    few = 2 if options.quick else 4
    scenes, copies = render_arrays(few, size, options.seed), batch_size // few
    distinct = Batch.from_scenes(scenes, size, options.device)
    batch = Batch(*(tensor.repeat(copies, *[1] * (tensor.ndim - 1)) for tensor in vars(distinct).values()))
    images = torch.from_numpy(scenes.images).repeat(copies, 1, 1, 1).to(options.device)
    _train(table, batch)
    _infer(table, images)
    _parts(table, batch_size, size)
    _host(table, size, batch_size)
    if compile:
        _compiled(table, batch, images)
    return table.result()


def _peak_tflops(precision: str, table: _Table) -> float:
    """Of a large square matrix product."""
    size = 256 if table.options.quick else 8192
    dtype = dict(bf16=torch.bfloat16, fp16=torch.float16).get(precision, torch.float32)
    a, b = (torch.randn(size, size, device=table.options.device, dtype=dtype) for _ in range(2))
    return round(2 * size**3 / min(table.time(lambda: a @ b)) / 1e12, 2)


def _train(table: _Table, batch: Batch) -> None:
    fused, last = dict(fused=True), torch.channels_last
    contenders: dict[str, tuple[str, Callable[[], TrainingStep]]] = {
        PLAIN: ('fp32', lambda: PlainStep(batch)),
        'ours tf32': ('tf32', lambda: SegmentorStep(batch, adam=fused)),
        'ours bf16': ('bf16', lambda: SegmentorStep(batch, bf16=True, adam=fused)),
        'smp tf32': ('tf32', lambda: SmpStep(batch)),
        'smp bf16, channels last, fused': ('bf16', lambda: SmpStep(batch, last, bf16=True, adam=fused)),
        'mmseg tf32 (labels only)': ('tf32', lambda: MMSegStep(batch)),
        'ours fp32': ('fp32', lambda: SegmentorStep(batch, adam=fused)),
    }
    for name, (precision, build) in contenders.items():
        with table.contender(f'training, {name}', precision):
            torch.manual_seed(table.options.seed)
            step = build()
            # A backward pass costs two forward ones.
            table.measure('training', name, precision, step, 3 * _flops_of(step.model, batch.images), len(batch.images))


def _flops_of(model: nn.Module, images: Tensor) -> float:
    """Of one image; cuDNN need not look for the fastest kernels of that size."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False):
        return count_flops(model, images[:1])


@torch.inference_mode()
def _infer(table: _Table, images: Tensor) -> None:
    torch.manual_seed(table.options.seed)
    device = table.options.device
    model = build_joint_model().to(device).eval()
    plain = build_plain_model().to(device).eval()
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (peers.MEAN, peers.STD))
    normalised = (images[:1].permute(0, 3, 1, 2).float() - mean) / std

    def plain_call() -> tuple[Tensor, Tensor]:
        logits, metres = plain_outputs(plain, (images.permute(0, 3, 1, 2).float() - mean) / std)
        return logits.argmax(1), metres

    def ours(dtype: torch.dtype) -> tuple[Callable[[], object], nn.Module]:
        fast = prepare_for_inference(model, dtype=dtype)
        return infer_ours(fast, images), fast

    def smp(bf16: bool) -> tuple[Callable[[], object], nn.Module]:
        layout = torch.channels_last if bf16 else torch.contiguous_format
        peer = peers.build_smp_model().to(device, memory_format=layout).eval()
        return infer_peer(peer, images, layout, bf16), peer

    def mmseg() -> tuple[Callable[[], object], nn.Module]:
        peer = peers.build_mmseg_model().to(device).eval()
        samples = peers.build_mmseg_samples(images.new_zeros(images.shape[:3]).long())
        for sample in samples:
            sample.set_metainfo(dict(ori_shape=tuple(images.shape[1:3]), pad_shape=tuple(images.shape[1:3])))
        return lambda: peer((images.permute(0, 3, 1, 2).float() - mean) / std, samples, mode='predict'), peer

    contenders = {
        PLAIN: ('fp32', lambda: (plain_call, plain)),
        'ours tf32': ('tf32', lambda: ours(torch.float32)),
        'ours bf16': ('bf16', lambda: ours(torch.bfloat16)),
        'ours fp16': ('fp16', lambda: ours(torch.float16)),
        'smp tf32': ('tf32', lambda: smp(False)),
        'smp bf16 autocast, channels last': ('bf16', lambda: smp(True)),
        'mmseg tf32 (labels only)': ('tf32', mmseg),
        'ours fp32': ('fp32', lambda: ours(torch.float32)),
    }
    for name, (precision, build) in contenders.items():
        with table.contender(f'inference, {name}', precision):
            call, network = build()
            table.measure('inference', name, precision, call, _flops_of(network, normalised), len(images))
    with table.contender('metrics of predictions on the device', 'tf32'):
        _metrics(table, model, images)


def _metrics(table: _Table, model: nn.Module, images: Tensor) -> None:
    options = table.options
    scenes = render_arrays(2, tuple(images.shape[1:3]), options.seed)
    batch = Batch.from_scenes(scenes, images.shape[1:3], options.device)
    targets = dict(semseg=batch.labels, depth=batch.depths)
    samples = [sample.to_dict() for sample in model(batch.images, targets, mode='predict')]

    def evaluate() -> None:
        metric = MultiTaskMetric()
        metric.process({}, samples)
        metric.evaluate(len(samples))

    times = [1e3 * seconds / len(samples) for seconds in table.time(evaluate)]
    table.note('metrics, time per image', 'ms', 'ours, predictions on the device', times)


def _parts(table: _Table, batch_size: int, size: tuple[int, int]) -> None:
    """Forward and backward of what has two forms, at the sizes of the joint model."""
    for precision, dtype in (('tf32', torch.float32), ('bf16', torch.bfloat16)):
        with table.contender(f'parts, {precision}', precision):
            for name, call in _forms(batch_size, size, table.options.device, dtype).items():
                times = [1e3 * seconds for seconds in table.time(call)]
                table.note('parts, forward and backward', 'ms', f'{name}, {precision}', times)


def _forms(batch_size: int, size: tuple[int, int], device: str, dtype: torch.dtype) -> dict[str, Callable[[], object]]:
    coarse, fine = [[length // stride for length in size] for stride in (16, 4)]

    def random(*shape: int) -> Tensor:
        values = torch.randn(*shape, device=device, dtype=dtype)
        return values.to(memory_format=torch.channels_last).requires_grad_()

    features, skip, weight = random(batch_size, 256, *coarse), random(batch_size, 48, *fine), random(256, 304, 3, 3)
    logits = random(batch_size, peers.NUM_CLASSES, *fine)
    labels = torch.randint(0, peers.NUM_CLASSES, (batch_size, *size), device=device, dtype=torch.uint8)
    long = labels.long()

    def convolve(form: Callable[..., Tensor]) -> None:
        output = form(features, skip, weight, None)
        torch.autograd.grad(output, (features, skip, weight), output)

    def dense() -> None:
        wide = F.interpolate(logits.float(), size=size, mode='bilinear', align_corners=False)
        torch.autograd.grad(F.cross_entropy(wide, long, ignore_index=255), logits)

    return {
        'convolution, plain': lambda: convolve(plain_upsampled_conv3x3),
        'convolution, factored': lambda: convolve(factored_upsampled_conv3x3),
        'cross-entropy, dense': dense,
        'cross-entropy, one pass': lambda: torch.autograd.grad(upsampled_cross_entropy(logits, labels), logits),
    }


def _host(table: _Table, size: tuple[int, int], batch_size: int) -> None:
    """Batches that arrive on the device, from files and from the packed folder, with as many threads as there are cores."""
    options = table.options
    workers, num_scenes = os.cpu_count() or 1, 8 if options.quick else 64
    with tempfile.TemporaryDirectory() as folder:
        with table.contender('writing scenes', 'tf32'):
            root = write_scenes(Path(folder, 'data'), num_scenes, size, options.seed, workers)
        for packed in (False, True):
            name = 'packed' if packed else 'files'
            with table.contender(f'data, {name}', 'tf32'):
                if packed:
                    write_packed(list_miniscapes(str(root), 'train', ('semseg', 'depth')), num_workers=workers)
                count = num_scenes * (1 if options.quick else 32 if packed else 8)
                indices = repeat(num_scenes, count)
                epoch = our_epoch(root, packed, batch_size, list(size), indices, workers, device=options.device)
                times = interleave({name: epoch}, min(options.repeats, 3), warmup=0, scale=1e3 / count)[name]
                table.note('data, time per image', 'ms', f'{name}, {workers} threads', times)
                table.settings['throughput'][f'data, {name}'] = round(1e3 / min(times), 1)


def _compiled(table: _Table, batch: Batch, images: Tensor) -> None:
    options = table.options
    flops = _flops_of(build_joint_model().to(options.device), batch.images)
    for mode in ('default', 'reduce-overhead'):
        name = 'ours bf16, compiled' + ('' if mode == 'default' else ' to CUDA graphs')
        with table.contender(f'inference, {name}', 'bf16'), torch.inference_mode():
            torch.manual_seed(options.seed)
            model = build_joint_model().to(options.device).eval()
            fast = prepare_for_inference(model, dtype=torch.bfloat16, compile=dict(mode=mode))
            table.measure('inference', name, 'bf16', infer_ours(fast, images), flops, len(images))
    with table.contender('training, ours bf16, compiled', 'bf16'):
        torch.manual_seed(options.seed)
        step = SegmentorStep(batch, bf16=True, adam=dict(fused=True))
        step.model.compile_network()
        table.measure('training', 'ours bf16, compiled', 'bf16', step, 3 * flops, len(images))


def summary_in_markdown(result: Result) -> str:
    """Images/s, share of peak and memory of each contender, then peaks, failures and the rest."""
    settings, measured = result.settings, {measurement.name: measurement for measurement in result.measurements}
    rows = []
    for name, rate in settings['throughput'].items():
        kind = name.split(',')[0]
        plain, share = settings['throughput'].get(f'{kind}, {PLAIN}'), settings['share_of_peak'].get(name)
        memory = measured.get(f'{kind}, peak memory')
        cells = ('' if plain is None else f'{rate / plain:.2f}', '' if share is None else f'{100 * share:.1f} %')
        rows.append((name, f'{rate:.0f}', *cells, '' if memory is None else f'{memory.median(name):.0f}'))
    peaks = ', '.join(f'{precision} {value:g}' for precision, value in settings['peak_tflops'].items())
    lines = ['', *markdown_table(('contender', 'images/s', 'x plain', 'share of peak', 'peak memory (MiB)'), rows)]
    lines += ['', f'Peaks of a matrix product, in TFLOP/s: {peaks}.']
    lines += [f'* {name} failed: {message}' for name, message in settings['failures'].items()]
    return '\n'.join(lines) + '\n'
