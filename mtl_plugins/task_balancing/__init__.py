from mtl_plugins.task_balancing.fixed_weights import FixedWeights

__all__ = ['FixedWeights']
