"""Exported files compute what the models compute, say what they hold, and are refused where they do not."""

import copy
import json
import subprocess
import sys
from collections import UserList
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mtl_plugins.apis.inference import MultiTaskInferencer
from mtl_plugins.deployment import export as exporting
from mtl_plugins.deployment import load_runtime
from mtl_plugins.deployment.parity import LIMITS, Limits, compare, difference
from mtl_plugins.deployment.runtimes import Description, ExportedRuntime, describe
from mtl_plugins.errors import ConfigError, CorruptFileError, DataNotFoundError, UserError
from mtl_plugins.lab.int8 import Calibration, refuse_losses
from mtl_plugins.loading import to_arrays
from mtl_plugins.models.class_attention import ClassMaskTask
from mtl_plugins.models.tasks.semseg import SemSegTask
from mtl_plugins.registry import MODELS
from tests.models.builders import MEAN, STD, build_segmentor
from tests.test_configs import each_of, narrow
from tests.tiny import CONFIGS, TinyBackbone

# All kinds of label.
TASKS = dict(
    semseg=dict(type='SemSegTask', num_classes=19),
    depth=dict(type='DepthTask'),
    normals=dict(type='NormalsTask'),
    boundary=dict(type='BoundaryTask'),
)
# Multiples of the divisor and not, one and several, all but one of other sizes than the traced one.
SHAPES = ((1, 32, 48), (2, 49, 75), (3, 64, 32))


# One of each system, head and backbone.
EXPORTED = sorted(
    path
    for pattern in ('*/*_r18-d16_1xb16-32e_miniscapes*', '*/*deep-pretrained*', 'joint/joint_[!r]*', 'class_attention/*e_coco*')
    for path in CONFIGS.glob(pattern)
)


def make_images(shape, seed=0):
    number, height, width = shape
    coarse = torch.rand(number, 3, 5, 7, generator=torch.Generator().manual_seed(seed)) * 255
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode='bicubic', align_corners=False)
    return smooth.clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


def prepared(model, images):
    return model.data_preprocessor(dict(inputs=torch.from_numpy(images)))['inputs']


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    preprocessor = dict(type='MultiTaskDataPreprocessor', mean=MEAN, std=STD, size_divisor=16)
    model = build_segmentor(backbone=dict(type=TinyBackbone.__name__), data_preprocessor=preprocessor, tasks=TASKS, channels=8)
    with torch.no_grad():
        model.train()(prepared(model, make_images((4, 64, 64))))
    return model.eval()


@pytest.fixture(scope='module')
def files(model, tmp_path_factory):
    """The model in each format, of one trace for images of any number and size."""
    pytest.importorskip('onnxscript')
    folder = tmp_path_factory.mktemp('files')
    program, description = exporting.trace(exporting.ExportedModel(model)), describe(model, made=dict(config='tiny.py'))
    graph = exporting.to_onnx(program, description)
    exporting.write_onnx(graph, description, folder / 'model.onnx')
    exporting.write_openvino(exporting.to_openvino(graph), description, folder / 'model.xml')
    return folder


@pytest.mark.parametrize('mode', ['bicubic', 'bilinear'])
@pytest.mark.parametrize('by', ['sizes', 'scales'])
def test_openvino_smooths_what_it_makes_smaller(mode, by):
    """As the position embeddings of timm's vision transformers, in a graph as torch writes it."""
    onnx, openvino = pytest.importorskip('onnx'), pytest.importorskip('openvino')
    helper, values = onnx.helper, torch.randn(1, 2, 14, 14)
    target = dict(sizes=np.array([1, 2, 4, 28]), scales=np.array([1, 1, 4 / 14, 2], np.float32))[by]
    inputs = ['values', '', '', 'target'] if by == 'sizes' else ['values', '', 'target']
    options = dict(antialias=1, exclude_outside=1, cubic_coeff_a=-0.5, coordinate_transformation_mode='half_pixel')
    resize = helper.make_node('Resize', inputs, ['resized'], mode='cubic' if mode == 'bicubic' else 'linear', **options)
    graph = helper.make_graph(
        [resize],
        'resize',
        [helper.make_tensor_value_info('values', onnx.TensorProto.FLOAT, values.shape)],
        [helper.make_tensor_value_info('resized', onnx.TensorProto.FLOAT, (1, 2, 4, 28))],
        [onnx.numpy_helper.from_array(target, 'target')],
    )
    model = exporting.to_openvino(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=10))
    (found,) = openvino.compile_model(model, 'CPU', dict(INFERENCE_PRECISION_HINT='f32'))(values.numpy()).values()
    expected = torch.nn.functional.interpolate(values, (4, 28), mode=mode, antialias=True)
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('suffix, package', [('.onnx', 'onnxruntime'), ('.xml', 'openvino')])
def test_files_compute_what_the_model_computes(model, files, suffix, package):
    pytest.importorskip(package)
    path = files / f'model{suffix}'
    runtime = load_runtime(path, threads=2)
    rows = compare(model, runtime, [make_images(shape, seed) for seed, shape in enumerate(SHAPES)], LIMITS['float32'])
    assert len(rows) == len(SHAPES) * len(TASKS) and all(row.passed for row in rows), rows
    assert {row.label for row in rows if row.error is None} == {'semseg'}
    assert max(row.error for row in rows if row.error is not None) < 1e-4
    found = runtime(make_images((2, 33, 50)))
    assert {name: values.shape for name, values in found.items()} == {
        name: (2, 33, 50, 3) if name == 'normals' else (2, 33, 50) for name in TASKS
    }
    assert [values.dtype.name for values in found.values()] == ['uint8', 'float32', 'float32', 'float32']
    np.testing.assert_allclose(np.linalg.norm(found['normals'], axis=-1), 1, rtol=1e-5)
    # The caller's own: the next call does not change them.
    before = found['depth'].copy()
    runtime(make_images((2, 33, 50), seed=5))
    assert (found['depth'] == before).all() and found['depth'].flags.writeable
    assert runtime.labels['semseg'].classes[0] == 'road' and runtime.labels['depth'].unit == 'm'
    assert runtime.description.made == dict(config='tiny.py')
    for number, prediction in enumerate(MultiTaskInferencer(path)(list(make_images((2, 33, 50))))):
        for name, values in prediction.values.items():
            np.testing.assert_array_equal(values, found[name][number])
    with pytest.raises(ConfigError, match='`tta` should be left out with an exported model'):
        MultiTaskInferencer(path, tta=True)


def test_signals_are_heard_after_openvino_runtimes_ended_in_any_order(files):
    pytest.importorskip('openvino')
    code = f"""
import gc, signal
import numpy as np
from mtl_plugins.deployment import load_runtime

runtimes = [load_runtime({str(files / 'model.xml')!r}) for _ in range(2)]
for runtime in runtimes:
    runtime(np.zeros((1, 32, 32, 3), np.uint8))
del runtime
while runtimes:
    del runtimes[0]
    gc.collect()
heard = []
signal.signal(signal.SIGUSR1, lambda *_: heard.append(1))
signal.raise_signal(signal.SIGUSR1)
print(heard)
"""
    result = subprocess.run([sys.executable, '-X', 'faulthandler', '-c', code], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, '[1]\n'), result.stderr


def test_an_onnx_file_describes_itself_to_other_programs(files):
    onnx = pytest.importorskip('onnx')
    graph = onnx.load(files / 'model.onnx')
    names = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in graph.graph.input
    }
    assert names == dict(images=['batch', 'height', 'width', 3])
    assert [value.name for value in graph.graph.output] == list(TASKS)
    (entry,) = [each.value for each in graph.metadata_props if each.key == 'mtl_plugins']
    outputs = {output['name']: output for output in json.loads(entry)['outputs']}
    assert outputs['depth'] == dict(name='depth', kind='DepthMap', unit='m', classes=None)
    assert len(outputs['semseg']['classes']) == 19
    # No paths of the machine where it was written.
    assert b'site-packages' not in (files / 'model.onnx').read_bytes()


def test_a_file_that_computes_something_else_is_not_written(model, tmp_path, monkeypatch):
    pytest.importorskip('onnxscript')
    path = tmp_path / 'model.onnx'
    path.write_bytes(b'an earlier file')

    class Other(exporting.ExportedModel):
        def forward(self, images):
            values = super().forward(images)
            return {**values, 'depth': values['depth'] * 1.001}

    monkeypatch.setattr('mtl_plugins.deployment.export.ExportedModel', Other)
    with pytest.raises(
        UserError, match=r'`depth` should agree in 100 % of the pixels. Found 0.000 % at 1x48x64. Nothing was written'
    ):
        exporting.export(model, describe(model, size=(48, 64), batch=1), path)
    assert path.read_bytes() == b'an earlier file' and list(tmp_path.iterdir()) == [path]


class Answers(ExportedRuntime):
    def __init__(self, description, function):
        self.description, self.function = description, function

    def run(self, images):
        return self.function(images)


def test_only_pixels_that_rounding_decides_may_differ(model):
    images = make_images((1, 32, 48))
    raw = model(prepared(model, images))['semseg']
    best, second = raw[0].topk(2, dim=0).values
    tied = copy.deepcopy(model)

    def flip(images):
        values = {name: to_arrays(maps) for name, maps in tied.predict_arrays(prepared(tied, images)).items()}
        values['semseg'][0, 3, 4] = (values['semseg'][0, 3, 4] + 1) % 19
        return values

    flipped = Answers(describe(model), flip)
    (row,) = [row for row in compare(model, flipped, [images], LIMITS['float32']) if row.error is None]
    assert best[3, 4] - second[3, 4] > 1e-3 * raw.abs().max() and not row.passed and row.ties == 0
    assert row.share == pytest.approx(1 - 1 / (32 * 48))
    # Two classes that are alike everywhere are tied everywhere.
    predictor = tied.decode_head.head.predictor
    with torch.no_grad():
        predictor.weight[1:19], predictor.bias[1:19] = predictor.weight[0].clone(), predictor.bias[0].clone()
    (row,) = [row for row in compare(tied, flipped, [images], LIMITS['float32']) if row.error is None]
    assert row.passed and row.ties == 1


def test_differences():
    found, expected = np.float32([2.0, 0.0, np.inf, np.nan, np.inf]), np.float32([1.0, 0.0, np.inf, 1.0, -np.inf])
    np.testing.assert_array_equal(difference(found, expected, relative=False), [1, 0, 0, np.inf, np.inf])
    found, expected = np.float32([101, 0.0, 1.0]), np.float32([100, 0.0, 0.0])
    np.testing.assert_allclose(difference(found, expected, relative=True), [0.01, 0, np.inf])


@pytest.mark.parametrize('task', [SemSegTask(num_classes=4), ClassMaskTask(num_classes=4), ClassMaskTask(num_classes=2)])
def test_the_margin_is_the_least_change_of_one_number_that_changes_the_class(task):
    output = torch.randn(1, task.out_channels, 20, 20, generator=torch.Generator().manual_seed(0))
    margin, before = task.margin(output), task.predict(output, (20, 20))
    changes = {}
    for share in (0.999, 1.001):
        changed = torch.zeros_like(before, dtype=torch.bool)
        for channel in range(task.out_channels):
            for sign in (-1, 1):
                moved = output.clone()
                moved[:, channel] += sign * share * margin
                changed |= task.predict(moved, (20, 20)) != before
        changes[share] = changed
    assert not changes[0.999].any() and changes[1.001].all()


def test_int8_that_scores_worse_is_refused(model, monkeypatch):
    labels = {name: model.data_preprocessor.label_configs[name] for name in ('semseg', 'depth')}
    codes = torch.arange(64, dtype=torch.uint8).reshape(1, 8, 8)
    targets = dict(semseg=codes % 19, depth=codes + 100)
    batch = dict(
        inputs=torch.zeros(1, 8, 8, 3, dtype=torch.uint8), targets=targets, metainfo=[dict(ori_shape=(8, 8), img_path='0.png')]
    )
    loader = UserList([batch])
    loader.dataset = SimpleNamespace(metainfo=dict(labels=labels), split='val', data_root='data')
    description = Description(labels=labels)
    metres = description.build_labels()['depth'].to_values(targets['depth'].numpy())
    right = dict(semseg=targets['semseg'].numpy(), depth=metres)
    # A factor of 1.1 in half of the pixels: a deviation of the logarithm of half of it.
    wrong = dict(right, depth=np.where(np.arange(64).reshape(1, 8, 8) % 2, metres * np.float32(1.1), metres))
    loss = 50 * np.log(1.1)
    monkeypatch.setattr('mtl_plugins.lab.int8.TorchRuntime', lambda model, device: Answers(description, lambda images: right))
    worse = Answers(description, lambda images: wrong)
    refuse_losses(model, worse, Calibration([], loader, most_worse=loss + 0.01))
    with pytest.raises(UserError, match=rf'In int8 SI-logRMSE should get worse by at most 4.7 points .* Found {loss:.2f}'):
        refuse_losses(model, worse, Calibration([], loader, most_worse=4.7))


def test_what_cannot_be_is_refused_in_a_sentence(model, tmp_path):
    for suffix, attributes, message in (
        ('.onnx', dict(precision='int8'), r'of onnx should be one of float32, float16. Found int8'),
        ('.xml', dict(precision='int8'), 'int8 needs training images'),
        ('.pth', {}, r'should be a file with the suffix .onnx, .xml. Found '),
    ):
        with pytest.raises(ConfigError, match=message):
            exporting.export(model, describe(model, **attributes), tmp_path / f'model{suffix}')
    runtime = Answers(describe(model), None)
    with pytest.raises(ConfigError, match=r'`images` should be uint8 \(N, H, W, 3\), RGB. Found float32 \(1, 3, 8, 8\)'):
        runtime(np.zeros((1, 3, 8, 8), np.float32))
    runtime.description = describe(model, size=(32, 48))
    with pytest.raises(ConfigError, match=r'should be \(N, 32, 48, 3\), which the file was exported for. Found \(1, 32, 40, 3\)'):
        runtime(np.zeros((1, 32, 40, 3), np.uint8))
    with pytest.raises(DataNotFoundError, match='does not exist'):
        load_runtime(tmp_path / 'model.onnx')
    (tmp_path / 'model.onnx').write_bytes(b'no graph')
    with pytest.raises(CorruptFileError, match='cannot be loaded by ONNX Runtime'):
        load_runtime(tmp_path / 'model.onnx')
    with pytest.raises(CorruptFileError, match=r'has no description as `mtl export` writes it'):
        Description.from_json(None, 'model.onnx')

    class Untraceable(exporting.ExportedModel):
        def forward(self, images):
            return {'depth': images.float() if images.sum() > 0 else images}

    with pytest.raises(ConfigError, match=r'cannot be traced for images of any size: .* A fixed size may work'):
        exporting.trace(Untraceable(model))


@pytest.mark.slow
@pytest.mark.parametrize('suffix', exporting.SUFFIXES.values())
@each_of(EXPORTED)
def test_every_system_and_backbone_exports_in_every_format(path, suffix, tmp_path):
    pytest.importorskip('openvino')
    torch.manual_seed(0)
    model = MODELS.build(narrow(path))
    with torch.no_grad():
        # Fresh statistics would let each BatchNorm pass what it gets.
        model.train().encode(prepared(model, make_images((2, 224, 224))))
    exporting.export(model.eval(), describe(model), tmp_path / f'model{suffix}')


@pytest.mark.slow
def test_int8_agrees_in_most_pixels_and_is_int8(model, tmp_path):
    pytest.importorskip('nncf')
    path = tmp_path / 'model.xml'
    images = [make_images((1, 32, 48), seed) for seed in range(8)]
    exporting.write(model, describe(model, precision='int8'), path, images)
    rows = compare(model, load_runtime(path), [make_images((1, 49, 50), 20)], Limits(0.8, 0.9, tolerance=0.2))
    assert all(row.passed for row in rows), rows
    assert any(row.share < 1 or (row.error or 0) > 1e-4 for row in rows)
    assert path.read_bytes().count(b'FakeQuantize') > 10


def test_int8_is_for_convolutions_and_products_alone():
    """Depthwise weights, which are reshaped in graphs from ONNX, have a scale per channel, and decoding is in floating point."""
    pytest.importorskip('nncf')
    openvino = pytest.importorskip('openvino')
    from openvino import opset11 as operations

    generator = np.random.default_rng(0)
    weights = generator.standard_normal((8, 1, 3, 3)).astype(np.float32)
    images = operations.parameter([-1, 8, -1, -1], np.float32, name='images')
    kernels = operations.reshape(operations.constant(weights), operations.constant(np.array([8, 1, 1, 3, 3])), False)
    depthwise = operations.group_convolution(images, kernels, [1, 1], [1, 1], [1, 1], [1, 1])
    point = operations.constant(generator.standard_normal((1, 8, 1, 1)).astype(np.float32))
    mixed = operations.convolution(operations.relu(depthwise), point, [1, 1], [0, 0], [0, 0], [1, 1])
    sizes, axes = (operations.constant(np.array(pair)) for pair in ((32, 48), (2, 3)))
    depth = operations.exp(operations.interpolate(mixed, sizes, 'linear_onnx', 'sizes', pads_begin=[0] * 4, axes=axes))
    batches = [generator.standard_normal((1, 8, 16, 24)).astype(np.float32) for _ in range(4)]
    quantised = exporting.quantise(openvino.Model([depth], [images]), batches)

    nodes = quantised.get_ordered_ops()
    kinds = [node.get_type_name() for node in nodes]
    assert kinds.index('GroupConvolution') < kinds.index('Convolution')
    assert 'FakeQuantize' not in kinds[kinds.index('Convolution') :]
    (convolution,) = (node for node in nodes if node.get_type_name() == 'GroupConvolution')
    data, weight = (convolution.input_value(index).get_node() for index in range(2))
    assert data.get_type_name() == 'FakeQuantize'
    # int8 numbers, and what they are multiplied with.
    scale = next(node for node in weight.inputs() if node.get_partial_shape().to_shape() == openvino.Shape([8, 1, 1, 1, 1]))
    assert scale.get_source_output().get_node().get_type_name() == 'Constant'
