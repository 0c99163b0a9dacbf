"""The page on runs and the page while they run: what they say, and what they do in a browser."""

import csv
import http.client
import json
import shutil
import statistics
import threading

import pytest

from mtl_plugins.config.load import load_config
from mtl_plugins.lab.report.dashboard import Dashboard, make_server
from mtl_plugins.models.utils.model_stats import count_flops, count_parameters
from mtl_plugins.records.config_data import as_data
from mtl_plugins.records.metrics_file import read_metrics
from mtl_plugins.records.record import RECORD_NAME
from mtl_plugins.registry import MODELS
from tests.tools.conftest import ROOT, call_tool

MIOU, DEPTH, MULTITASK = (f'metrics_summary/{name}' for name in ('semseg', 'depth', 'multitask'))
# Names of rows, and by how much the scores of each run differ from those that were measured.
ROWS = {'first_seed0': 0.0, 'first_seed1': 2.0, 'second_seed0': 10.0}


def change_run(folder, change):
    record = json.loads((folder / RECORD_NAME).read_text())
    change(record)
    (folder / RECORD_NAME).write_text(json.dumps(record))


@pytest.fixture(scope='module')
def runs(finished_run, tmp_path_factory):
    """A row of two seeds and a row of one: copies of a run, whose records tell other seeds and scores."""
    folder = tmp_path_factory.mktemp('report') / 'runs'
    for number, (name, more) in enumerate(ROWS.items()):
        shutil.copytree(finished_run, folder / name)

        def change(record, number=number, name=name, more=more):
            record['seed'], record['started'] = int(name[-1]), f'2026-01-0{number + 1}T00:00:00.000+00:00'
            record['scores'] = {MIOU: 20.0 + more, DEPTH: 40.0 - more, MULTITASK: 10.0 + more}
            record['config']['optim_wrapper']['optimizer']['lr'] = 0.1 if name.startswith('second') else 0.2

        change_run(folder / name, change)
    return folder


@pytest.fixture(scope='module')
def report(runs, data_root, tmp_path_factory):
    out = tmp_path_factory.mktemp('page')
    arguments = ['--out', out, '--title', 'A & B </script>', '--num-examples', 2, '--size', '32x64', '--data-root', data_root]
    assert call_tool('report', runs, *arguments) == 0
    return out


def table(report, name):
    with open(report / 'tables' / f'{name}.csv', newline='') as file:
        return list(csv.DictReader(file))


def page_data(report):
    html = (report / 'index.html').read_text()
    start = html.index('<script type="application/json" id="data">') + len('<script type="application/json" id="data">')
    return json.loads(html[start : html.index('</script>', start)])


def test_tables_hold_means_spreads_and_changes(report):
    first, second = table(report, 'rows')
    spread = statistics.stdev([20.0, 22.0])
    assert (first['row'], first['seeds'], second['row'], second['seeds']) == ('first', '2', 'second', '1')
    assert first['mIoU ↑'] == f'21.00 ± {spread:.2f}' and second['mIoU ↑'] == '30.00'
    assert second['Δ mIoU'] == '+9.00' and second['Δ SI-logRMSE'] == '-9.00' and first['Δ mIoU'] == ''
    assert '$\\pm$' in (report / 'tables' / 'rows.tex').read_text()
    assert (report / 'tables' / 'rows.md').read_text().splitlines()[1].startswith('| --- | --: |')
    rows = {row['key']: row for row in table(report, 'configs')}
    assert rows['lr']['first'] == '0.2' and rows['lr']['second'] == '0.1'
    assert [row['seed'] for row in table(report, 'provenance')] == ['0', '1', '0']


def test_numbers_are_those_of_the_validation(report, runs):
    document = json.loads((report / 'report.json').read_text())
    assert document['best'] == 'second' and document['monitor'] == MULTITASK
    assert document['rows'][0]['means'][DEPTH] == pytest.approx(39.0)
    validations = read_metrics(runs / 'first_seed0' / 'metrics.csv')
    models = document['predictions']['models']
    best = max(validations, key=lambda row: float(row['metrics_summary/multitask_unclipped']))
    assert models['first']['scores'][MIOU] == pytest.approx(float(best[MIOU]), abs=1e-9)
    data = page_data(report)
    curve = data['curves']['runs'][0]['validation']
    assert curve['iter'] == [int(row['iter']) for row in validations] and curve['epoch'] == [1, 2]
    assert curve['values'][DEPTH] == pytest.approx([float(row[DEPTH]) for row in validations], rel=1e-4)


def test_costs_are_those_of_the_record_and_of_the_model(report, runs, finished_run):
    cost, _ = json.loads((report / 'report.json').read_text())['resources']
    record = json.loads((runs / 'first_seed0' / RECORD_NAME).read_text())
    model = MODELS.build(load_config(str(finished_run.parent / 'tiny.py')).model)
    assert cost['parameters'] == count_parameters(model) / 1e6 == pytest.approx(sum(cost['parts'].values()))
    assert cost['gflops'] == count_flops(model, (32, 64)) / 1e9
    assert (cost['epoch'], cost['memory']) == (record['epoch_seconds'], record['memory_mib'])
    assert cost['hours'] == record['validations'][-1]['seconds'] / 3600 and cost['scores'] == record['scores']
    assert '| first |' in (report / 'tables/resources.md').read_text()
    names = {path.stem for path in (report / 'figures').glob('score_against_*.png')}
    assert names == {f'score_against_{cost}' for cost in ('parameters', 'gflops', 'memory', 'epoch', 'hours')}


def test_the_page_is_one_file_and_figures_lie_beside_it(report):
    html = (report / 'index.html').read_text()
    assert '<title>A &amp; B &lt;/script&gt;</title>' in html and html.count('</script>') == html.count('<script')
    assert 'src="http' not in html and 'href="http' not in html and len(html) < 10 * 2**20
    figures = {path.name for path in (report / 'figures').iterdir()}
    names = ('iou_semseg', 'confusion_semseg_1', 'error_depth_by_depth')
    for name in (*names, 'curves_loss', 'rows_mIoU', 'ranked_depth'):
        assert {f'{name}.png', f'{name}.pdf'} <= figures
    gallery = page_data(report)['gallery']
    assert len(gallery['examples']) == 2
    assert {'image', 'semseg/true', 'semseg/0', 'depth/1/errors'} <= set(gallery['examples'][0]['pictures'])


def test_trials_of_a_sweep_are_called_by_what_they_tried(run_cli, runs, tmp_path):
    sweep = tmp_path / 'sweep'
    trials = []
    for number, name in enumerate(('first_seed0', 'second_seed0')):
        folder = sweep / 'trials' / f'{number:04d}_seed0'
        folder.mkdir(parents=True)
        for file in (RECORD_NAME, 'metrics.csv'):
            shutil.copy(runs / name / file, folder / file)
        trials.append(dict(label=f'lr {0.1 + number}', folders=[f'trials/{number:04d}_seed0']))
    (sweep / 'trials.json').write_text(json.dumps(dict(trials=trials)))
    # Rows are in the order in which runs are given.
    arguments = ('--out', tmp_path / 'out', '--no-predictions', '--size', '32x64')
    run_cli('report', sweep / 'trials/0001_seed0', sweep, *arguments).check()
    assert [row['row'] for row in table(tmp_path / 'out', 'rows')] == ['lr 1.1', 'lr 0.1']
    assert page_data(tmp_path / 'out')['gallery'] is None


def test_runs_without_labels_are_ranked_by_the_score_that_chose_their_checkpoint(run_cli, runs, tmp_path):
    config = as_data(load_config(str(ROOT / 'configs/dino/dino_r18-d32_1xb64-20e_synthetic-coco-48x48.py')).to_dict())
    for number, (name, mistakes) in enumerate((('worse', 4.0), ('better', 3.0))):
        folder = tmp_path / 'runs' / name
        folder.mkdir(parents=True)
        best = dict(monitor='mistakes', rule='less', epoch=2, iter=8, value=mistakes)
        record = dict(json.loads((runs / 'first_seed0' / RECORD_NAME).read_text()), config=config, best=best)
        record |= dict(scores=dict(mistakes=mistakes), started=f'2026-01-0{number + 1}')
        (folder / RECORD_NAME).write_text(json.dumps(record))
        (folder / 'metrics.csv').write_text(f'epoch,iter,mistakes\n1,4,9\n2,8,{mistakes}\n')
    run_cli('report', tmp_path / 'runs', '--out', tmp_path / 'out', '--size', '48x48').check()
    document = json.loads((tmp_path / 'out' / 'report.json').read_text())
    assert document['best'] == 'better' and document['monitor'] == 'mistakes' and document['predictions'] is None
    assert [row['mistakes ↓'] for row in table(tmp_path / 'out', 'rows')] == ['4.00', '3.00']


def first_cells(page, table):
    return page.eval_on_selector_all(f'#{table} tbody tr', 'rows => rows.map(row => row.cells[0].textContent)')


def test_the_report_in_a_browser(visit, report):
    page = visit((report / 'index.html').as_uri())
    # Tables sort, with the keyboard too, and numbers as numbers.
    header = page.locator('#rows-table thead th', has_text='SI-logRMSE ↓')
    header.locator('button').click()
    assert first_cells(page, 'rows-table') == ['second', 'first'] and header.get_attribute('aria-sort') == 'ascending'
    header.locator('button').press('Enter')
    assert first_cells(page, 'rows-table') == ['first', 'second'] and header.get_attribute('aria-sort') == 'descending'

    # A row of several seeds is a mean with a band; each can be left out; a part can be enlarged.
    plot = page.locator('#curve-chart .plot')
    page.select_option('#metric', f'validation:{DEPTH}')
    fills = plot.evaluate('node => node.data.map(trace => trace.fill ?? null)')
    assert fills == [None, 'tonexty', None, None]
    page.locator('#legend button', has_text='first').press(' ')
    assert plot.evaluate('node => node.data.length') == 1
    page.locator('#legend button', has_text='first').click()
    page.check('#seeds')
    assert plot.evaluate('node => node.data.map(trace => trace.name)') == ['first, seed 0', 'first, seed 1', 'second']
    whole = plot.evaluate('node => node.layout.xaxis.range')
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    page.mouse.move(box['x'] + 0.4 * box['width'], box['y'] + 0.4 * box['height'])
    page.mouse.down()
    page.mouse.move(box['x'] + 0.6 * box['width'], box['y'] + 0.6 * box['height'], steps=4)
    page.mouse.up()
    page.wait_for_function('whole => document.querySelector("#curve-chart .plot").layout.xaxis.range[0] > whole[0]', arg=whole)
    page.click('#reset')
    page.wait_for_function('whole => document.querySelector("#curve-chart .plot").layout.xaxis.range[0] === whole[0]', arg=whole)

    # The plots of each label, of scores and of costs are drawn, wherever they are on the page.
    widths = page.eval_on_selector_all('.drawn img', 'images => images.map(image => image.naturalWidth)')
    assert len(widths) > 15 and min(widths) > 300
    assert page.locator('#errors-depth .drawn').count() == 3 and page.locator('#errors-semseg .drawn').count() == 7

    # The slider moves with mouse and keys; other pictures can be chosen.
    slider = page.locator('.slider').first
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    page.mouse.click(box['x'] + 0.2 * box['width'], box['y'] + 0.5 * box['height'])
    clipped = slider.locator('img.right').evaluate('image => getComputedStyle(image).clipPath')
    assert 15 < float(clipped.split()[-1].rstrip('%)')) < 25
    before = slider.locator('input').input_value()
    slider.locator('input').press('ArrowRight')
    assert int(slider.locator('input').input_value()) == int(before) + 1
    left = slider.locator('img.left')
    shown = left.get_attribute('src')
    page.select_option('#left-layer', 'depth/0/errors')
    assert left.get_attribute('src') != shown and left.evaluate('image => image.decode().then(() => image.naturalWidth)') == 64
    assert 'relative' in page.inner_text('#legends').lower()
    assert len(page.pdf(format='A4')) > 50_000


def test_the_report_on_a_phone_and_in_the_dark(visit, report):
    page = visit((report / 'index.html').as_uri(), width=390, scheme='dark')
    assert page.evaluate('document.documentElement.scrollWidth') == 390
    colours = 'node => [node.layout.font.color, getComputedStyle(document.body).backgroundColor]'
    assert page.locator('#curve-chart .plot').evaluate(colours) == ['#e4e8eb', 'rgb(20, 24, 27)']
    page.emulate_media(color_scheme='light')
    page.wait_for_function('() => document.querySelector("#curve-chart .plot").layout.font.color === "#1d2429"')


@pytest.fixture
def served(runs, tmp_path):
    folder = tmp_path / 'runs'
    shutil.copytree(runs, folder)
    server = make_server(Dashboard([folder], every=0.2), 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield folder, f'http://127.0.0.1:{server.server_address[1]}/'
    server.shutdown()
    server.server_close()
    thread.join()


def listing(folder):
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob('*')}


def test_the_page_of_running_trainings_refreshes_itself(served, visit):
    folder, address = served
    before = listing(folder)
    page = visit(address)
    assert page.inner_text('#summary') == '3 runs, 0 running.'
    page.locator('#runs-table thead th', has_text='mIoU').locator('button').click()
    assert first_cells(page, 'runs-table') == ['first_seed0', 'first_seed1', 'second_seed0']
    page.locator('#latest img').first.scroll_into_view_if_needed()
    assert page.locator('#latest img').first.evaluate('image => image.decode().then(() => image.naturalWidth)') > 50
    assert listing(folder) == before
    change_run(folder / 'first_seed0', lambda record: record['scores'].update({MIOU: 77.25}))
    page.wait_for_function('() => document.querySelector("#runs-table").textContent.includes("77.25")')
    assert first_cells(page, 'runs-table') == ['first_seed1', 'second_seed0', 'first_seed0']
    # It opens with a score that moves, under its title, and says why a run failed.
    chosen = page.locator('#metric').evaluate('node => node.selectedOptions[0].textContent')
    moving = page.locator('#curve-chart .plot').evaluate('node => node.data.some(line => new Set(line.y).size > 1)')
    assert moving and '/' not in chosen and page.locator('#curve-chart .ytitle').text_content() == chosen
    change_run(folder / 'first_seed1', lambda record: record.update(state='failed', error='The disk is <full>.'))
    page.locator('details', has_text='first_seed1 failed: The disk is <full>.').wait_for()
    assert 'Best checkpoint:' in page.inner_text('details pre')


def test_the_page_is_for_this_machine_and_serves_its_own_pictures_only(run_cli, served):
    folder, address = served
    host, port = address.removeprefix('http://').rstrip('/').split(':')
    connection = http.client.HTTPConnection(host, int(port), timeout=30)

    def ask(path, **headers):
        connection.request('GET', path, headers={'Host': f'{host}:{port}'} | headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer, body

    answer, body = ask('/state')
    state = json.loads(body)
    assert answer.status == 200 and state['summary'] == '3 runs, 0 running.'
    (folder.parent / 'secret.png').write_bytes(b'\x89PNG of somebody else')
    drawn = next((folder / 'second_seed0').glob('*/vis_data/vis_image'))
    (drawn / 'secret_99.png').symlink_to(folder.parent / 'secret.png')
    assert 'secret' not in json.loads(ask('/state')[1])['pictures'] and 'predictions' in state['pictures']
    url = state['pictures'].split('src="')[1].split('"')[0]
    assert ask('/' + url)[1].startswith(b'\x89PNG')
    outside = ('/../run.json', '/picture/../../first_seed0/run.json', '/picture//etc/passwd', f'/{folder}/first_seed0/run.json')
    for path in outside:
        assert ask(path)[0].status == 404
    answer, body = ask('/', Host='elsewhere.example:80')
    assert answer.status == 403 and b'<table' not in body
    run_cli('dashboard', folder, '--port', port).check_refused('Give another --port')
    shutil.rmtree(folder)
    answer, body = ask('/state')
    assert answer.status == 503 and b'does not exist' in body
