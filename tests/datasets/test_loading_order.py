"""Samplers, loaders and collation: the same samples in the same order, whoever loads them."""

import itertools
import threading
import time

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.registry import FUNCTIONS
from torch.utils.data import BatchSampler, DataLoader

from mtl_plugins.datasets.loading.collate import multitask_collate
from mtl_plugins.datasets.loading.labelled_dataset import SampleKey
from mtl_plugins.datasets.loading.samplers import EpochSampler, IterationSampler
from mtl_plugins.datasets.loading.thread_loader import ThreadDataLoader
from mtl_plugins.datasets.multitask.miniscapes import MiniScapesDataset
from mtl_plugins.errors import CorruptFileError
from mtl_plugins.registry import DATA_SAMPLERS
from tests.fake_miniscapes import LABELS, write_fake_miniscapes

AUGMENTED = [
    dict(type='LoadMiniScapes'),
    dict(type='RandomHomography', crop_size=32, scale=(0.5, 2), max_tilt_deg=10, max_wiggle=0.1),
    dict(type='PackMultiTaskInputs', meta_keys=()),
]


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    root = write_fake_miniscapes(tmp_path_factory.mktemp('data'), dict(train=11), size=(48, 64))
    return MiniScapesDataset(root, 'train', pipeline=AUGMENTED)


@pytest.fixture
def ranks(monkeypatch):
    """Builds the samplers of every rank of a make-believe group of processes."""

    def build(make, world_size):
        samplers = []
        for rank in range(world_size):
            for module in ('mmengine.dataset.sampler', 'mtl_plugins.datasets.loading.samplers'):
                monkeypatch.setattr(f'{module}.get_dist_info', lambda rank=rank: (rank, world_size))
            samplers.append(make())
        return samplers

    return build


def flatten(batch):
    return dict(inputs=batch['inputs'], sample_idx=batch['sample_idx'], length_scale=batch['length_scale'], **batch['targets'])


@pytest.mark.parametrize(
    'loader, num_workers', [(DataLoader, 1), (DataLoader, 2), (ThreadDataLoader, 0), (ThreadDataLoader, 1), (ThreadDataLoader, 3)]
)
def test_batches_do_not_depend_on_who_loads_them(dataset, loader, num_workers):
    """Plain mmengine: the augmentation of a sample changes with the number of workers."""
    reference, other = EpochSampler(dataset, seed=7), EpochSampler(dataset, seed=7)
    for epoch in range(2):
        reference.set_epoch(epoch)
        other.set_epoch(epoch)
        plain = DataLoader(dataset, batch_size=4, sampler=reference, collate_fn=multitask_collate)
        tested = loader(dataset, batch_size=4, sampler=other, num_workers=num_workers, collate_fn=multitask_collate)
        for left, right in zip(map(flatten, plain), map(flatten, tested), strict=True):
            assert left.keys() == right.keys()
            for key in left:
                torch.testing.assert_close(left[key], right[key], rtol=0, atol=0)


@pytest.mark.parametrize('shuffle', [False, True])
@pytest.mark.parametrize('round_up', [False, True])
@pytest.mark.parametrize('world_size', [1, 2, 3])
def test_epoch_sampler_has_the_order_of_mmengine(ranks, shuffle, round_up, world_size):
    options = dict(shuffle=shuffle, seed=5, round_up=round_up)
    ours = ranks(lambda: EpochSampler(range(11), **options), world_size)
    theirs = ranks(lambda: DefaultSampler(range(11), **options), world_size)
    for epoch in range(2):
        for rank, (our, their) in enumerate(zip(ours, theirs, strict=True)):
            our.set_epoch(epoch)
            their.set_epoch(epoch)
            assert list(our) == [SampleKey(index, epoch, 5) for index in their] and len(our) == len(their)
            if not shuffle:
                assert [key.index for key in our] == [i % 11 for i in range(rank, our.total_size, world_size)]


@pytest.mark.parametrize('shuffle', [False, True])
@pytest.mark.parametrize('world_size', [1, 2, 3])
def test_iteration_sampler_skips_to_the_tail_of_the_stream(ranks, shuffle, world_size):
    whole = ranks(lambda: IterationSampler(range(11), shuffle=shuffle, seed=5), world_size)
    streams = [list(itertools.islice(sampler, 40)) for sampler in whole]
    for skipped in (0, 1, 3, 5, 11, 12, 25):
        for sampler, stream in zip(
            ranks(lambda: IterationSampler(range(11), shuffle=shuffle, seed=5), world_size), streams, strict=True
        ):
            sampler.skip(skipped)
            assert list(itertools.islice(sampler, 40 - skipped)) == stream[skipped:]
    merged = [key for step in zip(*streams, strict=True) for key in step]
    for epoch in range(3):
        one_pass = merged[11 * epoch : 11 * (epoch + 1)]
        assert sorted(key.index for key in one_pass) == list(range(11)) and {key.epoch for key in one_pass} == {epoch}
    assert (merged[:11] == sorted(merged[:11])) is not shuffle


def test_samplers_are_registered_and_refuse_nonsense():
    sampler = DATA_SAMPLERS.build(dict(type='IterationSampler', dataset=range(3), seed=0))
    assert len(sampler) == 3 and isinstance(DATA_SAMPLERS.build(dict(type='EpochSampler', dataset=range(3))), EpochSampler)
    with pytest.raises(ValueError, match='`dataset` is empty'):
        IterationSampler([])


class Numbers:
    """A dataset that records which threads ask it, and fails where told."""

    def __init__(self, size=40, failing=None, error=None):
        self.size, self.failing, self.error, self.threads = size, failing, error, set()

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        self.threads.add(threading.current_thread().name)
        time.sleep(0.002 * (index % 3))
        if index == self.failing:
            raise self.error
        return index


def test_threads_keep_the_order_and_share_the_work():
    dataset = Numbers()
    loader = ThreadDataLoader(dataset, batch_size=3, num_workers=4, collate_fn=list, drop_last=True)
    assert list(loader) == [[3 * i, 3 * i + 1, 3 * i + 2] for i in range(13)] and len(loader) == 13
    assert len(dataset.threads) == 4 and threading.current_thread().name not in dataset.threads
    assert list(loader) == list(loader)


@pytest.mark.parametrize('options', [dict(batch_size=None), dict(batch_sampler=BatchSampler(range(10), 4, False))])
def test_other_ways_of_batching(options):
    loader = ThreadDataLoader(Numbers(10), num_workers=2, collate_fn=lambda items: items, **options)
    flat = list(loader) if options.get('batch_size', 1) is None else list(itertools.chain(*loader))
    assert flat == list(range(10))


@pytest.mark.parametrize('num_workers', [0, 2])
def test_errors_keep_their_type_and_message(num_workers):
    """Worker processes wrap the message into a stack trace, or lose the type where its constructor takes more arguments."""
    error = CorruptFileError('The image is truncated.')
    loader = ThreadDataLoader(Numbers(failing=17, error=error), batch_size=4, num_workers=num_workers, collate_fn=list)
    batches = []
    with pytest.raises(CorruptFileError) as caught:
        for batch in loader:
            batches.append(batch)
    assert caught.value is error and len(batches) == 4
    assert next(iter(loader)) == [0, 1, 2, 3]


def test_leaving_early_stops_the_threads():
    before = threading.active_count()
    iterator = iter(ThreadDataLoader(Numbers(10000), batch_size=2, num_workers=3, collate_fn=list))
    next(iterator)
    assert threading.active_count() == before + 3
    del iterator
    assert threading.active_count() == before


def test_only_a_few_batches_are_made_ahead():
    taken = []

    class Recording(torch.utils.data.Sampler):
        def __iter__(self):
            for index in itertools.count():
                taken.append(index)
                yield index % 40

    iterator = iter(
        ThreadDataLoader(Numbers(), batch_size=2, sampler=Recording(), num_workers=2, prefetch_factor=3, collate_fn=list)
    )
    assert not taken
    next(iterator)
    assert len(taken) == 2 * (2 * 3 + 1)


@pytest.mark.cuda
def test_batches_are_pinned(dataset):
    loader = ThreadDataLoader(dataset, batch_size=4, num_workers=2, collate_fn=multitask_collate, pin_memory=True)
    assert all(maps.is_pinned() for batch in loader for maps in flatten(batch).values())


def item(height, width, index=0, **extra):
    """A constant item, so that what is padding shows."""
    return dict(
        inputs=np.full((height, width, 3), 9, np.uint8),
        targets=dict(semseg=np.full((height, width), 7, np.uint8), depth=np.full((height, width), 5, np.uint8)),
        labels=LABELS,
        length_scale=0.5,
        sample_idx=index,
        **extra,
    )


def test_a_batch_is_a_copy_of_its_items():
    """The items may be views of a memory map; a batch must not change with them."""
    assert FUNCTIONS.get('multitask_collate') is multitask_collate
    items = [item(4, 6, 3), item(4, 6, 8)]
    batch = multitask_collate(items)
    items[0]['inputs'][:] = 0
    assert batch.keys() == {'inputs', 'targets', 'length_scale', 'sample_idx'}
    expected = dict(
        inputs=torch.full((2, 4, 6, 3), 9, dtype=torch.uint8),
        semseg=torch.full((2, 4, 6), 7, dtype=torch.uint8),
        depth=torch.full((2, 4, 6), 5, dtype=torch.uint8),
        sample_idx=torch.tensor([3, 8]),
        length_scale=torch.tensor([0.5, 0.5]),
    )
    torch.testing.assert_close(flatten(batch), expected)
    assert batch['inputs'].is_contiguous()
    metres = [{**each, 'targets': dict(depth=np.full((4, 6), 31.5, np.float32))} for each in items]
    assert multitask_collate(metres)['targets']['depth'].dtype == torch.float32
    with pytest.raises(ValueError, match='`items` should have the same keys'):
        multitask_collate([item(4, 6), item(4, 6, metainfo={})])


def test_what_a_sample_lacks_is_filled_with_what_does_not_count():
    smaller = item(5, 3, metainfo=dict(n=1))
    del smaller['targets']['semseg']
    batch = multitask_collate([item(4, 6, metainfo=dict(n=0)), smaller])
    for maps, values, padding in (
        (batch['inputs'][..., 0], (9, 9), 0),
        (batch['targets']['semseg'], (7, 255), 255),
        (batch['targets']['depth'], (5, 5), 0),
    ):
        expected = torch.full((2, 5, 6), padding, dtype=torch.uint8)
        expected[0, :4, :6], expected[1, :5, :3] = values
        torch.testing.assert_close(maps, expected)
    assert batch['metainfo'] == [dict(n=0), dict(n=1)]
    assert multitask_collate([{**smaller, 'targets': {}}] * 2)['targets'] == {}
