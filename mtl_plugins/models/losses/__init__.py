from mtl_plugins.models.losses.balanced_boundary_loss import BalancedBoundaryLoss
from mtl_plugins.models.losses.cosine_normal_loss import CosineNormalLoss
from mtl_plugins.models.losses.depth_regression_loss import DepthRegressionLoss
from mtl_plugins.models.losses.silog_loss import SILogLoss
from mtl_plugins.models.losses.upsampled_cross_entropy import UpsampledCrossEntropyLoss

__all__ = [
    'BalancedBoundaryLoss',
    'CosineNormalLoss',
    'DepthRegressionLoss',
    'SILogLoss',
    'UpsampledCrossEntropyLoss',
]
