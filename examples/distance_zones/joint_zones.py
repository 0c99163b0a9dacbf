# Zones of distance instead of metres: parts from outside the package in a config.
# python tools/train.py examples/distance_zones/joint_zones.py --data-root DATA
_base_ = ['../../configs/joint/joint_r18-d16_1xb16-32e_miniscapes-256x256.py']
custom_imports = dict(imports=['examples.distance_zones.distance_zones'])
zones = dict(labels=dict(zones=dict(type='DistanceZones', classes=['near', 'middle', 'far'])), tasks=['zones'])
model = dict(
    tasks=dict(_delete_=True, zones=dict(type='OrdinalTask')),
    task_balancing=dict(weights=dict(_delete_=True, zones=1.0)),
)
train_dataloader = dict(dataset=zones)
val_dataloader = dict(dataset=zones)
test_dataloader = dict(dataset=zones)
default_hooks = dict(checkpoint=dict(save_best='metrics_summary/zones', rule='greater'))
