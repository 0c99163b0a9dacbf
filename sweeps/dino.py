# DINO: temperatures of teacher and student, and how the teacher is centred. Data: tools/dataset_tools/make_coco.py.
# python tools/sweep.py sweeps/dino.py --data-root DATA
about = 'Temperatures and centring of DINO'
config = 'configs/dino/dino_r18-d32_1xb64-20e_synthetic-coco-48x48.py'
_teacher = 'default_hooks.dino_schedule.teacher_temperature'
space = {
    'teacher temperature': {value: {_teacher: [value, value]} for value in (0.01, 0.02, 0.04, 0.07)},
    'model.student_temperature': [0.05, 0.1, 0.2],
    'model.centring': ['mean', 'sinkhorn'],
}
metric = 'knn_accuracy'
amp = True
