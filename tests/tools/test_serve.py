"""The server: what it answers to good and bad uploads, under load, and in a browser."""

import http.client
import io
import json
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from base64 import b64encode
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mtl_plugins.apis.inference import MultiTaskInferencer
from mtl_plugins.config.load import load_config
from mtl_plugins.registry import MODELS
from tests.tiny import ROOT
from tests.tools.photographs import JOINT, picture

uvicorn = pytest.importorskip('uvicorn')


class Bright:
    """A model of a moment: the brightness of each pixel."""

    labels = dict(bright=dict(type='ClassMap', classes=[str(number) for number in range(250)]))

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.batches, self.shapes = seconds, [], []

    def __call__(self, images):
        self.batches.append(len(images))
        self.shapes.append(images.shape[:3])
        time.sleep(self.seconds)
        if (images == 255).all():
            raise ZeroDivisionError
        if (images == 254).all():
            raise ValueError('no memory for it, of 3 GiB')
        return dict(bright=np.minimum(images[..., 0], 249))


@contextmanager
def serving(runtime, batch_size=4, options=None, **limits):
    """Address and port of a server in a thread."""
    from mtl_plugins.deployment.server.app import Limits, make_app
    from mtl_plugins.deployment.server.connections import make_server

    inferencer = MultiTaskInferencer(runtime, batch_size=batch_size, **(options or {}))
    server = make_server(make_app(inferencer, Limits(**limits)), port=0, log_level='error')
    runtime.server = server
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


HEAD = b'POST /predict?output=arrays HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n'


def upload(body: bytes, length: int | None = None) -> bytes:
    return HEAD + b'Content-Length: %d\r\n\r\n' % (len(body) if length is None else length) + body


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


def many_scans() -> bytes:
    """A small JPEG that takes long: its last refinement once more and once more."""
    buffer = io.BytesIO()
    Image.new('L', (64, 64), 128).save(buffer, 'JPEG', progressive=True)
    data = buffer.getvalue()
    return data[:-2] + data[data.rindex(b'\xff\xda') : -2] * 200 + data[-2:]


def large_tile() -> bytes:
    """A TIFF of 8x8 pixels whose only tile has 10000x10000, for which its decoder makes room."""
    tags = {256: 8, 257: 8, 258: 8, 259: 8, 262: 1, 277: 1, 322: 10_000, 323: 10_000, 324: 512, 325: 99}
    entries = b''.join(struct.pack('<HHII', tag, 4, 1, value) for tag, value in tags.items())
    return (b'II*\0' + struct.pack('<IH', 8, len(tags)) + entries + bytes(4)).ljust(512, b'\0') + bytes(99)


def two_headers() -> bytes:
    """A PNG whose first header says 30000x30000, and a second one 8x8."""
    small = png(picture((8, 8)))
    large = b'IHDR' + struct.pack('>2I', 30_000, 30_000) + small[24:29]
    return small[:8] + struct.pack('>I', 13) + large + struct.pack('>I', zlib.crc32(large)) + small[8:]


SMALL, LARGE = png(picture((8, 8))), png(np.zeros((64, 64, 3), np.uint8))
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
        (400, dict(body=many_scans()), 'at most 100 scans. Found 206'),
        (400, dict(body=large_tile()), 'at most 4194304 pixels. Found 10000x10000'),
        (400, dict(body=two_headers()), 'at most 10000 pixels. Found 30000x30000'),
        (400, dict(body=png(np.zeros((1, 30, 3), np.uint8))), 'at most 20 times'),
        (413, dict(body=bytes(200_001)), 'at most 200000 bytes'),
        # Grows without a length.
        (413, dict(body=(bytes(50_000) for _ in range(6))), 'at most 200000 bytes'),
        (415, dict(body=SMALL, Content_Type='text/html'), "'text/html'"),
        (422, dict(body=SMALL, path='/predict?output=x'), "'x'"),
        (422, dict(body=SMALL, path='/predict?outputs=arrays'), "'outputs'"),
        # A model that fails does so for one batch.
        (500, dict(body=png(np.full((8, 8, 3), 255, np.uint8))), 'The model failed: ZeroDivisionError()'),
        (500, dict(body=png(np.full((9, 9, 3), 254, np.uint8))), 'no memory for it, of 3 GiB'),
        (404, dict(body=b'', path='/predictions'), 'POST /predict'),
        (405, dict(body=b'', path='/health'), 'GET /, /health'),
    ],
)
def test_bad_uploads_are_refused(address, status, arguments, words):
    found, content, _ = ask(address, **arguments)
    assert found == status and words in json.loads(content)['error'], content
    assert ask(address, body=SMALL)[0] == 200


def form(*parts: tuple[str, bytes], boundary: bytes = b'x"y') -> bytes:
    """A form with a header and a content for each part."""
    pieces = [b'--' + boundary + b'\r\n' + head.encode() + b'\r\n\r\n' + content + b'\r\n' for head, content in parts]
    return b'nobody reads this\r\n' + b''.join(pieces) + b'--' + boundary + b'--\r\nnor this'


FILE = 'Content-Disposition: form-data; name="file"; filename="a \\"b.png"\r\nContent-Type: image/png'
FIELD = 'content-disposition: form-data; name=output'


@pytest.mark.parametrize(
    ('status', 'parts', 'words'),
    [
        (200, [(FILE, SMALL)], None),
        (200, [(FILE.replace('image/png', 'application/octet-stream'), SMALL)], None),
        (422, [(FILE, SMALL), (FILE, SMALL)], 'one file and no fields. Found 2 parts'),
        (422, [(FIELD, b'arrays')], 'one file'),
        (415, [(FILE.replace('image/png', 'text/html'), SMALL)], "'text/html'"),
        (400, [(FILE + '\r\nContent-Transfer-Encoding: base64', b64encode(SMALL))], 'other content'),
        (400, [], 'damaged'),
        (400, [(FILE, SMALL[:-20])], 'truncated'),
        (413, [(FILE, bytes(200_001))], 'at most 200000 bytes'),
    ],
)
def test_forms(address, status, parts, words):
    # Was: 415, the body should be an image file.
    kind = 'multipart/form-data; boundary="x\\"y"'
    found, content, _ = ask(address, path='/predict?output=arrays', body=form(*parts), Content_Type=kind)
    assert found == status, content
    if words is not None:
        assert words in json.loads(content)['error'], content
    else:
        np.testing.assert_array_equal(np.load(io.BytesIO(content))['bright'], np.minimum(picture((8, 8))[..., 0], 249))


@pytest.mark.parametrize(
    ('status', 'headers'),
    [
        (200, dict(Host='localhost')),
        (200, dict(Host='LocalHost:8000')),
        (200, dict(Host='[::1]:8000')),
        (200, dict(Host='127.0.0.1', Origin='http://localhost:3000')),
        (403, dict(Host='attacker.example')),
        (403, dict(Host='localhost.attacker.example:8000')),
        (403, dict(Host='attacker.example@localhost')),
        (403, dict(Host='192.0.2.1')),
        (403, dict(Host='')),
        (403, dict(Host='localhost', Origin='https://attacker.example')),
        (403, dict(Host='localhost', Origin='null')),
    ],
)
def test_pages_of_other_sites_do_not_reach_it(address, status, headers):
    found, content, _ = ask(address, body=SMALL, **headers)
    assert found == status and (status == 200 or 'does not answer to' in json.loads(content)['error'])


def test_names_that_are_allowed():
    from mtl_plugins.deployment.server.app import ANY_ADDRESS, _KnownHosts

    known = _KnownHosts(None, {'localhost', 'photos.example', ANY_ADDRESS})
    for host in ('photos.example:443', '192.0.2.1:8000', '[2001:db8::1]', 'localhost'):
        assert known.knows(host), host
    for host in ('attacker.example', '192.0.2.1.attacker.example', '[x]', ''):
        assert not known.knows(host), host


def test_several_requests_on_a_connection(address):
    whole, chunks = upload(SMALL), b'%x\r\n' % len(SMALL) + SMALL + b'\r\n0\r\n\r\n'
    chunked = HEAD + b'Transfer-Encoding: chunked\r\n\r\n' + chunks
    last = b'GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'
    with socket.create_connection(address, timeout=20) as connection:
        # All at once.
        connection.sendall(whole + chunked + upload(b'xyz') + last)
        content = wait_for_end(connection)
    statuses = [int(part[:3]) for part in content.split(b'HTTP/1.1 ')[1:]]
    assert statuses == [200, 200, 400, 200] and content.endswith(b'"waiting":0}')


# Clients that cost more than they should


def test_what_an_image_costs_is_that_of_the_resized_one():
    runtime = Bright()
    with serving(runtime, options=dict(short_side=128)) as address:
        # 77 bytes took 22 seconds and 3 GiB.
        status, content, _ = ask(address, body=png(np.zeros((1, 300, 3), np.uint8)))
        assert status == 400 and 'Found 300x1, resized to 38400x128' in json.loads(content)['error']
    with serving(runtime, options=dict(max_pixels=64 * 64)) as address:
        status, content, _ = ask(address, body=png(np.zeros((64, 65, 3), np.uint8)))
        assert status == 400 and 'at most 4,096 pixels' in json.loads(content)['error']
        assert not runtime.batches
        assert ask(address, body=png(np.zeros((64, 64, 3), np.uint8)))[0] == 200


def send_together(address, bodies, pause=0.0):
    """The answers to uploads of one client each, and after how many seconds they came."""
    start = time.perf_counter()

    def send(number):
        time.sleep(number * pause)
        return (*ask(address, path='/predict?output=arrays', body=bodies[number])[:2], time.perf_counter() - start)

    with ThreadPoolExecutor(len(bodies)) as pool:
        return list(pool.map(send, range(len(bodies))))


def test_batches_have_a_limit_of_pixels():
    runtime = Bright(seconds=0.2)
    with serving(runtime, batch_size=4, options=dict(max_pixels=2 * 64 * 64)) as address:
        answers = send_together(address, [LARGE] * 7)
    assert [answer[0] for answer in answers] == [200] * 7 and max(runtime.batches) == 2


def test_small_images_do_not_wait_for_all_the_large_ones():
    runtime = Bright(seconds=0.4)
    # One large image at work and three that wait, then three small ones of different sizes.
    small = [png(np.zeros((8, width, 3), np.uint8)) for width in (8, 9, 10)]
    with serving(runtime, options=dict(max_pixels=64 * 64)) as address:
        answers = send_together(address, [LARGE] * 4 + small, pause=0.05)
    assert [answer[0] for answer in answers] == [200] * 7
    # They came after all large ones.
    sizes = [shape[1] for shape in runtime.shapes]
    assert sizes == [64, 8, 8, 8, 64, 64, 64], sizes


def test_a_full_queue_lets_small_images_in_for_large_ones():
    with serving(Bright(seconds=0.5), queue=3, options=dict(max_pixels=64 * 64)) as address:
        answers = send_together(address, [LARGE] * 5 + [SMALL], pause=0.05)
    statuses = [answer[0] for answer in answers]
    # One at work, three that wait, the fifth is too much, and the small one takes the place of a waiting one.
    assert statuses[0] == 200 and statuses[5] == 200 and sorted(statuses) == [200] * 4 + [503] * 2, statuses


def test_large_files_do_not_hold_up_small_ones_in_the_decoder(monkeypatch):
    from mtl_plugins.deployment.server import app

    decode = app.decode_photograph

    def slowly(data, name, max_pixels):
        image = decode(data, name, max_pixels)
        time.sleep(0.5 if image.size > 1e6 else 0)
        return image

    monkeypatch.setattr(app, 'decode_photograph', slowly)
    # All have the same size for the network; the queue is full of large ones, or they are being decoded.
    large, small = png(np.zeros((1100, 1100, 3), np.uint8)), png(np.zeros((80, 80, 3), np.uint8))
    with serving(Bright(), queue=5, options=dict(short_side=64)) as address:
        answers = send_together(address, [large] * 6 + [small], pause=0.03)
    assert answers[6][0] == 200 and answers[6][2] < 0.6 and 503 in [answer[0] for answer in answers[:6]], [
        (answer[0], answer[2]) for answer in answers
    ]


def test_large_images_may_not_fill_the_queue():
    with serving(Bright(seconds=0.3), queue=16, options=dict(max_pixels=64 * 64)) as address:
        answers = send_together(address, [LARGE] * 9, pause=0.01)
    statuses = [answer[0] for answer in answers]
    # One at work, and four batches that wait.
    assert 4 <= statuses.count(200) <= 6 and statuses.count(503) == 9 - statuses.count(200), statuses


def test_every_request_has_a_deadline():
    with serving(Bright(seconds=1.0), seconds=0.2, deadline=0.3) as address:
        ((status, content, seconds),) = send_together(address, [SMALL])
        assert status == 503 and b'no time' in content and seconds < 0.9


def test_images_of_clients_that_left_are_not_predicted():
    runtime = Bright(seconds=0.6)
    with serving(runtime) as address:
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(ask, address, body=LARGE)
            time.sleep(0.2)
            with socket.create_connection(address) as other:
                other.sendall(upload(SMALL))
                time.sleep(0.2)
            assert first.result()[0] == 200
        assert ask(address, body=png(picture((9, 9))))[0] == 200
    assert runtime.shapes == [(1, 64, 64), (1, 9, 9)]


@contextmanager
def connected(address, contents):
    """Connections that have sent these contents."""
    with ExitStack() as stack:
        opened = [stack.enter_context(socket.create_connection(address)) for _ in contents]
        for connection, content in zip(opened, contents, strict=True):
            connection.sendall(content)
        yield opened


def wait_for_end(connection) -> bytes:
    connection.settimeout(20)
    content = b''
    try:
        while part := connection.recv(2**16):
            content += part
    except ConnectionResetError:
        pass
    return content


def test_half_a_header_keeps_nobody_out():
    # 150 of them made the server answer everyone with 503.
    contents = [b''] * 20 + [HEAD] * 20
    with serving(Bright(), seconds=1.0, connections=20) as address, connected(address, contents) as slow:
        start = time.perf_counter()
        assert ask(address, body=SMALL)[0] == 200 and time.perf_counter() - start < 1
        # A byte now and then does not count.
        time.sleep(0.5)
        slow[-1].sendall(b'X')
        ends = [wait_for_end(connection) for connection in slow]
        assert time.perf_counter() - start < 5
        # Those that had been there longest made room, the others were told.
        assert ends[0] == b'' and ends[-1].startswith(b'HTTP/1.1 408') and 20 <= ends.count(b'') < 25


def test_half_an_upload_keeps_nobody_out():
    contents = [upload(bytes(150_000), 199_000)] * 5
    with serving(Bright(), seconds=2.0, body=200_000, uploads=0) as address, connected(address, contents) as slow:
        start = time.perf_counter()
        assert ask(address, body=SMALL)[0] == 200 and time.perf_counter() - start < 2
        # Of 400 kB there is room for two.
        ends = sorted(wait_for_end(connection)[9:12] for connection in slow)
        assert ends == [b'408'] * 2 + [b'503'] * 3, ends


def test_answers_that_nobody_reads_do_not_stay():
    body = png(np.zeros((3500, 3500, 3), np.uint8))
    runtime = Bright()

    def wait_for_connections(number):
        deadline = time.monotonic() + 30
        while len(runtime.server.server_state.connections) > number:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    with serving(runtime, options=dict(max_pixels=None), unsent=20_000_000, seconds=2.0) as address:
        slow = []
        for _ in range(4):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**14)
            connection.connect(address)
            slow.append(connection)
            connection.sendall(upload(body))
        # Each answer has 12 MB, of which the system keeps a part. Some are cut off for others, and those when their time is up.
        wait_for_connections(3)
        assert ask(address, body=SMALL)[0] == 200
        wait_for_connections(0)
        lengths = [len(wait_for_end(connection)) for connection in slow]
        assert all(length < 12_000_000 for length in lengths), lengths
        for connection in slow:
            connection.close()


def test_an_end_that_waits_for_nobody(monkeypatch):
    from mtl_plugins.deployment.server import connections

    # It waited for all that was in the queue.
    monkeypatch.setattr(connections, 'GRACE', 2)
    runtime = Bright(seconds=4.0)
    with ThreadPoolExecutor(8) as pool, ExitStack() as stack:
        with serving(runtime, batch_size=1) as address:
            answers = [pool.submit(ask, address, body=SMALL) for _ in range(4)]
            slow = stack.enter_context(connected(address, [upload(b'', 9), HEAD[:9]]))
            time.sleep(0.5)
            start = time.perf_counter()
        assert time.perf_counter() - start < 3.5
        assert [answer.result()[0] for answer in answers] == [503] * 4 and runtime.batches == [1]
        assert [wait_for_end(connection) for connection in slow] == [b'', b'']


def test_twice_the_capacity():
    runtime = Bright(seconds=0.05)
    queue, batch_size, clients, each = 4, 4, 24, 3
    bodies = [png(np.full((8, 8 + number % 2, 3), number, np.uint8)) for number in range(clients)]
    with serving(runtime, batch_size, queue=queue) as address:

        def client(number):
            return [(number, *ask(address, path='/predict?output=arrays', body=bodies[number])) for _ in range(each)]

        with ThreadPoolExecutor(clients) as pool:
            answers = [answer for some in pool.map(client, range(clients)) for answer in some]
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


@pytest.mark.slow  # Starts the tool with a whole ResNet-18, and attacks it for two minutes.
@pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='reads /proc')
@pytest.mark.parametrize('options', [(), ('--short-side', '128')], ids=['as it is', 'short side 128'])
def test_attacks_take_two_gibibytes_at_most_and_keep_nobody_out(tmp_path, options, capsys):
    path = tmp_path / 'whole.pth'
    config = load_config(str(JOINT))
    config.model.backbone.init_cfg = None
    torch.save(dict(state_dict=MODELS.build(config.model).state_dict(), meta=dict(cfg=config.pretty_text)), path)
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        address = listener.getsockname()
    command = [sys.executable, 'tools/deployment/serve.py', path, '--port', str(address[1]), *options]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    giant = png(np.random.default_rng(0).integers(0, 256, (1440, 1440, 3), np.uint8))

    def black(kind, *size, **arguments):
        buffer = io.BytesIO()
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(buffer, kind, **arguments)
        return buffer.getvalue()

    def together(bodies):
        return Counter(answer[0] for answer in send_together(address, bodies))

    def half(number, content):
        with ExitStack() as stack:
            for _ in range(number):
                connection = stack.enter_context(socket.create_connection(address, timeout=20))
                with suppress(OSError):
                    connection.sendall(content)
            time.sleep(12)
        return Counter(opened=number)

    large, deep = (4000, 3990), cv2.imencode('.png', np.zeros((3985, 3990, 4), np.uint16))[1].tobytes()
    formats = dict(WEBP=dict(lossless=True), GIF={}, TIFF=dict(compression='tiff_lzw'), JPEG=dict(progressive=True))
    attacks = {
        'thin': (together, [black('PNG', *size) for size in ((1, 300), (300, 1), (1, 1000), (1000, 1), (20, 400))] * 4),
        'large': (together, [black('PNG', 3985, 3990)] * 12),
        'as large as may be': (together, [giant] * 20),
        'other formats': (together, [black(kind, *large, **arguments) for kind, arguments in formats.items()] + [deep] * 4),
        'hostile': (together, [many_scans(), large_tile(), two_headers(), bytes(BOMB)] * 5),
        'half a header': (half, 150, HEAD),
        'half a body': (half, 150, upload(bytes(2_000_000), 20_000_000)),
        'unread answers': (half, 12, upload(giant)),
    }

    def peak_memory():
        lines = Path(f'/proc/{server.pid}/status').read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith('VmHWM:')) * 1024

    def seconds_of(body):
        start = time.monotonic()
        assert ask(address, body=body)[0] == 200
        return time.monotonic() - start

    try:
        deadline = time.monotonic() + 120
        while True:
            with suppress(OSError):
                if ask(address, 'GET', '/health')[0] == 200:
                    break
            assert server.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
        tiny = png(picture((64, 128)))
        for _ in range(3):
            seconds_of(tiny)
        before, alone = peak_memory(), seconds_of(giant)
        for name, (attack, *arguments) in attacks.items():
            waits = []
            with ThreadPoolExecutor(1) as pool:
                attacking = pool.submit(attack, *arguments)
                time.sleep(0.3)
                while not attacking.done() or len(waits) < 3:
                    waits.append(seconds_of(tiny))
                    time.sleep(0.2)
            memory, answers = peak_memory() - before, dict(attacking.result())
            with capsys.disabled():
                print(f'\n{name}: {answers}; others waited {max(waits):.1f} s at most; {memory / 2**20:.0f} MiB more', end='')
            assert max(waits) < 2 * alone + 10 and memory < 2 * 2**30, name
        # While it computes the largest images.
        with ThreadPoolExecutor(8) as pool:
            for _ in range(8):
                pool.submit(ask, address, body=giant)
            time.sleep(1.5)
            start = time.monotonic()
            server.terminate()
            server.wait(20)
        assert time.monotonic() - start < 10
    finally:
        server.kill()
        server.wait()
