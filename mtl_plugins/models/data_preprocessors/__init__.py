from mtl_plugins.models.data_preprocessors.multitask_preprocessor import MultiTaskDataPreprocessor

__all__ = ['MultiTaskDataPreprocessor']
