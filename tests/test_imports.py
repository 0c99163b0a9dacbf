"""The floors of the package, and what its tools import before they know their arguments."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mtl_plugins
from mtl_plugins import registry

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'mtl_plugins'
CONFIG = PACKAGE.parent / 'configs/quickstart/joint_r18-d16_1xb4-3e_synthetic-128x256.py'


# From the ground up. Parts of one floor do not know each other, and none imports from a floor above.
FLOORS = (
    ('errors', 'registry'),
    ('utils',),
    ('evaluation.functional',),
    ('labels',),
    ('datasets', 'task_balancing'),
    ('models',),
    ('evaluation',),
    ('records',),
    ('submission', 'visualization'),
    ('engine',),
    ('config',),
    ('loading',),
    ('deployment',),
    ('apis',),
    ('deployment.server',),
    # The wings: no part of the core imports them.
    ('synthetic',),
    ('lab',),
    # The command knows all.
    ('cli',),
    ('__main__',),
)
PARTS = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}


def _part(module: str) -> str | None:
    """The longest name of a part that a dotted module of the package belongs to."""
    return max((part for part in PARTS if f'{module}.'.startswith(f'{part}.')), key=len, default=None)


def _imports(tree: ast.Module) -> set[str]:
    """Modules that are imported, and those that the registries load that are built from."""
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    registries = {alias.name for node in froms if node.module == 'mtl_plugins.registry' for alias in node.names}
    found = {node.module for node in froms}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute) and node.attr in ('build', 'get') and isinstance(node.value, ast.Name):
            found |= set(getattr(registry, node.value.id)._locations) if node.value.id in registries else set()
    return found


def test_no_part_imports_or_loads_what_is_built_on_it():
    seen = set()
    for path in PACKAGE.rglob('*.py'):
        part = _part('.'.join(path.relative_to(PACKAGE).with_suffix('').parts))
        if part is None:
            assert path == PACKAGE / '__init__.py', f'{path} is on no floor'
            continue
        seen.add(part)
        for module in _imports(ast.parse(path.read_text())):
            imported = _part(module.removeprefix('mtl_plugins.')) if module.startswith('mtl_plugins.') else part
            assert imported == part or PARTS[imported] < PARTS[part], f'{path} imports or loads {module}'
    assert seen == set(PARTS)


def test_the_core_trains_without_the_wings_and_their_packages(data_root, tmp_path):
    absent = 'mtl_plugins.lab mtl_plugins.synthetic timm h5py scipy sklearn pycocotools OpenEXR torchjd wandb tensorboard optuna'
    absent += ' jinja2 plotly onnx onnxscript onnxruntime openvino nncf starlette uvicorn segmentation_models_pytorch'
    code = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({absent.split()}))
sys.argv = ['train.py', {str(CONFIG)!r}, '--data-root', {str(data_root)!r}, '--work-dir', {str(tmp_path / 'run')!r},
    '--cfg-options', 'train_cfg.max_epochs=1', 'train_dataloader.dataset.pipeline.1.crop_size=[32,64]']
runpy.run_path('tools/train.py', run_name='__main__')
"""
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    assert {path.suffix for path in (tmp_path / 'run').iterdir()} >= {'.pth', '.zip', '.csv'}


@pytest.mark.parametrize(
    ('installed', 'sentence'),
    [
        (['onedl-mmengine', 'onedl-mmcv', 'onedl-mmsegmentation'], None),
        (['mmengine', 'mmcv-lite', 'mmsegmentation'], None),
        (['mmengine', 'mmcv', 'mmsegmentation'], None),
        (['onedl-mmengine', 'onedl-mmcv', 'mmcv', 'onedl-mmsegmentation'], 'pip uninstall -y mmcv onedl-mmengine onedl-mmcv '),
        (['mmengine', 'mmcv'], r"mmsegmentation is not installed. Run: pip install 'mtl_plugins\[openmmlab\]'$"),
        ([], r"MMSegmentation is not installed. Run: pip install 'mtl_plugins\[onedl\]' for .*, or \[openmmlab\] for these$"),
    ],
)
def test_one_family_of_packages_is_needed_and_a_mixture_refused(monkeypatch, installed, sentence):
    monkeypatch.setattr(mtl_plugins, '_is_installed', installed.__contains__)
    if sentence is None:
        mtl_plugins._check_stack()
    else:
        with pytest.raises(ImportError, match=sentence):
            mtl_plugins._check_stack()


def test_help_is_quick_because_arguments_are_parsed_before_the_heavy_imports():
    tools = [path for path in (PACKAGE.parent / 'tools').rglob('*.py') if path.parent.name != 'benchmarks']
    assert len(tools) >= 7
    code = (
        'import runpy, sys\n'
        'try:\n    path, *sys.argv = sys.argv[1:2] + sys.argv[1:]; runpy.run_path(path, run_name="__main__")\n'
        'finally:\n    assert "torch" not in sys.modules, "torch was imported"\n'
    )
    for path in tools:
        run = subprocess.run([sys.executable, '-c', code, str(path), '--help'], capture_output=True, text=True)
        assert run.returncode == 0, f'{path}: {run.stderr}'
        assert 'usage:' in run.stdout and len(run.stdout) > 200, path


def test_heavy_packages_and_other_models_are_imported_when_they_are_used():
    code = (
        'import sys; from mtl_plugins.config.load import load_config; from mtl_plugins.registry import MODELS\n'
        'import mtl_plugins.apis.train, mtl_plugins.apis.inference\n'
        f'model = load_config({str(CONFIG)!r}).model\n'
        'early = [name for name in ("matplotlib", "torchvision", "torch._dynamo") if name in sys.modules]\n'
        'MODELS.build(model)\n'
        'print(early, [name for name in ("matplotlib", "mmseg.models", "mmseg.datasets", "timm") if name in sys.modules])'
    )
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert run.stdout.splitlines()[-1:] == ['[] []'], run.stdout + run.stderr


def test_every_text_file_has_an_encoding_of_its_own():
    found, seen = [], 0
    for path in [file for name in ('mtl_plugins', 'tools', 'examples', 'docs/hooks') for file in (ROOT / name).rglob('*.py')]:
        for call in (node for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))) if isinstance(node, ast.Call)):
            name, written = ast.unparse(call.func).rpartition('.')[2], ast.unparse(call)
            is_text = name in ('read_text', 'write_text') or (
                name == 'open'
                and not ast.unparse(call.func).startswith(('Image.', 'os.', 'webbrowser.', 'self._zip.', 'capture.'))
                and not any(isinstance(each, ast.Constant) and 'b' in str(each.value) for each in call.args)
            )
            seen += is_text
            if is_text and not any(keyword.arg in ('encoding', None) for keyword in call.keywords):
                found.append(f'{path}:{call.lineno}: {written}')
    assert seen > 20 and not found
