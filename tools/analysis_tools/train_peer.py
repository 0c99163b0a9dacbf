"""Train what users of other packages would, on the data of one of our configs, and score it by its metrics: the encoder and its
initial weights are the config's, the loop is plain PyTorch."""

import argparse
import sys
from pathlib import Path

PEERS = ('smp', 'libmtl')


def parse_args() -> argparse.Namespace:
    from mtl_plugins.cli.arguments import positive

    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="smp: segmentation-models-pytorch's DeepLabV3+ with an output per class and one for log depth, the losses, "
        "optimizer and schedule of the config. libmtl: LibMTL's recipe, an ASPP head of torchvision per task, cross-entropy and "
        'absolute error, Adam with 1e-4, halved after half of the epochs. --amp for both or neither, when they are compared.',
    )
    parser.add_argument('peer', choices=PEERS, help='whose model and recipe')
    parser.add_argument('config', help='data, augmentation, batch size and encoder; tasks `semseg` and `depth`')
    parser.add_argument('--data-root', help='folder of the data set')
    parser.add_argument('--epochs', type=positive, required=True, help='how long')
    parser.add_argument('--seed', type=int, default=0, help='of weights and samples (default: 0)')
    parser.add_argument('--out', type=Path, required=True, help='JSON file of the scores after each epoch and processor seconds')
    parser.add_argument('--amp', action='store_true', help='bfloat16')
    return parser.parse_args()


def build_peer(peer: str, encoder, classes: int, depth_range: tuple[float, float]):
    """Return the model, which gives logits ``(B, classes, H, W)`` and metres ``(B, H, W)``, and its loss."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    from mtl_plugins.models.losses import silog_loss

    lowest, highest = depth_range

    class Smp(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            import segmentation_models_pytorch as smp

            name = f'tu-{encoder.name}'
            self.model = smp.DeepLabV3Plus(name, encoder_weights=None, encoder_output_stride=16, classes=classes + 1)
            self.model.encoder.model.load_state_dict(encoder.network.state_dict())

        def forward(self, images):
            output = self.model(images).float()
            return output[:, :classes], output[:, classes].clamp(torch.tensor(lowest).log(), torch.tensor(highest).log()).exp()

    class LibMTL(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            from torchvision.models.segmentation.deeplabv3 import DeepLabHead

            self.encoder = encoder
            self.heads = nn.ModuleList(DeepLabHead(encoder.out_channels[-1], outputs) for outputs in (classes, 1))

        def forward(self, images):
            features, size = self.encoder(images)[-1], images.shape[-2:]
            maps = (F.interpolate(head(features), size=size, mode='bilinear', align_corners=True) for head in self.heads)
            logits, depth = (each.float() for each in maps)
            return logits, depth[:, 0]

    def loss(logits, metres, labels, depth):
        valid = depth > 0
        classes_loss = F.cross_entropy(logits, labels.long(), ignore_index=255)
        if peer == 'smp':
            return 0.5 * classes_loss + 0.5 * silog_loss(metres, depth, valid)
        return classes_loss + (metres - depth).abs()[valid].sum() / valid.sum().clamp(min=1)

    return (Smp() if peer == 'smp' else LibMTL()), loss


def main() -> None:
    args = parse_args()
    import json
    import time

    import torch
    from mmengine.evaluator import Evaluator
    from mmengine.registry import init_default_scope
    from mmengine.runner import set_random_seed
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    from mtl_plugins.config.load import load_config
    from mtl_plugins.engine.runner import MultiTaskRunner
    from mtl_plugins.registry import MODELS
    from mtl_plugins.utils.files import save_text

    config = load_config(args.config, data_root=args.data_root)
    init_default_scope(config.default_scope)
    set_random_seed(args.seed)
    train_loader = MultiTaskRunner.build_dataloader(config.train_dataloader, seed=args.seed)
    val_loader = MultiTaskRunner.build_dataloader(config.val_dataloader, seed=args.seed)
    preprocessor = MODELS.build(config.model.data_preprocessor)
    encoder = MODELS.build(config.model.backbone)
    encoder.init_weights()
    depth_range = config.model.tasks.depth.depth_range
    classes = len(val_loader.dataset.metainfo['labels']['semseg']['classes'])
    model, loss_of = build_peer(args.peer, encoder, classes, depth_range)
    if args.peer == 'smp':
        settings = config.optim_wrapper.optimizer
        optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
        steps, warm_up = args.epochs * len(train_loader), config.param_scheduler[0].end
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / warm_up, 1.0) * max(1 - step / steps, 0.0) ** 0.9
        )
    else:
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, weight_decay=1e-5)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, max(args.epochs // 2, 1) * len(train_loader), gamma=0.5)
    evaluator = Evaluator(config.val_evaluator)
    evaluator.dataset_meta = val_loader.dataset.metainfo
    curve, seconds = [], 0.0
    for epoch in range(args.epochs):
        started = time.process_time()
        model.train()
        train_loader.sampler.set_epoch(epoch)
        for batch in train_loader:
            data = preprocessor(batch, training=True)
            with torch.autocast('cpu', torch.bfloat16, enabled=args.amp):
                logits, metres = model(data['inputs'])
            loss = loss_of(logits, metres, data['targets']['semseg'], data['targets']['depth'])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        seconds += time.process_time() - started
        model.eval()
        with torch.inference_mode():
            for batch in val_loader:
                data = preprocessor(batch)
                logits, metres = model(data['inputs'])
                samples = []
                for index, meta in enumerate(batch['metainfo']):
                    sample = SegDataSample(metainfo=meta)
                    predicted = dict(
                        sem_seg=logits[index].max(0).indices.to(torch.uint8), depth_map=metres[index].clamp(*depth_range)
                    )
                    true = dict(sem_seg=data['targets']['semseg'][index], depth_map=data['targets']['depth'][index])
                    for kind, maps in (('pred', predicted), ('gt', true)):
                        for name, each in maps.items():
                            sample.set_data({f'{kind}_{name}': PixelData(data=each[None])})
                    samples.append(sample)
                evaluator.process(samples)
        scores = evaluator.evaluate(len(val_loader.dataset))
        curve.append(dict(epoch=epoch + 1, loss=loss.item(), processor_seconds=round(seconds, 1), **scores))
        parameters = sum(each.numel() for each in model.parameters())
        record = dict(peer=args.peer, config=args.config, seed=args.seed, amp=args.amp, parameters=parameters, curve=curve)
        save_text(args.out, json.dumps(record, indent=1) + '\n')
        print({key: value for key, value in curve[-1].items() if 'class' not in key}, flush=True)


if __name__ == '__main__':
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from mtl_plugins.utils.cli import run_tool

    run_tool(main)
