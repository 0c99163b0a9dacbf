"""Writing predictions as PNG files."""

import itertools
import tempfile
from pathlib import Path

from benchmarks import peers
from benchmarks.results import Measurement, Options, Ratio, Result
from benchmarks.scenes import imitate_predictions, render_arrays
from benchmarks.timing import interleave
from mtl_plugins.labels.presets import MINISCAPES_LABELS, MINISCAPES_TASKS, build_labels
from mtl_plugins.submission import SubmissionWriter

PEER = 'PIL optimize=True, 1 thread'


def run(options: Options) -> Result:
    """Label and depth of each image, each round into an empty folder; ours in the background threads of a real run."""
    size = (64, 128) if options.quick else (256, 512)
    num_scenes = 2 if options.quick else 8
    # The writers differ by more than an order of magnitude: equal counts would time only one of them well.
    num_images = {'ours': num_scenes * (2 if options.quick else 15), 'ours, 1 thread': num_scenes * (2 if options.quick else 8)}
    num_images[PEER] = num_scenes
    labels, metres = imitate_predictions(render_arrays(num_scenes, size, options.seed))
    kinds = build_labels(MINISCAPES_LABELS, MINISCAPES_TASKS)
    folders = itertools.count()
    latest: dict[str, Path] = {}

    with tempfile.TemporaryDirectory() as temporary:

        def new_folder(name: str) -> Path:
            latest[name] = Path(temporary) / str(next(folders))
            return latest[name]

        def write_ours(name: str, threads: int) -> None:
            with SubmissionWriter(new_folder(name), kinds, num_threads=threads) as writer:
                for index in range(num_images[name]):
                    writer.add(str(index), dict(semseg=labels[index % num_scenes], depth=metres[index % num_scenes]))

        contenders = {
            'ours': lambda: write_ours('ours', options.threads),
            'ours, 1 thread': lambda: write_ours('ours, 1 thread', 1),
            PEER: lambda: peers.write_with_pil(new_folder(PEER), labels, metres),
        }
        scale = {name: 1e3 / count for name, count in num_images.items()}
        times = interleave(contenders, options.repeats, warmup=1, scale=scale)
        sizes = {name: [_num_bytes(latest[name]) / num_images[name] / 1024] for name in ('ours', PEER)}

    time = Measurement('time per image', 'ms', times)
    volume = Measurement('bytes per image', 'KiB', sizes)
    return Result(
        name='submit',
        settings=dict(image_size=size, num_scenes=num_scenes, num_images=num_images),
        measurements=[time, volume],
        ratios=[
            Ratio(f'time: PIL / ours, {options.threads} threads', time, PEER, 'ours', target=30.0),
            Ratio('time: PIL / ours, 1 thread', time, PEER, 'ours, 1 thread'),
            Ratio('bytes: ours / PIL', volume, 'ours', PEER, target=1.2, bound='most'),
        ],
    )


def _num_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob('*.png'))
