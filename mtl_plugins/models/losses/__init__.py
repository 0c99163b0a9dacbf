from mtl_plugins.models.losses.dense_losses import (
    BalancedBoundaryLoss,
    CosineNormalLoss,
    DepthRegressionLoss,
    SILogLoss,
    UpsampledCrossEntropyLoss,
    silog_loss,
    upsampled_cross_entropy,
)
