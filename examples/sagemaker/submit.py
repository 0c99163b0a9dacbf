"""Start a training job of Amazon SageMaker on a managed spot instance. Needs `pip install 'sagemaker<3'` and an AWS account.

python examples/sagemaker/submit.py s3://BUCKET/miniscapes --role ROLE --checkpoints s3://BUCKET/checkpoints/NAME
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

HOURS = 3600
# `config`, and any keys of it.
HYPERPARAMETERS = {
    'config': 'configs/joint/joint_r18-d16_1xb16-32e_miniscapes-256x256.py',
    'amp': True,
    'name': 'adam_1e-4',
    'team': 46,
    'team_prefix': 'G',
    'optim_wrapper.optimizer.lr': 1e-4,
}


def make_estimator(role: str, hyperparameters: dict, checkpoints: str, **options):
    """Return the estimator of a job; ``options`` replace arguments of ``sagemaker.pytorch.PyTorch``."""
    from sagemaker.pytorch import PyTorch

    from mtl_plugins.lab.sagemaker import stage_source

    arguments = dict(
        entry_point='tools/cloud/sagemaker_train.py',
        source_dir=str(stage_source(Path(tempfile.mkdtemp()))),
        framework_version='2.8.0',
        py_version='py312',
        role=role,
        instance_count=1,
        instance_type='ml.g5.xlarge',
        hyperparameters=hyperparameters,
        # An interrupted job goes on from here.
        checkpoint_s3_uri=checkpoints,
        use_spot_instances=True,
        max_run=24 * HOURS,
        max_wait=48 * HOURS,
    )
    return PyTorch(**{**arguments, **options})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('data', help='S3 address of the data set, with train/, val/, test/')
    parser.add_argument('--role', required=True, help='ARN of a role that may train')
    parser.add_argument('--checkpoints', required=True, help='S3 address of the work dir while the job runs, one for each run')
    parser.add_argument('--instance', default='ml.g5.xlarge', help='type of the instance (default: %(default)s)')
    args = parser.parse_args()
    estimator = make_estimator(args.role, HYPERPARAMETERS, args.checkpoints, instance_type=args.instance)
    estimator.fit({'training': args.data}, wait=False)
    print(f'Started {estimator.latest_training_job.name}.')


if __name__ == '__main__':
    main()
