"""Two processes with half a batch each are one with all of it, with labels that one has alone."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.task_balancing import two_processes


@pytest.mark.dist
def test_two_processes_take_the_steps_of_one(tmp_path):
    command = [sys.executable, '-m', 'tests.task_balancing.two_processes']
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / 'store'), str(tmp_path / f'{rank}.pt')],
            cwd=Path(__file__).resolve().parents[2],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    expected = two_processes.results()
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-3000:]
    first, second = (torch.load(tmp_path / f'{rank}.pt') for rank in range(2))
    for kind, parameters in expected.items():
        for name, value in parameters.items():
            assert torch.equal(first[kind][name], second[kind][name]), (kind, name)
            # Buffers of BatchNorm are float32, as the whole of the model.
            tolerance = 1e-4 if kind.startswith('model') else 1e-6
            torch.testing.assert_close(first[kind][name], value, rtol=tolerance, atol=tolerance / 10, msg=f'{kind} {name}')
