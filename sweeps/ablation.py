# The ladder of a course report, and heads for depth. Results and what they say: docs/ablation.
# python tools/sweep.py sweeps/ablation.py --jobs 2
_base_ = ['_base_/ablation_budget.py']
about = (
    'The ladder of one course report and the depth heads, on generated scenes, every row with the same data, seeds and budget.'
)
_adam = {'optim_wrapper.optimizer': dict(_delete_=True, type='Adam', lr=5e-4)}
_dilation = {'model.backbone.output_stride': 16, 'model.data_preprocessor.size_divisor': 16}
_head = 'model.decode_head.head.'
_plain = 'configs/baseline/baseline_r18-d32_1xb16-16e_miniscapes-256x256.py'
_adaptive = 'configs/adaptive_depth/adaptive_depth_r18-d16_1xb16-32e_miniscapes-256x256.py'
_ladder = {
    'plain': dict(config=_plain, options=_adam),
    '+ dilation': dict(config=_plain, options={**_adam, **_dilation}),
    '+ ASPP, skip (joint)': dict(config='configs/joint/joint_r18-d16_1xb16-32e_miniscapes-256x256.py'),
    'branched': dict(config='configs/branched/branched_r18-d16_1xb16-32e_miniscapes-256x256.py'),
    'distilled': dict(config='configs/distilled/distilled_r18-d16_1xb16-32e_miniscapes-256x256.py'),
}
_heads = {
    'regression': dict(config='configs/deeplabv3plus/deeplabv3plus-depth_r18-d16_1xb16-32e_miniscapes-256x256.py'),
    'fixed bins': dict(config='configs/fixed_bins/fixed_bins_r18-d16_1xb16-32e_miniscapes-256x256.py'),
    'adaptive bins at stride 4': dict(config=_adaptive, options={f'{_head}query_stride': 1}),
    'adaptive bins at stride 8': dict(config=_adaptive, options={f'{_head}query_stride': 2}),
}
# The mean and deviation are those of the 800 scenes.
_depth_of_2020 = {
    'model.tasks.depth.representation': 'normalised',
    'model.tasks.depth.statistics': dict(mean=24.0702, std=27.0930),
    'model.tasks.depth.depth_range': (4.0, 300.0),
    'model.tasks.depth.loss': dict(_delete_=True, type='DepthRegressionLoss', norm='l2', reduction='image'),
}
_bins_of_2025 = {
    f'{_head}bin_order': 'direct',
    f'{_head}depth_range': (0.1, 300.0),
    f'{_head}query_stride': 1,
    f'{_head}scale_similarity': False,
}
_forms = {
    'joint, depth of 2020': dict(_ladder['+ ASPP, skip (joint)'], options=_depth_of_2020),
    'distilled, 3x3 gates': dict(_ladder['distilled'], options={'model.decode_head.gate_kernel_size': 3}),
    'adaptive bins, form of 2025': dict(config=_adaptive, options=_bins_of_2025),
}
rows = {
    **{name: dict(row, table='Ladder, both tasks') for name, row in _ladder.items()},
    **{name: dict(row, table='Depth heads, depth alone') for name, row in _heads.items()},
    **{name: dict(row, table='As the courses built them') for name, row in _forms.items()},
}
