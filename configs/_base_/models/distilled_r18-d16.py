# Branched, with an exchange of gated features and a second prediction of each task.
_base_ = ['joint_r18-d16.py']
model = dict(decode_head=dict(type='DistilledHead', final_decoder='simple', gate_kernel_size=1))
