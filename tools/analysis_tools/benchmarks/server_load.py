"""A server under more load than it can bear: what it answers, how soon, and how much memory it takes."""

import http.client
import io
import socket
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.results import print_table
from mtl_plugins.errors import UserError
from mtl_plugins.synthetic.streets.street_scenes import render_sample

# One request in so many is a bad one, of each kind in turn.
BAD_EVERY = 20
UNANSWERED = 'none'


@dataclass(frozen=True)
class Request:
    """An upload, and the answers that it may get."""

    kind: str
    body: bytes
    allowed: tuple[int, ...]
    content_type: str = 'image/jpeg'
    slow: bool = False


@dataclass(frozen=True)
class Answer:
    """What came back: the status, or why none came, and after how many seconds."""

    kind: str
    status: int | str
    seconds: float
    allowed: bool


def make_requests(size: tuple[int, int], number: int = 8) -> tuple[list[Request], list[Request]]:
    """Generated scenes as JPEG, and uploads that are refused: cut off, no image, a bomb by its header, one that never ends."""
    good = []
    for index in range(number):
        buffer = io.BytesIO()
        Image.fromarray(render_sample(0, 'val', index, size).image).save(buffer, 'JPEG', quality=90)
        good.append(Request('image', buffer.getvalue(), (200, 503)))
    buffer = io.BytesIO()
    Image.new('RGB', (8, 8)).save(buffer, 'PNG')
    bomb = bytearray(buffer.getvalue())
    bomb[16:24] = (30000).to_bytes(4, 'big') * 2
    bad = [
        Request('cut off', good[0].body[: len(good[0].body) // 2], (400, 503)),
        Request('no image', b'GIF89a, or is it', (400, 503)),
        Request('bomb', bytes(bomb), (400, 503), 'image/png'),
        Request('text', b'hello', (415, 503), 'text/plain'),
        Request('slow', good[0].body[:100], (408, 503), slow=True),
    ]
    return good, bad


def ask(address: tuple[str, int], request: Request, timeout: float = 60.0) -> Answer:
    """Send a request on a connection of its own and read the whole answer."""
    start = time.perf_counter()
    status: int | str
    try:
        connection = http.client.HTTPConnection(*address, timeout=timeout)
        # Of a slow one the rest never comes.
        length = len(request.body) * (2 if request.slow else 1)
        headers = {'Content-Type': request.content_type, 'Content-Length': str(length)}
        connection.request('POST', '/predict', request.body, headers)
        response = connection.getresponse()
        response.read()
        connection.close()
        status = response.status
    except (OSError, http.client.HTTPException) as error:
        status = f'{UNANSWERED}: {type(error).__name__}'
    return Answer(request.kind, status, time.perf_counter() - start, status in request.allowed)


def measure_capacity(address: tuple[str, int], requests: list[Request], clients: int, seconds: float) -> float:
    """Images per second that are predicted while so many clients ask one after the other.

    Raises:
        UserError: If none is.
    """
    end = time.perf_counter() + seconds
    done: list[float] = []

    def client(number: int) -> None:
        while time.perf_counter() < end:
            if ask(address, requests[number % len(requests)]).status == 200:
                done.append(time.perf_counter())

    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(client, range(clients)))
    if not done:
        raise UserError(
            f'The server should predict within {seconds:g} seconds (`--warm-up`). Found no prediction: give it longer.'
        )
    return len(done) / (max(done) - start)


def hold(
    address: tuple[str, int], good: list[Request], bad: list[Request], rate: float, seconds: float, threads: int = 256
) -> tuple[list[Answer], float]:
    """Send ``rate`` requests per second, whether or not those before were answered; their answers, and the rate that was kept."""
    number = round(rate * seconds)
    futures = []
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for index in range(number):
            time.sleep(max(0.0, start + index / rate - time.perf_counter()))
            request = bad[index // BAD_EVERY % len(bad)] if bad and index % BAD_EVERY == 0 else good[index % len(good)]
            futures.append(pool.submit(ask, address, request))
        sent = number / (time.perf_counter() - start)
        answers = [future.result() for future in futures]
    return answers, sent


class Resident:
    """Reads the resident memory of a process every second, in MiB, until it is left."""

    def __init__(self, process: int) -> None:
        self.path = Path(f'/proc/{process}/status')
        self.values: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> 'Resident':
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self.values.append(self.read())
            if self._stop.wait(1.0):
                return

    def read(self) -> float:
        # A process that ended, whose parent has not asked for its status, has none.
        lines = self.path.read_text(encoding='utf-8').splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith('VmRSS:')), 0) / 1024


def benchmark_server(
    address: tuple[str, int],
    process: int,
    *,
    size: tuple[int, int],
    load: float,
    seconds: float,
    clients: int,
    warm_up: float = 10.0,
    log: Callable[[str], None] = print,
) -> dict:
    """Measure the capacity of a server, then hold it at a multiple.

    Args:
        address: Where it listens.
        process: Its id.
        size: Of the images.
        load: Requests per second, over the capacity.
        seconds: For how long.
        clients: That find the capacity.
        warm_up: Seconds for that, after as many that do not count.
        log: Gets a line on what happens.

    Returns:
        ``capacity`` and ``rate`` in requests per second; ``served``, all predictions over ``seconds``; ``answers`` by kind and
        status; ``wrong``, how many got an answer of another status, or none; ``seconds``, quantiles of the time to an
        answer by status; ``mebibytes`` of the process before, every second, and after.
    """
    good, bad = make_requests(size)
    measure_capacity(address, good, clients, warm_up)
    capacity = measure_capacity(address, good, clients, warm_up)
    log(f'Capacity: {capacity:.1f} images per second.')
    with Resident(process) as memory:
        before = memory.read()
        answers, rate = hold(address, good, bad, load * capacity, seconds)
        after = memory.read()
    counted: dict[str, Counter] = defaultdict(Counter)
    seconds_by_status: dict[str, list[float]] = defaultdict(list)
    for answer in answers:
        counted[answer.kind][str(answer.status)] += 1
        seconds_by_status[str(answer.status)].append(answer.seconds)
    times = {
        status: dict(zip(('median', 'p95', 'max'), np.percentile(values, (50, 95, 100)).tolist(), strict=True))
        for status, values in sorted(seconds_by_status.items())
    }
    return dict(
        settings=dict(size=size, load=load, seconds=seconds, clients=clients, bad_every=BAD_EVERY),
        capacity=capacity,
        rate=rate,
        served=sum(answer.status == 200 for answer in answers) / seconds,
        requests=len(answers),
        answers=counted,
        wrong=sum(not answer.allowed for answer in answers),
        seconds=times,
        mebibytes=dict(before=before, after=after, largest=max(memory.values), every_second=memory.values),
    )


def print_load(document: dict) -> None:
    """Print what was answered, how soon, and the memory."""
    statuses, memory = document['seconds'], document['mebibytes']
    rows = [(kind, *(str(counts.get(status, '')) for status in statuses)) for kind, counts in document['answers'].items()]
    for name in ('median', 'p95', 'max'):
        rows.append((f'{name} (s)', *(f'{times[name]:.2f}' for times in statuses.values())))
    console = print_table(('upload', *statuses), rows, f'{document["requests"]} requests, {document["rate"]:.1f} per second')
    console.print(
        f'Capacity: {document["capacity"]:.1f} images per second. Resident memory: '
        f'{memory["before"]:.0f} MiB before, at most {memory["largest"]:.0f}, {memory["after"]:.0f} after. Wrong or missing '
        f'answers: {document["wrong"]}.'
    )


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return listener.getsockname()[1]
