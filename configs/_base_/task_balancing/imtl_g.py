# IMTL-G (ICLR 2021), on the features that tasks share, as in the paper.
task_balancing = dict(type='AggregatedGradients', aggregator='IMTLG', place='features')
