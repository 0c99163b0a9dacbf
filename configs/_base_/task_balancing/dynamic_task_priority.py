# Dynamic task prioritization (ECCV 2018), based on the losses.
task_balancing = dict(type='DynamicTaskPriority', gamma=1.0, momentum=0.1)
