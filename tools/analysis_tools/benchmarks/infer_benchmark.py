"""From images to labels and metres."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.contenders import NARROW_CONFIG, SEPARABLE_CONFIG, build_joint_model
from benchmarks.results import Measurement, Options, Ratio, Result
from benchmarks.scenes import render_arrays
from benchmarks.timing import interleave
from mtl_plugins.models.utils.inference import prepare_for_inference

PEER = 'smp fp32'


def run(options: Options) -> Result:
    """A batch of uint8 images ``(B, H, W, 3)`` to uint8 labels and float32 metres, both at the images' size."""
    size, batch_size = ((64, 128), 2) if options.quick else ((256, 512), 8)
    images = torch.from_numpy(render_arrays(batch_size, size, options.seed).images).to(options.device)
    torch.manual_seed(options.seed)
    model = build_joint_model().to(options.device).eval()
    separable, narrow = (build_joint_model(config).to(options.device).eval() for config in (SEPARABLE_CONFIG, NARROW_CONFIG))
    smp = peers.build_smp_model().to(options.device).eval()
    smp_channels_last = peers.build_smp_model().to(options.device, memory_format=torch.channels_last).eval()
    contenders = {
        'ours, training model': infer_ours(model, images),
        'ours fp32': infer_ours(prepare_for_inference(model), images),
        'ours bf16': infer_ours(prepare_for_inference(model, dtype=torch.bfloat16), images),
        'ours separable fp32': infer_ours(prepare_for_inference(separable), images),
        'ours separable bf16': infer_ours(prepare_for_inference(separable, dtype=torch.bfloat16), images),
        'ours separable, 128 channels, fp32': infer_ours(prepare_for_inference(narrow), images),
        PEER: infer_smp(smp, images, torch.contiguous_format),
        'smp fp32, channels last': infer_smp(smp_channels_last, images, torch.channels_last),
        'smp bf16 autocast, channels last': infer_smp(smp_channels_last, images, torch.channels_last, bf16=True),
    }
    with torch.inference_mode():
        clock = dict(device=options.device, processor_time=options.processor_time)
        times = interleave(contenders, options.repeats, scale=1e3 / batch_size, **clock)
    time = Measurement('time per image', 'ms', times)
    fast_peer = 'smp bf16 autocast, channels last'
    return Result(
        name='infer',
        settings=dict(image_size=size, batch_size=batch_size, backbone='resnet18', output_stride=16, device=options.device),
        measurements=[time],
        ratios=[
            Ratio('smp fp32 / ours fp32', time, PEER, 'ours fp32', target=1.5),
            Ratio('smp fp32 / ours bf16', time, PEER, 'ours bf16', target=2.8),
            Ratio('smp fp32 / ours separable fp32', time, PEER, 'ours separable fp32', target=1.5),
            Ratio('smp fp32 / ours separable bf16', time, PEER, 'ours separable bf16', target=2.8),
            Ratio('smp fp32 / ours separable, 128 channels, fp32', time, PEER, 'ours separable, 128 channels, fp32'),
            Ratio('smp fp32, channels last / ours fp32', time, 'smp fp32, channels last', 'ours fp32'),
            Ratio('smp fp32, channels last / ours separable fp32', time, 'smp fp32, channels last', 'ours separable fp32'),
            Ratio('smp bf16, channels last / ours bf16', time, fast_peer, 'ours bf16'),
            Ratio('smp bf16, channels last / ours separable bf16', time, fast_peer, 'ours separable bf16'),
        ],
    )


def infer_ours(model: nn.Module, images: Tensor) -> Callable[[], object]:
    """Return a call that makes our predictions of uint8 images ``(B, H, W, 3)``."""
    return lambda: model.predict_arrays(model.data_preprocessor(dict(inputs=images))['inputs'])


def infer_smp(model: nn.Module, images: Tensor, memory_format: torch.memory_format, bf16: bool = False) -> Callable[[], object]:
    """Return a call that makes smp's."""

    def predict() -> tuple[Tensor, Tensor]:
        inputs = peers.normalise(images).contiguous(memory_format=memory_format)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
            output = model(inputs)
        return peers.smp_predictions(output)

    return predict
