"""The main job on an embedded default: generate street scenes, train the joint model, predict the test split, grade it."""

import argparse
import time
from pathlib import Path

from mtl_plugins.cli.arguments import image_size

CONFIG = 'configs/quickstart/joint_tf-efficientnet-lite0-d16_1xb4-6e_separable-pretrained_synthetic-128x256.py'


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/demo'), help='folder for data and runs')
    parser.add_argument('--config', default=CONFIG, help='config to train')
    parser.add_argument('--train', type=int, default=800, help='training images')
    parser.add_argument('--val', type=int, default=100, help='validation images')
    parser.add_argument('--test', type=int, default=100, help='test images')
    parser.add_argument('--size', type=image_size, default='128x256', metavar='HxW', help='size of the images')
    parser.add_argument('--seed', type=int, default=0, help='seed of the scenes')
    parser.add_argument('--cfg-options', nargs='+', metavar='KEY=VALUE', help='override config entries, as in `mtl train`')
    return parser


def main(args: argparse.Namespace) -> None:
    start = time.time()
    from mtl_plugins.apis.train import train
    from mtl_plugins.config.load import load_config, parse_options
    from mtl_plugins.config.options import set_mixed_precision, set_work_dir, supports_bf16
    from mtl_plugins.synthetic.demo import ensure_data, report

    data_root = ensure_data(args.out, args.train, args.val, args.test, args.size, args.seed)
    config = load_config(args.config, parse_options(args.cfg_options), str(data_root))
    set_work_dir(config, str(args.out / time.strftime('run_%Y%m%d-%H%M%S')))
    if supports_bf16():
        set_mixed_precision(config)
    result = train(config)
    report(data_root, Path(config.work_dir), result)
    print(f'Took {(time.time() - start) / 60:.1f} minutes.')
