# Channels of the decoder's skip and the number of its convolutions, every pair.
# python tools/sweep.py sweeps/decoder.py
_base_ = ['_base_/short_budget.py']
about = 'Skip channels and convolutions of the decoder of the joint model'
config = 'configs/joint/joint_r18-d16_1xb16-32e_miniscapes-256x256.py'
space = {
    'model.decode_head.head.skip_channels': [16, 32, 48, 64, 128],
    'model.decode_head.head.num_convs': [1, 2, 3],
}
