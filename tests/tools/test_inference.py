"""`tools/inference.py` from files to files."""

import csv
import re
import runpy
import signal
import struct
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from mtl_plugins.apis.inference import MultiTaskInferencer
from mtl_plugins.apis.inference.output import is_whole_mp4
from mtl_plugins.apis.inference.sources import name_inputs, read_frames
from mtl_plugins.labels.cityscapes_classes import PALETTE
from mtl_plugins.labels.decoding import decode_photograph
from tests.fake_miniscapes import LABELS
from tests.tiny import CONFIGS, ROOT
from tests.tools.photographs import SIZES, picture, save_checkpoint, write_photographs, write_video

FOUR_TASKS = CONFIGS / 'joint/joint_r18-d16_1xb16-32e_normals-boundary_miniscapes-256x256.py'


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp('weights') / 'four.pth', FOUR_TASKS)


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / 'photos'
    return folder, write_photographs(folder)


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file()}


def test_a_folder_of_photographs(run_cli, checkpoint, photographs, tmp_path):
    folder, images = photographs
    out = tmp_path / 'out'
    result = run_cli('inference', checkpoint, folder, '--out', out, '--save', 'pictures', 'side-by-side', 'png', 'npy', 'points')
    assert "7_notes.txt' should be a JPEG, PNG, WebP, BMP or TIFF file" in result.err and '(13 bytes).' in result.err
    # What cannot be used is named and left out, and the exit status says so.
    skipped = [line for line in result.err.splitlines() if line.startswith('skipped: ')]
    assert result.code == 1 and len(skipped) == 3
    assert all(name in line for name, line in zip(('6_broken', '7_notes', '8_empty'), skipped, strict=True))
    assert 'Predicted 6 images' in result.out and '3 files could not be used' in result.out
    labels = ('semseg', 'depth', 'normals', 'boundary')
    folders = [('side-by-side', 'png'), ('points', 'ply'), ('points', 'html')]
    folders += [(f'{kind}/{label}', 'npy' if kind == 'npy' else 'png') for kind in ('png', 'npy', 'pictures') for label in labels]
    assert files_below(out) == {f'{folder}/{stem}.{kind}' for folder, kind in folders for stem in SIZES} | {'results.csv'}
    for stem, image in images.items():
        (path,) = folder.glob(f'{stem}.*')
        # Decoders of JPEG round in their own ways.
        tolerance = 4 if path.suffix == '.jpg' else 0
        found = decode_photograph(path.read_bytes(), path.name)
        assert found.dtype == np.uint8 and np.abs(found.astype(int) - image).max() <= tolerance, stem
        size = image.shape[:2]
        values = {label: np.load(out / 'npy' / label / f'{stem}.npy') for label in labels}
        assert [array.dtype.name for array in values.values()] == ['uint8', 'float32', 'float32', 'float32']
        assert [array.shape for array in values.values()] == [size, size, (*size, 3), size]
        stored = {label: np.asarray(Image.open(out / 'png' / label / f'{stem}.png')) for label in labels}
        np.testing.assert_array_equal(stored['semseg'], values['semseg'])
        np.testing.assert_array_equal(stored['depth'], np.minimum(np.round(values['depth'] * 1000), 65535))
        assert stored['depth'].dtype == np.uint16
        np.testing.assert_allclose(stored['normals'] / 127 - 128 / 127, values['normals'], atol=1 / 250)
        np.testing.assert_allclose(stored['boundary'] / 255, values['boundary'], atol=1 / 500)
        np.testing.assert_allclose(np.linalg.norm(values['normals'], axis=-1), 1, atol=1e-5)
    # The picture of classes is the image under the colours of the predicted ones.
    shown = np.asarray(Image.open(out / 'pictures/semseg/5_plain.png'))[26 : 26 + 240, 4 : 4 + 480]
    palette = np.array(PALETTE)[np.load(out / 'npy/semseg/5_plain.npy')]
    blended = cv2.resize((0.4 * images['5_plain'] + 0.6 * palette).round().astype(np.uint8), (480, 240))
    np.testing.assert_allclose(shown.astype(int), blended, atol=1)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_every_orientation_of_exif(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture((24, 40))).save(tmp_path / 'x.jpg', exif=exif, quality=95)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / 'x.jpg'))).astype(int)
    found = decode_photograph((tmp_path / 'x.jpg').read_bytes(), 'x.jpg')
    assert found.shape == expected.shape and np.abs(found - expected).max() <= 4


def test_a_video_of_a_turned_telephone_is_upright(tmp_path):
    picture = np.zeros((32, 64, 3), np.uint8)
    picture[:16, :32] = 255
    writer = cv2.VideoWriter(str(tmp_path / 'x.mp4'), cv2.VideoWriter_fourcc(*'mp4v'), 5, (64, 32))
    writer.write(picture)
    writer.release()
    data = bytearray((tmp_path / 'x.mp4').read_bytes())
    # ISO 14496-12: the matrix of a track's header is 40 bytes behind the flags of version 0; a quarter turn to the right.
    start = data.index(b'tkhd') + 44
    data[start : start + 36] = struct.pack('>9i', 0, 2**16, 0, -(2**16), 0, 0, 0, 0, 2**30)
    (tmp_path / 'x.mp4').write_bytes(data)
    (frame,) = read_frames(str(tmp_path / 'x.mp4'))
    assert np.abs(frame.image.astype(int) - np.rot90(picture, -1)).mean() < 8


def test_a_video_that_was_cut_off_is_known_by_any_missing_byte(tmp_path):
    path = tmp_path / 'x.mp4'
    write_video(path)
    data = path.read_bytes()
    assert is_whole_mp4(path)
    index = data.index(b'moov') - 4
    for end in (*range(index - 9, len(data)), len(data) // 2, 20, 0):
        path.write_bytes(data[:end])
        assert not is_whole_mp4(path), end


def test_the_same_as_the_test_tool(run_cli, finished_run, data_root, tmp_path):
    (best,) = finished_run.glob('best_*.pth')
    for flags in ([], ['--tta']):
        archive = tmp_path / 'test.zip'
        result = run_cli(
            'test', finished_run / 'tiny.py', best, '--split', 'test', '--submission', archive, '--data-root', data_root,
            '--work-dir', tmp_path / 'work', *flags,
        )  # fmt: skip
        assert result.code == 0, result.err
        out = tmp_path / f'out{len(flags)}'
        result = run_cli('inference', best, data_root / 'test/rgb', '--out', out, '--save', 'npy', '--batch-size', 2, *flags)
        assert result.code == 0, result.err
        with zipfile.ZipFile(archive) as content:
            for label, kind in LABELS.items():
                for stem in range(3):
                    codes = kind.from_png(content.read(f'predictions/{label}/{stem}.png'), (32, 64))
                    np.testing.assert_array_equal(kind.encode(np.load(out / f'npy/{label}/{stem}.npy'), 'nearest'), codes)


def test_a_video_becomes_a_video(run_cli, checkpoint, tmp_path):
    folder = tmp_path / 'videos'
    folder.mkdir()
    video = write_video(folder / 'street.avi')
    (folder / 'zz_broken.mp4').write_bytes(b'no video')
    out = tmp_path / 'out'
    result = run_cli('inference', checkpoint, folder, '--out', out, '--save', 'side-by-side', 'npy', '--max-frames', 7)
    assert result.code == 1 and 'zz_broken.mp4' in result.err and 'Predicted 7 images' in result.out
    assert {path.stem for path in (out / 'npy/depth').iterdir()} == {f'street_{number:06d}' for number in range(7)}
    capture = cv2.VideoCapture(str(out / 'side-by-side/street.mp4'))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 7 and capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    found, frame = capture.read()
    assert found and frame.std() > 10
    assert [path.name for path in (out / 'side-by-side').iterdir()] == ['street.mp4']
    first = cv2.cvtColor(cv2.VideoCapture(str(video)).read()[1], cv2.COLOR_BGR2RGB)
    (alone,) = MultiTaskInferencer(checkpoint)(first)
    np.testing.assert_allclose(np.load(out / 'npy/depth/street_000000.npy'), alone.values['depth'], rtol=1e-4)


def test_a_camera_until_ctrl_c(run_cli, checkpoint, tmp_path, monkeypatch):
    numbers = iter(range(1, 99))

    def read():
        number = next(numbers)
        if number == 34:
            signal.raise_signal(signal.SIGINT)
        return True, picture((32, 48), number)

    camera = SimpleNamespace(isOpened=lambda: True, get=lambda key: 0.0, read=read, release=lambda: None)
    monkeypatch.setattr('mtl_plugins.apis.inference.sources.cv2.VideoCapture', {3: camera}.__getitem__)
    # A shell lets its background jobs ignore the signal.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    result = run_cli('inference', checkpoint, 'camera:3', '--out', tmp_path / 'out', '--save', 'side-by-side')
    signal.signal(signal.SIGINT, inherited)
    assert result.code == 0, result.err
    monkeypatch.undo()
    number = int(re.search(r'Predicted (\d+) images', result.out)[1])
    assert 8 <= number <= 33
    assert cv2.VideoCapture(str(tmp_path / 'out/side-by-side/camera3.mp4')).get(cv2.CAP_PROP_FRAME_COUNT) == number


def test_lists_patterns_names_that_occur_twice_and_the_list_of_all_results(run_cli, checkpoint, tmp_path):
    for name in ('a/x.png', 'b/x.png', 'later/a/x.jpg', 'later/c, d.png'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture((32, 48))).save(tmp_path / name)
    (tmp_path / 'list.txt').write_text('# two\na/x.png\n\nb/x.png\nno/such.png\n')
    arguments = ['--out', tmp_path / 'out', '--save', 'png']
    result = run_cli('inference', checkpoint, tmp_path / 'list.txt', tmp_path / '[ab]' / 'x.png', *arguments)
    assert result.code == 1 and result.err.count('skipped') == 1 and "no/such.png' does not exist" in result.err
    assert files_below(tmp_path / 'out/png/depth') == {'a/x.png', 'b/x.png', 'a/x (2).png', 'b/x (2).png'}
    # Rows of earlier runs stay.
    assert run_cli('inference', checkpoint, tmp_path / 'later', *arguments).code == 0
    with (tmp_path / 'out/results.csv').open() as file:
        rows = dict(csv.reader(file))
    files = {'a/x': 'later/a/x.jpg', 'b/x': 'b/x.png', 'a/x (2)': 'a/x.png', 'b/x (2)': 'b/x.png', 'c, d': 'later/c, d.png'}
    assert rows == {'name': 'file', **{name: str(tmp_path / path) for name, path in files.items()}}


@pytest.mark.parametrize(
    ('files', 'inputs', 'names'),
    [
        (['a.jpg', 'a.png', 'a_2.jpg'], ['.'], ['a.jpg', 'a.png', 'a_2']),
        (['a.jpg', 'a.png', 'a.png.jpg'], ['.'], ['a.jpg', 'a.png', 'a.png.jpg']),
        (['camA/1.jpg', 'camB/1.jpg'], ['.'], ['camA/1', 'camB/1']),
        (['camA/1.jpg', 'camB/1.jpg'], ['camA', 'camB'], ['camA/1', 'camB/1']),
        (['camA/1.jpg', 'camB/1.jpg'], ['camA/1.jpg', 'camB/1.jpg'], ['camA/1', 'camB/1']),
        (['camA/1.jpg', 'camB/1.jpg'], ['cam*/1.jpg'], ['camA/1', 'camB/1']),
        (['camA/1.jpg', 'camB/1.jpg'], ['list.txt'], ['camA/1', 'camB/1']),
        (['camA/1.jpg', 'camB/2.jpg'], ['camA', 'camB'], ['1', '2']),
        (['camA/1.jpg', 'camB/1.png'], ['camA', 'camB'], ['camA/1', 'camB/1']),
        (['camA/1.jpg', '1.jpg'], ['camA', '1.jpg'], ['1', 'camA/1']),
        # Links are followed, but not in a circle.
        (['in/a/x.png', 'in/a/circle -> in', 'else/y.png', 'in/b -> else'], ['in'], ['a/x', 'b/y']),
        (['in/a.jpg', 'in/b/a.jpg', 'in/.c/d.jpg', 'in/out/results.csv', 'in/out/png/e.png'], ['in'], ['a', 'b/a']),
        # Frames of a video have its name and a number.
        (['v.avi', 'v_000001.jpg', 'w_000001.jpg'], ['.'], ['v', 'v_000001.jpg', 'w_000001']),
        (['v.avi', 'v.jpg'], ['.'], ['v.avi', 'v.jpg']),
        (['camera0.jpg', 'camera0_000003.jpg'], ['.', 'camera:0'], ['camera0', 'camera0.jpg', 'camera0_000003.jpg']),
    ],
)
def test_no_result_has_the_name_of_another_file(tmp_path, monkeypatch, files, inputs, names):
    monkeypatch.chdir(tmp_path)
    for file in files:
        path, link, target = file.partition(' -> ')
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).symlink_to(tmp_path / target) if link else (tmp_path / path).write_bytes(b'')
    if inputs == ['list.txt']:
        (tmp_path / 'list.txt').write_text('\n'.join(files))
    assert sorted(name for _, name in name_inputs(inputs)) == names


@pytest.mark.parametrize(
    ('size', 'options', 'words'),
    [
        ((1, 300), ['--short-side', 128], ['a.png', 'at most 20 times', 'Found 300x1']),
        ((300, 1), ['--short-side', 128], ['a.png', 'at most 20 times', 'Found 1x300']),
        ((2100, 2100), [], ['a.png', 'at most 4,194,304 pixels', 'Found 2100x2100']),
        ((96, 96), ['--max-batch-megapixels', 0.009], ['a.png', 'at most 9,000 pixels', 'Found 96x96, 9,216']),
        # The largest view of an image is 1.25 times as large.
        ((96, 96), ['--max-batch-megapixels', 0.0093, '--tta'], ['a.png', 'Found 96x96, 16,384']),
        # A video is reported once.
        (None, ['--max-batch-megapixels', 0.003], ['street.avi', 'Found 64x48']),
    ],
)
def test_what_is_over_the_limit_is_reported_and_skipped(run_cli, checkpoint, tmp_path, monkeypatch, size, options, words):
    (tmp_path / 'in').mkdir()
    if size:
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(tmp_path / 'in/a.png')
    else:
        write_video(tmp_path / 'in/street.avi')
    Image.fromarray(picture((32, 48))).save(tmp_path / 'in/x.png')
    decode, decoded = cv2.imdecode, []
    monkeypatch.setattr(cv2, 'imdecode', lambda *arguments: decoded.append(1) or decode(*arguments))
    result = run_cli('inference', checkpoint, tmp_path / 'in', '--out', tmp_path / 'out', '--save', 'npy', *options)
    assert result.code == 1 and 'Predicted 1 image ' in result.out and len(decoded) == 1
    (line,) = [line for line in result.err.splitlines() if line.startswith('skipped: ')]
    assert all(word in line for word in words), line
    assert files_below(tmp_path / 'out/npy/depth') == {'x.npy'}


def test_the_limit_can_be_changed_and_tiles_have_another(run_cli, checkpoint, tmp_path):
    Image.fromarray(picture((96, 96))).save(tmp_path / 'a.png')
    for limit in ([0.0093], [0.009, '--tile', 64]):
        arguments = ['--out', tmp_path / 'out', '--save', 'npy', '--max-batch-megapixels', *limit]
        assert run_cli('inference', checkpoint, tmp_path / 'a.png', *arguments).code == 0
    # Each picture is 480 pixels wide at least: of an image 8 wide and 6000 high it had 360,000 rows.
    Image.fromarray(picture((6000, 8))).save(tmp_path / 'tall.png')
    assert run_cli('inference', checkpoint, tmp_path / 'tall.png', '--out', tmp_path / 'tall', '--tile', 64).code == 0
    assert max(Image.open(path).size[1] for path in (tmp_path / 'tall').rglob('*.png')) < 4 * 480 + 400


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda text: 'import os\nos.system("touch {trace}")\n' + text, ['plain values only', 'is not run']),
        (lambda text: text + '\nx = __import__("os").system("touch {trace}")\n', ['plain values only']),
        (lambda text: text.replace("type='TinyBackbone'", "type='TinyBackbone', unknown=1"), ['cannot be built', 'unknown']),
        (lambda text: text + "\ncustom_imports = dict(imports=['antigravity'])\n", ['antigravity', 'not imported yet']),
        (lambda text: 'model = 3\n', ['should hold the config of a model']),
        (lambda text: '', ['does not hold the config']),
    ],
)
def test_a_stored_config_is_data(run_cli, checkpoint, tmp_path, change, words):
    content = torch.load(checkpoint)
    trace = tmp_path / 'trace'
    content['meta']['cfg'] = change(content['meta']['cfg']).replace('{trace}', str(trace))
    (tmp_path / 'folder').mkdir()
    torch.save(content, tmp_path / 'folder/evil.pth')
    Image.fromarray(picture((32, 48))).save(tmp_path / 'photo.png')
    result = run_cli('inference', tmp_path / 'folder/evil.pth', tmp_path / 'photo.png', '--out', tmp_path / 'out')
    result.check_refused('--config', *words)
    assert not trace.exists() and 'antigravity' not in sys.modules


def test_the_config_is_found_inside_beside_or_given(run_cli, finished_run, data_root, tmp_path):
    (best,) = finished_run.glob('best_*.pth')
    content = torch.load(best, weights_only=False)
    inside, weights = content['meta']['cfg'], dict(state_dict=content['state_dict'])
    # Keys of a config that was written down are sorted; channels are not.
    assert inside.index('depth=dict(') < inside.index('semseg=dict(') and "task_order=[\n        'semseg'" in inside
    older = inside.replace("task_order=[\n        'semseg',\n        'depth',\n    ],", '')
    assert 'task_order' not in older
    old_meta = dict(cfg=older, dataset_meta=content['meta']['dataset_meta'])
    cases = {
        'inside': (dict(weights, meta=dict(cfg=inside)), {}, []),
        'inside, of an older version': (dict(weights, meta=old_meta), {}, []),
        'in the record': (weights, {'run.json': (finished_run / 'run.json').read_text()}, []),
        'given': (weights, {}, ['--config', finished_run.parent / 'tiny.py']),
        'given, as it was written down': (weights, {}, ['--config', finished_run / 'tiny.py']),
    }
    values = {}
    for number, (name, (saved, files, arguments)) in enumerate(cases.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        torch.save(saved, folder / 'x.pth')
        for file, text in files.items():
            (folder / file).write_text(text)
        image = data_root / 'test/rgb/0.jpg'
        result = run_cli('inference', folder / 'x.pth', image, '--out', folder / 'out', '--save', 'npy', *arguments)
        assert result.code == 0, (name, result.err)
        values[name] = {label: np.load(folder / f'out/npy/{label}/0.npy') for label in ('semseg', 'depth')}
    for name in cases:
        for label, array in values[name].items():
            np.testing.assert_array_equal(array, values['inside'][label], err_msg=name)
    torch.save(dict(weights, meta=dict(cfg=older)), tmp_path / 'x.pth')
    result = run_cli('inference', tmp_path / 'x.pth', data_root / 'test/rgb/0.jpg', '--out', tmp_path / 'out')
    assert result.code == 1 and 'in which order its tasks depth, semseg have their channels' in result.err


def test_points_in_a_browser(visit, run_cli, checkpoint, tmp_path):
    Image.fromarray(picture((48, 64))).save(tmp_path / 'a &amp; <i> b.png')
    result = run_cli('inference', checkpoint, tmp_path / '*.png', '--out', tmp_path / 'out', '--save', 'points', 'npy')
    assert result.code == 0, result.err
    (path,) = (tmp_path / 'out/points').glob('*.html')
    text = path.read_text()
    assert 'eval(' not in text and 'Function(' not in text and 'http' not in text.replace('http-equiv', '')
    depth = np.load(next((tmp_path / 'out/npy/depth').iterdir()))
    page = visit(path.as_uri())
    assert page.text_content('h1') == 'a &amp; <i> b'
    assert f'{int((depth <= 80).sum()):,} points' in page.text_content('footer')

    def colours():
        shot = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
        return len(np.unique(shot[100:-100].reshape(-1, 3), axis=0))

    assert colours() > 500
    # It opens from the side; the camera's view is the photograph.
    before = page.screenshot()
    page.click('#reset')
    page.wait_for_timeout(200)
    assert page.screenshot() != before
    box = page.locator('#view').bounding_box()
    centre = (box['x'] + box['width'] / 2, box['y'] + box['height'] / 2)
    page.mouse.move(*centre)
    metres = float(page.text_content('#here').removesuffix(' m'))
    around = depth[20:28, 28:36]
    assert around.min() - 0.1 <= metres <= around.max() + 0.1
    before = page.screenshot()
    page.mouse.down()
    page.mouse.move(centre[0] + 120, centre[1] + 40, steps=3)
    page.mouse.up()
    page.wait_for_timeout(200)
    assert page.screenshot() != before
    page.select_option('#colours', 'boundary')
    page.wait_for_timeout(200)
    assert colours() <= 257
    page.locator('#view').press('ArrowLeft')
    page.click('#reset')
    page.select_option('#colours', 'image')
    page.mouse.move(*centre)
    page.wait_for_timeout(200)
    assert colours() > 500


def test_the_example(checkpoint, photographs, capsys, monkeypatch):
    folder, images = photographs
    monkeypatch.setattr(sys, 'argv', ['predict_photos.py', str(checkpoint), str(folder)])
    runpy.run_path(str(ROOT / 'examples/predict_photos/predict_photos.py'), run_name='__main__')
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith('left out: ') for line in lines) == 3
    for stem, image in images.items():
        (line,) = [line for line in lines if line.startswith(f'{stem} ({image.shape[1]}x{image.shape[0]}): ')]
        assert 'semseg: ' in line and ' m' in line and 'boundary: median' in line
