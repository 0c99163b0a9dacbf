"""Judge the features of a checkpoint: k-NN and linear-probe accuracy on validation images, beside random weights."""

import argparse
import json
import sys
from pathlib import Path


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Training images are the bank, validation images the queries. Vote: the nearest by cosine, weighted by exp(cosine '
        '/ 0.07). Linear probe: logistic regression with C = 1 on standardised features. Without CHECKPOINT the initial weights '
        'are judged, such as those of `init_cfg`. What is not given, such as --k, is as in FeatureHook of the config, so that '
        'the numbers are those in the log of the run.',
    )
    parser.add_argument('config', help='config file that the checkpoint was trained with')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint file')
    parser.add_argument('--random-init', action='store_true', help='also judge the same network with random weights')
    parser.add_argument('--data-config', metavar='CONFIG', help='config with the images; CONFIG by default')
    parser.add_argument('--data-root', help='folder of the images (or set MTL_DATA_ROOT)')
    parser.add_argument('--image-size', type=int, metavar='PIXELS', help='side of the images')
    parser.add_argument('--num-train', type=int, help='training images at most, 0 for all')
    parser.add_argument('--num-val', type=int, help='validation images at most, 0 for all')
    parser.add_argument('--k', type=int, help='neighbours that vote')
    parser.add_argument('--skip-linear', action='store_true', help='leave out the linear probe')
    parser.add_argument('--device', default='cpu', help='where the model runs, e.g. cuda:0 (default: cpu)')
    parser.add_argument('--seed', type=int, default=0, help='of random weights (default: 0)')
    parser.add_argument('--json', type=Path, metavar='OUT.json', help='write numbers and their provenance there')
    parser.add_argument('--cfg-options', nargs='+', metavar='KEY=VALUE', help='override config entries, as in tools/train.py')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    import torch

    from benchmarks.results import Options, provenance
    from mtl_plugins.lab.features.scoring import judge, load_configs, to_table
    from mtl_plugins.utils.files import replacing

    config, data_config = load_configs(args.config, args.data_config, args.cfg_options, args.data_root)
    document = judge(
        config,
        data_config,
        args.checkpoint,
        random_init=args.random_init,
        image_size=args.image_size,
        num_train=args.num_train,
        num_val=args.num_val,
        k=args.k,
        linear=not args.skip_linear,
        device=args.device,
        seed=args.seed,
    )
    print(to_table(document))
    if args.json:
        options = Options(threads=torch.get_num_threads(), repeats=1, device=args.device, seed=args.seed)
        document |= dict(config=args.config, checkpoint=args.checkpoint, options=args.cfg_options, provenance=provenance(options))
        with replacing(args.json) as temporary:
            temporary.write_text(json.dumps(document, indent=1) + '\n', encoding='utf-8')


if __name__ == '__main__':
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from mtl_plugins.utils.cli import run_tool

    run_tool(main)
