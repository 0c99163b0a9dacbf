# The ladder of a course report, and heads for depth. Results and what they say: docs/ablation.
# python tools/sweep.py sweeps/ablation.py --jobs 2
_base_ = ['_base_/ablation_budget.py']
about = (
    'The ladder of one course report and the depth heads, on generated scenes, every row with the same data, seeds and budget.'
)
_adam = {'optim_wrapper.optimizer': dict(_delete_=True, type='Adam', lr=5e-4)}
_dilation = {'model.backbone.output_stride': 16, 'model.data_preprocessor.size_divisor': 16}
_stride = 'model.decode_head.head.query_stride'
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
    'adaptive bins at stride 4': dict(config=_adaptive, options={_stride: 1}),
    'adaptive bins at stride 8': dict(config=_adaptive, options={_stride: 2}),
}
rows = {
    **{name: dict(row, table='Ladder, both tasks') for name, row in _ladder.items()},
    **{name: dict(row, table='Depth heads, depth alone') for name, row in _heads.items()},
}
