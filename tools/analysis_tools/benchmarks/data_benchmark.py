"""From files to a batch that a model can train on."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from mmengine.registry import DefaultScope
from torch.utils.data import DataLoader

from benchmarks import peers
from benchmarks.contenders import joint_config
from benchmarks.results import Measurement, Options, Ratio, Result
from benchmarks.scenes import write_scenes
from benchmarks.timing import interleave
from mtl_plugins.datasets.multitask.split_listing import list_miniscapes
from mtl_plugins.datasets.packing.packed import write_packed
from mtl_plugins.registry import MODELS, RUNNERS


def run(options: Options) -> Result:
    """Decode, crop, flip, batch, normalise. A turn is an epoch, start of the workers included.

    Ends with float32 images, labels, and depth in metres (ours) or as stored codes in floating point (the peer).
    """
    size, crop, batch_size, num_scenes = ((64, 128), 32, 4, 8) if options.quick else ((256, 512), 256, 16, 256)
    workers = options.threads
    # Long enough that the start of the workers hardly counts: about a second each.
    epochs = dict(packed=1, files=1, mmseg=1) if options.quick else dict(packed=32, files=4, mmseg=2)
    files_threads, files_processes = f'ours, files, {workers} threads', f'ours, files, {workers} processes'
    packed_threads, peer = f'ours, packed, {workers} threads', f'mmseg, {workers} processes'
    with tempfile.TemporaryDirectory() as folder:
        root = write_scenes(Path(folder, 'data'), num_scenes, size, options.seed, options.threads)
        write_packed(list_miniscapes(str(root), 'train', ('semseg', 'depth')), num_workers=options.threads)

        indices = {kind: repeat(num_scenes, num_scenes * count) for kind, count in epochs.items()}

        def ours(kind: str, num_workers: int, worker_type: str = 'thread') -> tuple[str, Callable[[], None]]:
            packed = kind == 'packed'
            return kind, our_epoch(root, packed, batch_size, crop, indices[kind], num_workers, worker_type)

        def mmseg(num_workers: int) -> tuple[str, Callable[[], None]]:
            return 'mmseg', _mmseg_epoch(root, num_workers, batch_size, crop, indices['mmseg'])

        contenders = {
            files_threads: ours('files', workers),
            files_processes: ours('files', workers, 'process'),
            packed_threads: ours('packed', workers),
            'ours, packed, in the main thread': ours('packed', 0),
            peer: mmseg(workers),
            'mmseg, in the main process': mmseg(0),
        }
        calls = {name: call for name, (_, call) in contenders.items()}
        scale = {name: 1e3 / len(indices[kind]) for name, (kind, _) in contenders.items()}
        times = interleave(calls, options.repeats, warmup=1, scale=scale)

    time = Measurement('time per image', 'ms', times)
    best_files = time.best_of((files_threads, files_processes))
    best_peer = time.best_of((peer, 'mmseg, in the main process'))
    best_packed = time.best_of((packed_threads, 'ours, packed, in the main thread'))
    return Result(
        name='data',
        settings=dict(image_size=size, crop_size=crop, batch_size=batch_size, num_scenes=num_scenes, epochs=epochs),
        measurements=[time],
        ratios=[
            Ratio(f'{peer} / {best_files}', time, peer, best_files, target=2.5),
            Ratio(f'{peer} / {best_packed}', time, peer, best_packed, target=10.0),
            Ratio(f'mmseg at its best / {best_files}', time, best_peer, best_files),
            Ratio(f'mmseg at its best / {best_packed}', time, best_peer, best_packed),
        ],
    )


def repeat(num_scenes: int, count: int) -> list[int]:
    """``count`` indices that go round the scenes."""
    return [index % num_scenes for index in range(count)]


def our_epoch(
    root: Path,
    packed: bool,
    batch_size: int,
    crop: int | list[int],
    indices: list[int],
    num_workers: int,
    worker_type: str = 'thread',
    device: str = 'cpu',
) -> Callable[[], None]:
    """An epoch of our loader and preprocessor, which ends when its last batch is on the device."""
    config = joint_config(
        str(root),
        train_dataloader__batch_size=batch_size,
        train_dataloader__num_workers=num_workers,
        train_dataloader__worker_type=worker_type,
        train_dataloader__dataset__pipeline__1__crop_size=crop,
        train_dataloader__dataset__use_packed=packed,
        train_dataloader__dataset__indices=indices,
    )
    with DefaultScope.overwrite_default_scope(config.default_scope):
        loader = RUNNERS.get(config.runner_type).build_dataloader(config.train_dataloader, seed=0)
        preprocessor = MODELS.build(config.model.data_preprocessor).to(device)
    if packed != (loader.dataset.packed is not None):
        raise RuntimeError('The packed folder should be used exactly where it is asked for.')
    return _epoch(loader, lambda batch: preprocessor(batch, training=True))


def _mmseg_epoch(root: Path, num_workers: int, batch_size: int, crop: int, indices: list[int]) -> Callable[[], None]:
    from mmengine.dataset import DefaultSampler, pseudo_collate

    dataset = peers.build_mmseg_dataset(root, crop, indices)
    sampler = DefaultSampler(dataset, shuffle=True, seed=0)
    loader = DataLoader(
        dataset, batch_size=batch_size, sampler=sampler, num_workers=num_workers, collate_fn=pseudo_collate, drop_last=True
    )
    preprocessor = peers.build_mmseg_preprocessor(crop)
    return _epoch(loader, lambda batch: preprocessor(batch, training=True))


def _epoch(loader: DataLoader, prepare: Callable[[dict], dict]) -> Callable[[], None]:
    def run_epoch() -> None:
        for batch in loader:
            inputs = prepare(batch)['inputs']
        inputs[0, 0, 0, 0].item()

    return run_epoch
