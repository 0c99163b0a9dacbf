"""The server: what it answers to good and bad uploads, under load, and in a browser."""

import http.client
import io
import json
import socket
import threading
import time
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import cv2
import numpy as np
import pytest
from PIL import Image

from mtl_plugins.apis.inference import MultiTaskInferencer
from tests.tools.photographs import HEAVY_FILES, picture

app = pytest.importorskip('mtl_plugins.deployment.server.app')
connections = pytest.importorskip('mtl_plugins.deployment.server.connections')


class Bright:
    """A model of a moment: the brightness of each pixel."""

    labels = dict(bright=dict(type='ClassMap', classes=[str(number) for number in range(250)]))

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.shapes = seconds, []

    def __call__(self, images):
        self.shapes.append(images.shape[:3])
        time.sleep(self.seconds)
        if (images == 255).all():
            raise ZeroDivisionError
        return dict(bright=np.minimum(images[..., 0], 249))


@contextmanager
def serving(runtime, batch_size=4, options=None, hosts=app.LOOPBACK, name='A model', **limits):
    """Address and port of a server in a thread."""
    inferencer = MultiTaskInferencer(runtime, batch_size=batch_size, **(options or {}))
    application = app.make_app(inferencer, app.Limits(**limits), hosts, name, lambda: picture((20, 60)))
    runtime.server = server = connections.make_server(application, port=0, log_level='error')
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[:2]
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope='module')
def address():
    with serving(Bright(), options=dict(max_pixels=96 * 96), body=200_000, pixels=10_000, queue=8) as found:
        yield found


def png(image: np.ndarray) -> bytes:
    return cv2.imencode('.png', image[..., ::-1])[1].tobytes()


def black(*size: int) -> bytes:
    return png(np.zeros((*size, 3), np.uint8))


HEAD = b'POST /predict?output=arrays HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n'
SMALL, LARGE = png(picture((8, 8))), black(64, 64)


def upload(body: bytes, length: int | None = None) -> bytes:
    return HEAD + b'Content-Length: %d\r\n\r\n' % (len(body) if length is None else length) + body


def ask(address, method='POST', path='/predict?output=arrays', body=None, **headers):
    connection = http.client.HTTPConnection(*address, timeout=60)
    headers = {name.replace('_', '-'): value for name, value in headers.items()}
    connection.request(method, path, body, {'Content-Type': 'image/png', **headers} if method == 'POST' else headers)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content, response.headers


def send_together(address, bodies, pause=0.0):
    """Status, content and seconds of uploads of one client each."""

    def send(number):
        time.sleep(number * pause)
        start = time.perf_counter()
        return *ask(address, body=bodies[number])[:2], time.perf_counter() - start

    with ThreadPoolExecutor(len(bodies)) as pool:
        return zip(*pool.map(send, range(len(bodies))), strict=True)


def values_of(content: bytes) -> np.ndarray:
    return np.load(io.BytesIO(content))['bright']


FILE = 'Content-Disposition: form-data; name="file"; filename="a \\"b.png"\r\nContent-Type: image/png'
FIELD = 'content-disposition: form-data; name=output'


def form(*parts: tuple[str, bytes]) -> dict:
    """A form with a header and a content for each part, to be sent by :func:`ask`."""
    pieces = [b'--x"y\r\n' + head.encode() + b'\r\n\r\n' + content + b'\r\n' for head, content in parts]
    body = b'nobody reads this\r\n' + b''.join(pieces) + b'--x"y--\r\nnor this'
    return dict(body=body, Content_Type='multipart/form-data; boundary="x\\"y"')


def test_pictures_and_arrays(address):
    body = png(image := picture((30, 40)))
    (expected,) = MultiTaskInferencer(Bright())(image)
    status, content, headers = ask(address, path='/predict', body=body)
    assert (status, headers['Content-Type']) == (200, 'image/png')
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), expected.side_by_side())
    any_file = 'application/octet-stream'
    for sent in (dict(body=body, Content_Type=any_file), form((FILE, body)), form((FILE.replace('image/png', any_file), body))):
        status, content, _ = ask(address, **sent)
        assert status == 200, content
        np.testing.assert_array_equal(values_of(content), expected.values['bright'])
    status, content, _ = ask(address, 'GET', '/health')
    assert status == 200 and json.loads(content) == dict(status='ok', labels=['bright'], waiting=0)


@pytest.mark.parametrize(
    ('status', 'sent', 'words'),
    [
        (400, dict(body=b''), 'other content'),
        (400, dict(body=b'GIF89a, or is it'), 'other content'),
        (400, dict(body=png(picture((40, 40)))[:-40]), 'truncated'),
        (400, dict(body=black(200, 200)), 'at most 10000 pixels. Found 200x200'),
        *((400, dict(body=body), words) for body, words in HEAVY_FILES.values()),
        (400, dict(body=black(1, 30)), 'at most 20 times'),
        (400, dict(body=black(96, 97)), 'at most 9,216 pixels'),
        (413, dict(body=bytes(200_001)), 'at most 200000 bytes'),
        # Grows without a length.
        (413, dict(body=(bytes(50_000) for _ in range(6))), 'at most 200000 bytes'),
        (415, dict(body=SMALL, Content_Type='text/html'), "'text/html'"),
        (422, dict(body=SMALL, path='/predict?output=x'), "'x'"),
        (422, dict(body=SMALL, path='/predict?outputs=arrays'), "'outputs'"),
        # A model that fails does so for one batch.
        (500, dict(body=png(np.full((8, 8, 3), 255, np.uint8))), 'The model failed: ZeroDivisionError()'),
        (404, dict(body=b'', path='/predictions'), 'POST /predict'),
        (405, dict(body=b'', path='/health'), 'GET /, /health'),
        (422, form((FILE, SMALL), (FILE, SMALL)), 'one file and no fields. Found 2 parts'),
        (422, form((FIELD, b'arrays')), 'one file'),
        (415, form((FILE.replace('image/png', 'text/html'), SMALL)), "'text/html'"),
        (400, form((FILE + '\r\nContent-Transfer-Encoding: base64', b64encode(SMALL))), 'other content'),
        (400, form(), 'damaged'),
        (413, form((FILE, bytes(200_001))), 'at most 200000 bytes'),
    ],
)
def test_bad_uploads_are_refused(address, status, sent, words):
    found, content, _ = ask(address, **sent)
    assert found == status and words in json.loads(content)['error'], content
    assert ask(address, body=SMALL)[0] == 200


@pytest.mark.parametrize(
    ('hosts', 'known', 'strange'),
    [
        (
            app.LOOPBACK,
            ['localhost', 'LocalHost:8000', '[::1]:8000', '127.0.0.1'],
            ['attacker.example', 'localhost.attacker.example:8000', 'attacker.example@localhost', '192.0.2.1', ''],
        ),
        (
            {'localhost', 'photos.example', app.ANY_ADDRESS},
            ['photos.example:443', '192.0.2.1:8000', '[2001:db8::1]', 'localhost'],
            ['attacker.example', '192.0.2.1.attacker.example', '[x]', ''],
        ),
    ],
)
def test_pages_of_other_sites_do_not_reach_it(hosts, known, strange):
    known, strange = ([dict(Host=host) for host in each] for each in (known, strange))
    known += [dict(Host='localhost', Origin='http://localhost:3000')]
    strange += [dict(Host='localhost', Origin=origin) for origin in ('https://attacker.example', 'null')]
    with serving(Bright(), hosts=hosts) as address:
        assert [ask(address, body=SMALL, **headers)[0] for headers in known] == [200] * len(known)
        for headers in strange:
            status, content, _ = ask(address, body=SMALL, **headers)
            assert status == 403 and 'does not answer to' in json.loads(content)['error'], headers


def test_several_requests_on_a_connection(address):
    chunked = HEAD + b'Transfer-Encoding: chunked\r\n\r\n%x\r\n' % len(SMALL) + SMALL + b'\r\n0\r\n\r\n'
    last = b'GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'
    with connected(address, [upload(SMALL) + chunked + upload(b'xyz') + last]) as (connection,):
        content = wait_for_end(connection)
    statuses = [int(part[:3]) for part in content.split(b'HTTP/1.1 ')[1:]]
    assert statuses == [200, 200, 400, 200] and content.endswith(b'"waiting":0}')


def test_what_an_image_costs_is_that_of_the_resized_one():
    with serving(runtime := Bright(), options=dict(short_side=128)) as address:
        status, content, _ = ask(address, body=black(1, 300))
    assert status == 400 and 'Found 300x1, resized to 38400x128' in json.loads(content)['error'] and not runtime.shapes


def flood(bodies, seconds, pause=0.0, pixels=64 * 64, **limits):
    """Answers to uploads by a server that predicts so many pixels at a time in so many seconds, and the shapes of its batches."""
    runtime = Bright(seconds)
    with serving(runtime, options=dict(max_pixels=pixels), **limits) as address:
        statuses, contents, _ = send_together(address, bodies, pause)
    return statuses, contents, runtime.shapes


def test_twice_the_capacity():
    bodies = [png(np.full((8, 8 + number % 2, 3), number, np.uint8)) for number in range(48)]
    # Each counts as 32x32.
    statuses, contents, shapes = flood(bodies, 0.05, pixels=2 * 32 * 32, queue=4)
    # All are answered: with their own prediction, or with a word when to come again.
    assert set(statuses) == {200, 503} and statuses.count(200) >= 4
    for number, (status, content) in enumerate(zip(statuses, contents, strict=True)):
        if status == 200:
            np.testing.assert_array_equal(values_of(content), np.full((8, 8 + number % 2), number))
    # Those that waited together were predicted together, of one size, as many as a batch may have pixels.
    batches = [shape[0] for shape in shapes]
    assert max(batches) == 2 and sum(batches) == statuses.count(200)


def test_small_images_do_not_wait_for_all_the_large_ones():
    # One large image at work and three that wait, then three small ones of different sizes.
    statuses, _, shapes = flood([LARGE] * 4 + [black(8, width) for width in (8, 9, 10)], 0.4, pause=0.05)
    assert statuses == (200,) * 7 and [shape[1] for shape in shapes] == [64, 8, 8, 8, 64, 64, 64]


def test_a_full_queue_lets_small_images_in_for_large_ones():
    statuses, *_ = flood([LARGE] * 5 + [SMALL], 0.5, pause=0.05, queue=3)
    # One at work, three that wait, the fifth is too much, and the small one takes the place of a waiting one.
    assert statuses[0] == 200 and statuses[5] == 200 and sorted(statuses) == [200] * 4 + [503] * 2, statuses


def test_large_images_may_not_fill_the_queue():
    statuses, *_ = flood([LARGE] * 9, 0.3, pause=0.01, queue=16)
    # One at work, and four batches that wait.
    assert 4 <= statuses.count(200) <= 6 and statuses.count(503) == 9 - statuses.count(200), statuses


def test_large_files_do_not_hold_up_small_ones_in_the_decoder(monkeypatch):
    decode = app.decode_photograph

    def slowly(data, name, max_pixels):
        image = decode(data, name, max_pixels)
        time.sleep(0.5 if image.size > 1e6 else 0)
        return image

    monkeypatch.setattr(app, 'decode_photograph', slowly)
    # All have the same size for the network; the queue is full of large ones, or they are being decoded.
    with serving(Bright(), queue=5, options=dict(short_side=64)) as address:
        statuses, _, seconds = send_together(address, [black(1100, 1100)] * 6 + [black(80, 80)], pause=0.03)
    assert statuses[6] == 200 and seconds[6] < 0.45 and 503 in statuses[:6], (statuses, seconds)


def test_every_request_has_a_deadline():
    with serving(Bright(seconds=1.0), seconds=0.2, deadline=0.3) as address:
        start = time.perf_counter()
        status, content, headers = ask(address, body=SMALL)
        assert status == 503 and b'no time' in content and headers['Retry-After'] == '1' and time.perf_counter() - start < 0.9


@contextmanager
def connected(address, contents):
    with ExitStack() as stack:
        opened = [stack.enter_context(socket.create_connection(address, timeout=20)) for _ in contents]
        for connection, content in zip(opened, contents, strict=True):
            connection.sendall(content)
        yield opened


def wait_for_end(connection) -> bytes:
    content = b''
    with suppress(ConnectionResetError):
        while part := connection.recv(2**16):
            content += part
    return content


def test_images_of_clients_that_left_are_not_predicted():
    runtime = Bright(seconds=0.6)
    with serving(runtime) as address, ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, address, body=LARGE)
        time.sleep(0.2)
        with connected(address, [upload(SMALL)]):
            time.sleep(0.2)
        assert first.result()[0] == 200
        assert ask(address, body=png(picture((9, 9))))[0] == 200
    assert runtime.shapes == [(1, 64, 64), (1, 9, 9)]


def test_half_a_header_keeps_nobody_out():
    contents = [b''] * 20 + [HEAD] * 20
    with serving(Bright(), seconds=1.0, connections=20) as address, connected(address, contents) as slow:
        start = time.perf_counter()
        assert ask(address, body=SMALL)[0] == 200 and time.perf_counter() - start < 1
        # A byte now and then does not count.
        time.sleep(0.5)
        slow[-1].sendall(b'X')
        ends = [wait_for_end(connection) for connection in slow]
        assert time.perf_counter() - start < 5
        # Some made room, the others were told.
        assert {end[:12] for end in ends} == {b'', b'HTTP/1.1 408'} and 20 <= ends.count(b'') < 25


def test_half_an_upload_keeps_nobody_out():
    contents = [upload(bytes(150_000), 199_000)] * 5
    with serving(Bright(), seconds=2.0, body=200_000, uploads=0) as address, connected(address, contents) as slow:
        start = time.perf_counter()
        assert ask(address, body=SMALL)[0] == 200 and time.perf_counter() - start < 2
        # Of 400 kB there is room for two.
        ends = sorted(wait_for_end(connection)[9:12] for connection in slow)
        assert ends == [b'408'] * 2 + [b'503'] * 3, ends


def test_answers_that_nobody_reads_do_not_stay():
    runtime = Bright()

    def wait_for_connections(number):
        deadline = time.monotonic() + 30
        while len(runtime.server.server_state.connections) > number:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    with ExitStack() as stack, serving(runtime, options=dict(max_pixels=None), unsent=20_000_000, seconds=2.0) as address:
        slow = [stack.enter_context(socket.socket()) for _ in range(4)]
        for connection in slow:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**14)
            connection.connect(address)
            connection.sendall(upload(black(3500, 3500)))
        # Each answer has 12 MB, of which the system keeps a part. Some are cut off for others, and those when their time is up.
        wait_for_connections(3)
        assert ask(address, body=SMALL)[0] == 200
        wait_for_connections(0)
        assert all(len(wait_for_end(connection)) < 12_000_000 for connection in slow)


def test_an_end_that_waits_for_nobody(monkeypatch):
    monkeypatch.setattr(connections, 'GRACE', 2)
    runtime = Bright(seconds=4.0)
    with ThreadPoolExecutor(8) as pool, ExitStack() as stack:
        with serving(runtime, batch_size=1) as address:
            answers = [pool.submit(ask, address, body=SMALL) for _ in range(4)]
            slow = stack.enter_context(connected(address, [upload(b'', 9), HEAD[:9]]))
            time.sleep(0.5)
            start = time.perf_counter()
        assert time.perf_counter() - start < 3.5
        assert [answer.result()[0] for answer in answers] == [503] * 4 and len(runtime.shapes) == 1
        assert [wait_for_end(connection) for connection in slow] == [b'', b'']


@pytest.mark.parametrize(('width', 'scheme'), [(1280, 'light'), (390, 'dark')])
def test_the_page_in_a_browser(visit, tmp_path, width, scheme):
    Image.fromarray(image := picture((30, 40))).save(tmp_path / 'photo.png')
    (tmp_path / 'notes.md').write_text('No picture.')
    with serving(Bright(), name='<b>model') as (host, port):
        page = visit(f'http://{host}:{port}/', width, scheme)
        assert page.inner_text('#about').startswith('<b>model predicts bright.')
        page.set_input_files('#file', tmp_path / 'photo.png')
        # Playwright's waiting for functions needs eval, which the page forbids.
        page.locator('#state', has_text='photo.png: 40 x 30 pixels').wait_for()
        assert page.locator('#layer').evaluate('node => node.decode().then(() => node.naturalWidth)') == 40
        # The value under the pointer, how much of it covers the image, and files.
        box = page.locator('#view').bounding_box()
        page.locator('#view').hover(position=dict(x=10.5 / 40 * box['width'], y=20.5 / 30 * box['height']))
        assert page.inner_text('#here') == f'x 10, y 20 · bright {min(image[20, 10, 0], 249)}'
        page.locator('#opacity').fill('0.25')
        assert page.locator('#layer').evaluate('node => getComputedStyle(node).opacity') == '0.25'
        with page.expect_download() as download:
            page.click('text=Download the values')
        assert download.value.suggested_filename == 'photo.npz'
        assert np.load(download.value.path())['bright'].shape == (30, 40)
        # A sample, a dropped image, and what is none.
        page.click('#sample')
        page.locator('#state', has_text='sample.png: 60 x 20 pixels').wait_for()
        data = page.evaluate_handle(
            'bytes => { const data = new DataTransfer();'
            ' data.items.add(new File([new Uint8Array(bytes)], "b.png", { type: "image/png" })); return data; }',
            list(png(picture((20, 40)))),
        )
        page.dispatch_event('#drop', 'drop', dict(dataTransfer=data))
        page.locator('#state', has_text='b.png: 40 x 20 pixels').wait_for()
        assert page.evaluate('document.documentElement.scrollWidth') == width
        page.set_input_files('#file', tmp_path / 'notes.md')
        page.locator('#state.bad', has_text='notes.md is not a picture. Choose a JPEG').wait_for()
