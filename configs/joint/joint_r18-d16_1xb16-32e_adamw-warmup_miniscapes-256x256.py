# Joint DeepLabV3+ with AdamW, weight decay and warm-up over the first 500 iterations.
# python tools/train.py configs/joint/joint_r18-d16_1xb16-32e_adamw-warmup_miniscapes-256x256.py
_base_ = [
    '../_base_/models/joint_r18-d16.py',
    '../_base_/datasets/miniscapes_256x256.py',
    '../_base_/schedules/schedule_adamw-warmup_32e.py',
    '../_base_/default_runtime.py',
]
