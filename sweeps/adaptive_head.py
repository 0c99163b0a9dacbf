# The adaptive depth head: bins, attention heads, layers, expansion, and where the latents come from. 30 of the 432 points.
# python tools/sweep.py sweeps/adaptive_head.py
_base_ = ['_base_/short_budget.py']
about = 'Parameters of the adaptive depth head'
config = 'configs/adaptive_depth/adaptive_depth_r18-d16_1xb16-32e_miniscapes-256x256.py'
space = {
    'model.decode_head.head.num_bins': [16, 64, 256],
    'model.decode_head.head.num_heads': [2, 4, 8],
    'model.decode_head.head.num_layers': [1, 2, 3, 6],
    'model.decode_head.head.expansion': [1, 2, 4, 8],
    'latents': {
        'decoder': {'model.decode_head.head.latents': 'decoder'},
        'encoder': {'model.decode_head.head.latents': 'encoder', 'model.decode_head.head.channel_reducer': 'linear'},
        'aspp': {'model.decode_head.head.latents': 'aspp', 'model.decode_head.head.head.rates': [3, 6, 9]},
    },
}
sampler = dict(type='TPESampler', seed=0)
trials = 30
pruner = dict(type='MedianPruner')
metric = 'metrics_summary/depth'
