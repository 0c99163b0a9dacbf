# Crop size against the range of the random scale, and geometric augmentations: 3 crops x 3 ranges x 4 augmentations.
# python tools/sweep.py sweeps/augmentation.py
_base_ = ['_base_/short_budget.py']
about = 'Crops and augmentations of the joint model'
config = 'configs/joint/joint_r18-d16_1xb16-32e_miniscapes-256x256.py'
_crop = 'train_dataloader.dataset.pipeline.1'
space = {
    # Of images of 128x256.
    'crop': {side: {f'{_crop}.crop_size': side} for side in (64, 96, 128)},
    'scale': {f'{low} to {high}': {f'{_crop}.scale': [low, high]} for low, high in ((1, 1), (0.75, 1.5), (0.5, 2))},
    'augmentation': {
        'none': {f'{_crop}.flip_prob': 0.0},
        'mirror': {f'{_crop}.flip_prob': 0.5},
        'mirror, tilt': {f'{_crop}.flip_prob': 0.5, f'{_crop}.max_tilt_deg': 5.0},
        'mirror, tilt, wiggle': {f'{_crop}.flip_prob': 0.5, f'{_crop}.max_tilt_deg': 5.0, f'{_crop}.max_wiggle': 0.1},
    },
}
