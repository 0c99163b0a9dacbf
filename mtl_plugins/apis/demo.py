"""The parts of the demo: its data, its table and its picture."""

import csv
import multiprocessing
import zipfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from mtl_plugins.apis.training import TrainingResult
from mtl_plugins.datasets.decoding import decode_depth_code, decode_image, decode_label
from mtl_plugins.datasets.depth_codec import decode_depth
from mtl_plugins.datasets.synthetic.miniscapes_writer import write_miniscapes
from mtl_plugins.engine.checkpoint_io import atomic_path
from mtl_plugins.engine.hooks.metrics_csv_hook import FILE_NAME as METRICS_FILE
from mtl_plugins.engine.hooks.metrics_csv_hook import read_metrics
from mtl_plugins.evaluation.position_baseline import PositionBaseline
from mtl_plugins.submission.grader import grade_submission
from mtl_plugins.visualization.prediction_grid import render_prediction_grid

SUMMARY = {'mIoU': 'metrics_summary/semseg', 'SI-logRMSE': 'metrics_summary/depth', 'multitask': 'metrics_summary/multitask'}


def ensure_data(out: Path, num_train: int, num_val: int, num_test: int, size: tuple[int, int], seed: int) -> Path:
    """Generate the data set unless an earlier demo with the same numbers left it."""
    root = out / f'data_{num_train}-{num_val}-{num_test}_{size[0]}x{size[1]}_seed{seed}'
    if not (root / 'train').is_dir() or not (root / 'test').is_dir():
        write_miniscapes(root, num_train, num_val, num_test, size, seed=seed, workers=multiprocessing.cpu_count())
    return root
