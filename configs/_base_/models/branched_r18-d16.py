# An ASPP and a decoder per task over a shared encoder.
_base_ = ['joint_r18-d16.py']
model = dict(decode_head=dict(type='BranchedHead'))
