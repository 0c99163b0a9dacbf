# Dynamic task prioritization (ECCV 2018), by the losses.
task_balancing = dict(type='DynamicTaskPriority', gamma=1.0, momentum=0.1)
