"""The server: what it answers to good and bad uploads, under load, and in a browser."""

import http.client
import io
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
from PIL import Image

from mtl_plugins.apis.inference import MultiTaskInferencer
from tests.tools.photographs import picture, save_checkpoint

uvicorn = pytest.importorskip('uvicorn')


class Bright:
    """A model of a moment: the brightness of each pixel."""

    labels = dict(bright=dict(type='ClassMap', classes=[str(number) for number in range(250)]))

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.batches = seconds, []

    def __call__(self, images):
        self.batches.append(len(images))
        time.sleep(self.seconds)
        if (images == 255).all():
            raise ZeroDivisionError
        return dict(bright=np.minimum(images[..., 0], 249))


@contextmanager
def serving(runtime, batch_size=4, **limits):
    """Address and port of a server in a thread."""
    from mtl_plugins.apis.serving.app import Limits, make_app

    app = make_app(MultiTaskInferencer(runtime, batch_size=batch_size), Limits(**limits))
    server = uvicorn.Server(uvicorn.Config(app, host='127.0.0.1', port=0, log_level='error'))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[:2]
    finally:
        server.should_exit = True
        thread.join()


def png(image: np.ndarray) -> bytes:
    return cv2.imencode('.png', image[..., ::-1])[1].tobytes()


def ask(address, method='POST', path='/predict', body=None, **headers):
    connection = http.client.HTTPConnection(*address, timeout=60)
    headers = {name.replace('_', '-'): value for name, value in headers.items()}
    connection.request(method, path, body, {'Content-Type': 'image/png', **headers} if method == 'POST' else headers)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content, response.headers


@pytest.fixture(scope='module')
def address():
    with serving(Bright(), body=200_000, pixels=10_000, queue=8) as found:
        yield found


def test_pictures_and_arrays(address):
    image = picture((30, 40))
    (expected,) = MultiTaskInferencer(Bright())(image)
    status, content, headers = ask(address, body=png(image))
    assert (status, headers['Content-Type']) == (200, 'image/png')
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), expected.side_by_side())
    status, content, _ = ask(address, path='/predict?output=arrays', body=png(image), Content_Type='application/octet-stream')
    assert status == 200
    np.testing.assert_array_equal(np.load(io.BytesIO(content))['bright'], expected.values['bright'])
    status, content, _ = ask(address, 'GET', '/health')
    assert status == 200 and json.loads(content) == dict(status='ok', labels=['bright'], waiting=0)


BOMB = bytearray(png(picture((8, 8))))
BOMB[16:24] = (30000).to_bytes(4, 'big') * 2


@pytest.mark.parametrize(
    ('status', 'arguments', 'words'),
    [
        (400, dict(body=b''), 'other content'),
        (400, dict(body=b'GIF89a, or is it'), 'other content'),
        (400, dict(body=png(picture((40, 40)))[:-40]), 'truncated'),
        (400, dict(body=bytes(BOMB)), 'at most 10000 pixels'),
        (400, dict(body=png(np.zeros((200, 200, 3), np.uint8))), 'at most 10000 pixels. Found 200x200'),
        (413, dict(body=bytes(200_001)), 'at most 200000 bytes'),
        (415, dict(body=png(picture((8, 8))), Content_Type='text/html'), "'text/html'"),
        (422, dict(body=png(picture((8, 8))), path='/predict?output=x'), "'x'"),
    ],
)
def test_bad_uploads_are_refused(address, status, arguments, words):
    found, content, _ = ask(address, **arguments)
    assert found == status and words in json.loads(content)['error'], content
    assert ask(address, body=png(picture((8, 8))))[0] == 200


def test_an_upload_that_grows_without_a_length_is_cut_off(address):
    status, content, _ = ask(address, body=(bytes(50_000) for _ in range(6)))
    assert status == 413 and 'at most 200000 bytes' in json.loads(content)['error']


def test_a_slow_client_gets_its_answer_and_holds_up_nobody():
    with serving(Bright(), seconds=1) as address, socket.create_connection(address) as slow:
        slow.sendall(b'POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 100\r\n\r\nhalf')
        assert ask(address, body=png(picture((8, 8))))[0] == 200
        slow.settimeout(20)
        assert slow.recv(100).startswith(b'HTTP/1.1 408')


def test_a_failing_model_fails_one_batch(address):
    assert ask(address, body=png(np.full((8, 8, 3), 255, np.uint8)))[:2] == (
        500,
        b'{"error":"The model failed: ZeroDivisionError."}',
    )
    assert ask(address, body=png(picture((8, 8))))[0] == 200


def test_twice_the_capacity():
    runtime = Bright(seconds=0.05)
    queue, batch_size, clients, each = 4, 4, 24, 3
    bodies = [png(np.full((8, 8 + number % 2, 3), number, np.uint8)) for number in range(clients)]
    with serving(runtime, batch_size, queue=queue) as address:

        def client(number):
            return [(number, *ask(address, path='/predict?output=arrays', body=bodies[number])) for _ in range(each)]

        with ThreadPoolExecutor(clients) as pool:
            answers = [answer for some in pool.map(client, range(clients)) for answer in some]
        counted = ask(address, 'GET', '/metrics')[1].decode()
    # All are answered: with their own prediction, or with a word when to come again.
    assert len(answers) == clients * each
    served = [answer for answer in answers if answer[1] == 200]
    refused = [answer for answer in answers if answer[1] == 503]
    assert len(served) + len(refused) == len(answers) and len(served) >= queue and refused
    for number, _, content, _ in served:
        values = np.load(io.BytesIO(content))['bright']
        assert values.shape == (8, 8 + number % 2) and (values == number).all()
    assert all(headers['Retry-After'] == '1' for *_, headers in refused)
    # Those that waited together were predicted together, of one size.
    assert max(runtime.batches) > 1 and sum(runtime.batches) == len(served)
    for line in (
        f'mtl_requests_total{{status="200"}} {len(served)}',
        f'mtl_requests_total{{status="503"}} {len(refused)}',
        f'mtl_request_seconds_count {len(answers)}',
        f'mtl_images_total {len(served)}',
        f'mtl_batches_total {len(runtime.batches)}',
        'mtl_queue_images 0',
    ):
        assert line in counted.splitlines(), counted


@pytest.mark.slow  # A slow client gets its answer after ten seconds.
def test_the_load_tool_starts_a_server_and_counts_every_answer(run_cli, tmp_path):
    checkpoint, path = save_checkpoint(tmp_path / 'small.pth', tiny=False), tmp_path / 'load.json'
    times = ('--warm-up', 1, '--seconds', 2, '--clients', 4, '--load', 3)
    limits = ('--serve', '--queue-size', 2, '--batch-size', 2)
    result = run_cli('deployment/benchmark_server', checkpoint, '--size', '32x64', *times, '--json', path, *limits)
    document = json.loads(path.read_text())
    assert result.code == 0 and document['wrong'] == 0, result.out
    answers = document['answers']
    assert sum(sum(counts.values()) for counts in answers.values()) == document['requests'] > 20
    # Too many for so short a queue; a slow client that is let in is told so after ten seconds.
    assert set(answers['image']) == {'200', '503'} and set(answers['text']) <= {'415', '503'}
    assert {'408', '503'} >= set(answers['slow']) and document['served'] > 1
    memory = document['mebibytes']
    assert 100 < memory['before'] <= memory['largest'] and 'Wrong or missing answers: 0.' in result.out


def test_memory_is_flat_under_bad_uploads(address):
    def resident():
        with open('/proc/self/statm') as file:
            return int(file.read().split()[1]) * 4096

    def send(number):
        for _ in range(number):
            ask(address, body=bytes(199_000))

    send(20)
    before = resident()
    send(150)
    # All of them together are 30 MB.
    assert resident() - before < 10 * 2**20


def test_the_page_in_a_browser(visit, tmp_path):
    Image.fromarray(picture((30, 40))).save(tmp_path / 'photo.png')
    with serving(Bright()) as (host, port):
        page = visit(f'http://{host}:{port}/')
        page.set_input_files('#file', tmp_path / 'photo.png')
        page.wait_for_selector('#result:not([hidden])')
        # Playwright's waiting for functions needs eval, which the page forbids.
        page.locator('#state', has_text='photo.png, ').wait_for()
        picture_of = 'node => node.decode().then(() => node.naturalWidth)'
        assert page.locator('#result').evaluate(picture_of) > 900
        # Dropped.
        data = page.evaluate_handle(
            'bytes => { const data = new DataTransfer();'
            ' data.items.add(new File([new Uint8Array(bytes)], "b.png", { type: "image/png" })); return data; }',
            list(png(picture((20, 40)))),
        )
        page.dispatch_event('#drop', 'drop', dict(dataTransfer=data))
        page.locator('#state', has_text='b.png, ').wait_for()
        assert page.locator('#result').evaluate(picture_of) > 900
        page.screenshot(path=tmp_path / 'page.png')
