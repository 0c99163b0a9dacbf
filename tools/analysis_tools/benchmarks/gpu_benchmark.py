"""Training and inference on one GPU beside the plain code and the peers, and the loaders that feed them.

Contenders run one after another: nothing else uses a GPU. One that fails is noted, and the others go on.
"""

import gc
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.contenders import CONFIG, Batch, TrainingStep, build_joint_model, joint_config, mmseg_step, our_step, smp_step
from benchmarks.data_benchmark import our_epoch, repeat
from benchmarks.infer_benchmark import infer_ours, infer_smp
from benchmarks.results import Measurement, Options, Ratio, Result
from benchmarks.scenes import render_arrays, write_scenes
from benchmarks.timing import interleave, peak_mib, time_calls
from mtl_plugins.datasets.multitask.split_listing import list_miniscapes
from mtl_plugins.datasets.packing.packed import write_packed
from mtl_plugins.lab.tables import Table, to_markdown
from mtl_plugins.models.decode_heads.deeplabv3plus_head import SkipDecoder
from mtl_plugins.models.losses import silog_loss
from mtl_plugins.models.utils.inference import prepare_for_inference
from mtl_plugins.models.utils.model_stats import count_flops
from mtl_plugins.registry import MODELS

PLAIN = 'plain fp32'
# Precisions of which a large matrix product gives the peak.
PEAKS = ('fp32', 'tf32', 'bf16', 'fp16')
# A call, and the model whose operations count.
Contender = tuple[Callable[[], object], nn.Module]


def build_plain_model() -> nn.Module:
    """Build the joint model without channels-last memory and factored convolutions."""
    model = MODELS.build(dict(joint_config().model, channels_last=False))
    for module in model.modules():
        if isinstance(module, SkipDecoder):
            module.factored_upsampling = False
    return model


def plain_outputs(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits and metres at the size of the images."""
    outputs = {
        name: F.interpolate(predictions[-1].float(), size=images.shape[-2:], mode='bilinear', align_corners=False)
        for name, predictions in model.decode(images).items()
    }
    limits = torch.log(torch.tensor(peers.DEPTH_RANGE)).tolist()
    return outputs['semseg'], outputs['depth'].squeeze(1).clamp(*limits).exp()


def plain_step(batch: Batch) -> TrainingStep:
    """Train the joint model as one writes it down: contiguous, dense upsampled outputs, torch's losses, no form of our own."""
    labels = batch.labels.long()

    def loss(model: nn.Module, images: Tensor) -> Tensor:
        logits, metres = plain_outputs(model, images)
        cross_entropy = F.cross_entropy(logits, labels, ignore_index=255)
        return 0.5 * cross_entropy + 0.5 * silog_loss(metres, batch.depths, batch.depths > 0)

    return TrainingStep(build_plain_model(), batch, loss)


class Recorder:
    """Numbers of contenders as they come; ``save`` is called with all of them after each."""

    def __init__(self, options: Options, settings: dict, save: Callable[[Result], None]) -> None:
        self.options, self._save = options, save
        self.settings = dict(settings, peak_tflops={}, failures={}, throughput={}, share_of_peak={}, gflops_per_image={})
        self.measurements: dict[str, Measurement] = {}

    def note(self, measurement: str, unit: str, contender: str, values: list[float]) -> None:
        self.measurements.setdefault(measurement, Measurement(measurement, unit, {})).raw[contender] = values

    def time(self, call: Callable[[], object]) -> list[float]:
        """Return the seconds per call of each round."""
        return time_calls(call, self.options.repeats, self.options.device, seconds=0.0 if self.options.quick else 1.0)

    @contextmanager
    def contender(self, name: str, precision: str) -> Iterator[None]:
        """Set what the precision asks for; an error within is noted, and the memory is freed."""
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
        self._save(self.result())

    def measure(self, kind: str, name: str, precision: str, call: Callable[[], object], flops: float, images: int) -> None:
        """Note time, share of the peak and memory of a call on ``images`` images of ``flops`` operations each."""
        contender = f'{kind}, {name}'
        self.note(f'{kind}, time per image', 'ms', contender, [1e3 * seconds / images for seconds in self.time(call)])
        self.note(f'{kind}, peak memory', 'MiB', contender, [peak_mib(call, self.options.device)])
        median = self.measurements[f'{kind}, time per image'].median(contender) / 1e3
        self.settings['throughput'][contender] = round(1 / median, 1)
        self.settings['gflops_per_image'][contender] = round(flops / 1e9, 2)
        peak = self.settings['peak_tflops'].get(precision)
        if peak:
            self.settings['share_of_peak'][contender] = round(flops / median / 1e12 / peak, 4)

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


def run(options: Options, save: Callable[[Result], None] = lambda result: None, compile: bool = False) -> Result:
    """Batch 64 of 256x512, one batch on the device: smaller ones wait for the processor that launches kernels.

    ``save`` is called with all there is after each contender. With ``compile`` ``torch.compile`` takes part, last: that costs a
    minute and more.
    """
    size, batch_size = ((64, 128), 2) if options.quick else ((256, 512), 64)
    settings = dict(config=CONFIG, image_size=size, batch_size=batch_size, device=options.device)
    recorder = Recorder(options, settings, save)
    for precision in PEAKS:
        with recorder.contender(f'matrix product, {precision}', precision):
            recorder.settings['peak_tflops'][precision] = _peak_tflops(precision, recorder)
    few = 2 if options.quick else 4
    scenes, copies = render_arrays(few, size, options.seed), batch_size // few
    distinct = Batch.from_scenes(scenes, size, options.device)
    batch = Batch(*(tensor.repeat(copies, *[1] * (tensor.ndim - 1)) for tensor in vars(distinct).values()))
    images = torch.from_numpy(scenes.images).repeat(copies, 1, 1, 1).to(options.device)
    _run_all(recorder, _contenders(batch, images), batch)
    _load(recorder, size, batch_size)
    if compile:
        _run_all(recorder, _compiled(batch, images), batch)
    return recorder.result()


def _peak_tflops(precision: str, recorder: Recorder) -> float:
    """Return those of a large square matrix product."""
    size = 256 if recorder.options.quick else 8192
    dtype = dict(bf16=torch.bfloat16, fp16=torch.float16).get(precision, torch.float32)
    a, b = (torch.randn(size, size, device=recorder.options.device, dtype=dtype) for _ in range(2))
    return round(2 * size**3 / min(recorder.time(lambda: a @ b)) / 1e12, 2)


def _run_all(recorder: Recorder, contenders: dict[tuple[str, str], tuple[str, Callable[[], Contender]]], batch: Batch) -> None:
    for (kind, name), (precision, build) in contenders.items():
        is_training = kind == 'training'
        with recorder.contender(f'{kind}, {name}', precision), torch.inference_mode(not is_training):
            torch.manual_seed(recorder.options.seed)
            call, model = build()
            # cuDNN need not look for the fastest kernels of one image.
            with torch.backends.cudnn.flags(enabled=True, benchmark=False):
                flops = count_flops(model, tuple(batch.images.shape[2:]))
            # A backward pass costs two forward ones.
            recorder.measure(kind, name, precision, call, 3 * flops if is_training else flops, len(batch.images))


def _contenders(batch: Batch, images: Tensor) -> dict[tuple[str, str], tuple[str, Callable[[], Contender]]]:
    """Return the precision and the builder of each contender by kind and name."""
    fused, device = dict(fused=True), images.device

    def train(make: Callable[..., TrainingStep], **options: object) -> Contender:
        step = make(batch, **options)
        return step, step.model

    def infer_plain() -> Contender:
        model = build_plain_model().to(device).eval()

        def predict() -> tuple[Tensor, Tensor]:
            logits, metres = plain_outputs(model, peers.normalise(images))
            return logits.argmax(1), metres

        return predict, model

    def ours(dtype: torch.dtype) -> Contender:
        fast = prepare_for_inference(build_joint_model().to(device).eval(), dtype=dtype)
        return infer_ours(fast, images), fast

    def smp(bf16: bool) -> Contender:
        layout = torch.channels_last if bf16 else torch.contiguous_format
        peer = peers.build_smp_model().to(device, memory_format=layout).eval()
        return infer_smp(peer, images, layout, bf16), peer

    def mmseg() -> Contender:
        peer = peers.build_mmseg_model().to(device).eval()
        samples = peers.build_mmseg_samples(images.new_zeros(images.shape[:3]).long())
        for sample in samples:
            sample.set_metainfo(dict(ori_shape=tuple(images.shape[1:3]), pad_shape=tuple(images.shape[1:3])))
        return lambda: peer(peers.normalise(images), samples, mode='predict'), peer

    smp_bf16 = dict(memory_format=torch.channels_last, bf16=True, adam=fused)
    return {
        ('training', PLAIN): ('fp32', lambda: train(plain_step)),
        ('training', 'ours tf32'): ('tf32', lambda: train(our_step, adam=fused)),
        ('training', 'ours bf16'): ('bf16', lambda: train(our_step, bf16=True, adam=fused)),
        ('training', 'smp tf32'): ('tf32', lambda: train(smp_step)),
        ('training', 'smp bf16, channels last, fused'): ('bf16', lambda: train(smp_step, **smp_bf16)),
        ('training', 'mmseg tf32 (labels only)'): ('tf32', lambda: train(mmseg_step)),
        ('training', 'ours fp32'): ('fp32', lambda: train(our_step, adam=fused)),
        ('inference', PLAIN): ('fp32', infer_plain),
        ('inference', 'ours tf32'): ('tf32', lambda: ours(torch.float32)),
        ('inference', 'ours bf16'): ('bf16', lambda: ours(torch.bfloat16)),
        ('inference', 'ours fp16'): ('fp16', lambda: ours(torch.float16)),
        ('inference', 'smp tf32'): ('tf32', lambda: smp(False)),
        ('inference', 'smp bf16 autocast, channels last'): ('bf16', lambda: smp(True)),
        ('inference', 'mmseg tf32 (labels only)'): ('tf32', mmseg),
        ('inference', 'ours fp32'): ('fp32', lambda: ours(torch.float32)),
    }


def _compiled(batch: Batch, images: Tensor) -> dict[tuple[str, str], tuple[str, Callable[[], Contender]]]:
    # The model before it is compiled counts.
    def infer(mode: str) -> Contender:
        model = build_joint_model().to(images.device).eval()
        fast = prepare_for_inference(model, dtype=torch.bfloat16, compile=dict(mode=mode))
        return infer_ours(fast, images), model

    def train() -> Contender:
        step = our_step(batch, bf16=True, adam=dict(fused=True))
        step.model.compile_network()
        return step, build_joint_model().to(images.device)

    return {
        ('inference', 'ours bf16, compiled'): ('bf16', lambda: infer('default')),
        ('inference', 'ours bf16, compiled to CUDA graphs'): ('bf16', lambda: infer('reduce-overhead')),
        ('training', 'ours bf16, compiled'): ('bf16', train),
    }


def _load(recorder: Recorder, size: tuple[int, int], batch_size: int) -> None:
    """Batches that arrive on the device, from files and from the packed folder, with as many threads as there are cores."""
    options = recorder.options
    workers, num_scenes = os.cpu_count() or 1, 8 if options.quick else 64
    with tempfile.TemporaryDirectory() as folder:
        root = write_scenes(Path(folder, 'data'), num_scenes, size, options.seed, workers)
        for packed in (False, True):
            name = 'packed' if packed else 'files'
            with recorder.contender(f'data, {name}', 'tf32'):
                if packed:
                    write_packed(list_miniscapes(str(root), 'train', ('semseg', 'depth')), num_workers=workers)
                count = num_scenes * (1 if options.quick else 32 if packed else 8)
                indices = repeat(num_scenes, count)
                epoch = our_epoch(root, packed, batch_size, list(size), indices, workers, device=options.device)
                times = interleave({name: epoch}, min(options.repeats, 3), warmup=0, scale=1e3 / count)[name]
                recorder.note('data, time per image', 'ms', f'{name}, {workers} threads', times)
                recorder.settings['throughput'][f'data, {name}'] = round(1e3 / min(times), 1)


def summary_in_markdown(result: Result) -> str:
    """Return images/s, share of peak and memory of each contender, then peaks and failures."""
    settings, measured = result.settings, {measurement.name: measurement for measurement in result.measurements}
    rows = []
    for name, rate in settings['throughput'].items():
        kind = name.split(',')[0]
        plain, share = settings['throughput'].get(f'{kind}, {PLAIN}'), settings['share_of_peak'].get(name)
        memory = measured.get(f'{kind}, peak memory')
        cells = ('' if plain is None else f'{rate / plain:.2f}', '' if share is None else f'{100 * share:.1f}')
        rows.append([name, f'{rate:.0f}', *cells, '' if memory is None else f'{memory.median(name):.0f}'])
    peaks = ', '.join(f'{precision} {value:g}' for precision, value in settings['peak_tflops'].items())
    failures = [f'* {name} failed: {message}\n' for name, message in settings['failures'].items()]
    table = to_markdown(Table(['contender', 'images/s', 'x plain', 'share of peak (%)', 'peak memory (MiB)'], rows))
    return f'\n{table}\nPeaks of a matrix product, in TFLOP/s: {peaks}.\n{"".join(failures)}'
