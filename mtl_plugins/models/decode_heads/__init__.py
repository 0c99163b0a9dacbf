from mtl_plugins.models.decode_heads.branched_head import BranchedHead
from mtl_plugins.models.decode_heads.deeplabv3plus_head import DeepLabV3PlusHead
from mtl_plugins.models.decode_heads.joint_head import JointHead

__all__ = ['BranchedHead', 'DeepLabV3PlusHead', 'JointHead']
