from mtl_plugins.models.test_time_augs.multitask_tta_model import MultiTaskTTAModel

__all__ = ['MultiTaskTTAModel']
