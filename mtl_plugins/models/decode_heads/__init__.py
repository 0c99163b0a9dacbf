from mtl_plugins.models.decode_heads.bins_depth_heads import AdaptiveDepthHead, FixedBinsDepthHead
from mtl_plugins.models.decode_heads.deeplabv3plus_head import ASPPHead, DeepLabV3PlusHead, LinearHead
from mtl_plugins.models.decode_heads.distilled_head import DistilledHead
from mtl_plugins.models.decode_heads.heads import BranchedHead, JointHead
from mtl_plugins.models.decode_heads.mmseg_head import MMSegHead
from mtl_plugins.models.decode_heads.transformer_heads import ClassTokenSegHead, TransformerSegHead
