from mtl_plugins.models.decode_heads.adaptive_depth_head import AdaptiveDepthHead
from mtl_plugins.models.decode_heads.aspp_head import ASPPHead
from mtl_plugins.models.decode_heads.branched_head import BranchedHead
from mtl_plugins.models.decode_heads.class_token_seg_head import ClassTokenSegHead
from mtl_plugins.models.decode_heads.deeplabv3plus_head import DeepLabV3PlusHead
from mtl_plugins.models.decode_heads.distilled_head import DistilledHead
from mtl_plugins.models.decode_heads.fixed_bins_depth_head import FixedBinsDepthHead
from mtl_plugins.models.decode_heads.joint_head import JointHead
from mtl_plugins.models.decode_heads.linear_head import LinearHead
from mtl_plugins.models.decode_heads.mmseg_head import MMSegHead
from mtl_plugins.models.decode_heads.transformer_seg_head import TransformerSegHead

__all__ = [
    'ASPPHead',
    'AdaptiveDepthHead',
    'BranchedHead',
    'ClassTokenSegHead',
    'DeepLabV3PlusHead',
    'DistilledHead',
    'FixedBinsDepthHead',
    'JointHead',
    'LinearHead',
    'MMSegHead',
    'TransformerSegHead',
]
