# A picture from outside the package, after each validation.
# python tools/train.py examples/depth_picture/joint_depth_picture.py --data-root DATA
_base_ = ['../../configs/joint/joint_r18-d16_1xb16-32e_miniscapes-256x256.py']
custom_imports = dict(imports=['examples.depth_picture.depth_picture'])
default_hooks = dict(pictures=dict(depth_scatter=dict(type='DepthScatter')))
