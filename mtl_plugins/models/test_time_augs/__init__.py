from mtl_plugins.models.test_time_augs.multitask_tta_model import MultiTaskTTAModel
from mtl_plugins.models.test_time_augs.scale_attention import ScaleAttentionSegmentor

__all__ = ['MultiTaskTTAModel', 'ScaleAttentionSegmentor']
