"""A small submission: labels as the grader has them, predictions, and the archive."""

import numpy as np
import pytest
from PIL import Image

from mtl_plugins.submission import SubmissionWriter, build_archive, find_image_sizes
from tests.fake_miniscapes import LABELS, write_fake_miniscapes

SIZE = (24, 40)


class Submission:
    def __init__(self, folder):
        root = write_fake_miniscapes(folder / 'data', splits=dict(test=11), size=SIZE)
        self.labels = root / 'grader' / 'test'
        self.image_sizes = find_image_sizes((root / 'test' / 'rgb').iterdir())
        self.out_dir = folder / 'run'
        self.archive = self.out_dir / 'submission.zip'
        rng = np.random.default_rng(0)
        self.semseg, self.depth = {}, {}
        for stem in self.image_sizes:
            label = np.asarray(Image.open(self.labels / 'semseg' / f'{stem}.png'))
            self.semseg[stem] = np.where((rng.random(SIZE) < 0.7) & (label < 19), label, 3).astype(np.uint8)
            self.depth[stem] = rng.uniform(1, 350, SIZE).astype(np.float32)

    def write(self, tasks=('semseg', 'depth'), **options):
        with SubmissionWriter(self.out_dir, {task: LABELS[task] for task in tasks}, **options) as writer:
            for stem in self.image_sizes:
                maps = dict(semseg=self.semseg[stem], depth=self.depth[stem])
                writer.add(stem, {task: maps[task] for task in tasks})
        return self

    def pack(self, tasks=('semseg', 'depth'), **options):
        options = dict(command='python tools/train.py c.py', config_text='model = dict()', metrics=[]) | options
        labels = {task: LABELS[task] for task in tasks}
        return build_archive(self.archive, self.out_dir, labels, self.image_sizes, **options)


@pytest.fixture
def submission(tmp_path):
    return Submission(tmp_path)
