"""The web application: one model, images in, pictures and arrays out."""

import asyncio
import html
import io
import ipaddress
import logging
import os
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from mtl_plugins.apis.inference import MultiTaskInferencer, Prediction
from mtl_plugins.apis.inference.inferencer import count_pixels
from mtl_plugins.apis.inference.output import encode_png
from mtl_plugins.apis.inference.sources import Frame
from mtl_plugins.deployment.server.batcher import Batcher, QueueFull
from mtl_plugins.errors import DataError
from mtl_plugins.labels.decoding import decode_photograph, read_photograph_size
from mtl_plugins.utils.cli import DEBUG_VARIABLE, explain

OUTPUTS = ('picture', 'arrays')
LOOPBACK = ('localhost', '127.0.0.1', '::1')
# Stands for every address in numbers, which no page of another site can have for its name.
ANY_ADDRESS = '*'
# No script but the page's own, nothing from elsewhere.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src blob: data:; connect-src 'self'; "
    "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
_PAGE = Path(__file__).parent / 'templates' / 'serve.html'
_HOST = re.compile(r'(?:\[([0-9a-f:.]+)\]|([^\s:/?#@\[\]]+))(?::\d+)?')
# Of a form around its file: boundaries, headers and other fields.
_FORM_BYTES = 2**16
_LOG = logging.getLogger('uvicorn.error')
_FULL = 'Too many images wait. Try again later.'


@dataclass(frozen=True)
class Limits:
    """Limits of requests. The inferencer's ``max_pixels`` limits the size of a batch.

    Attributes:
        body: Bytes of an upload.
        pixels: Of an image, by its header.
        seconds: In which a header, and then an upload must have come, and a mebibyte of an answer must have been taken.
        queue: Images that may wait for the model.
        deadline: Seconds after which a request is refused that has no prediction yet.
        uploads: Bytes of all uploads that have not been decoded, at least two of the largest.
        unsent: Bytes of answers that clients have not taken.
        connections: That may be open.
    """

    body: int = 20 * 2**20
    pixels: int = 16_000_000
    seconds: float = 10.0
    queue: int = 16
    deadline: float = 30.0
    uploads: int = 128 * 2**20
    unsent: int = 64 * 2**20
    connections: int = 256


class Refused(Exception):
    """An answer that is no prediction."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def make_app(inferencer: MultiTaskInferencer, limits: Limits | None = None, hosts: Collection[str] = LOOPBACK) -> FastAPI:
    """The application, to be served by :func:`~mtl_plugins.deployment.server.connections.make_server`.

    ``POST /predict`` takes an image file as its body or as a file of a form and gives the side-by-side picture (PNG), or with
    ``output=arrays``, in the query or the form, the values by label (``.npz``). ``GET /`` is a page to drop an image on,
    ``/health`` says that the model is there, ``/metrics`` counts in Prometheus' text format.

    Args:
        inferencer: The model; its ``batch_size`` is the largest batch, its ``max_pixels`` that of a batch.
        limits: Of requests.
        hosts: Names by which the server may be called; :data:`ANY_ADDRESS` is every address. Requests for other names, and those
            of pages of other names, are refused: pages of other sites may let their name point here.
    """
    limits = limits or Limits()
    batcher = Batcher(partial(_predict, inferencer), inferencer.batch_size, limits.queue, inferencer.max_pixels)
    uploads = Uploads(limits)
    answers: Counter[int] = Counter()
    seconds = 0.0

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        batcher.close()
        uploads.headers.shutdown(wait=False, cancel_futures=True)

    # No pages of documents, which load scripts from elsewhere.
    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.batcher, app.state.limits = batcher, limits
    app.add_middleware(_KnownHosts, hosts={name.lower() for name in hosts})

    @app.exception_handler(HTTPException)
    async def no_such_page(request: Request, error: HTTPException) -> JSONResponse:
        sentence = (
            f'{request.method} {request.url.path[:80]}: {error.detail}. There are GET /, /health, /metrics and POST /predict.'
        )
        return JSONResponse(dict(error=sentence), error.status_code, headers=error.headers)

    @app.api_route('/', methods=['GET', 'HEAD'])
    async def page() -> HTMLResponse:
        labels = html.escape(', '.join(inferencer.labels))
        text = _PAGE.read_text(encoding='utf-8').replace('{{ labels }}', labels)
        return HTMLResponse(text, headers={'Content-Security-Policy': _POLICY, 'X-Content-Type-Options': 'nosniff'})

    @app.api_route('/health', methods=['GET', 'HEAD'])
    async def health() -> JSONResponse:
        return JSONResponse(dict(status='ok', labels=list(inferencer.labels), waiting=batcher.waiting))

    @app.api_route('/metrics', methods=['GET', 'HEAD'])
    async def metrics() -> PlainTextResponse:
        lines = [
            '# TYPE mtl_requests_total counter',
            *(f'mtl_requests_total{{status="{status}"}} {number}' for status, number in sorted(answers.items())),
            '# TYPE mtl_request_seconds summary',
            f'mtl_request_seconds_sum {seconds:.6f}',
            f'mtl_request_seconds_count {sum(answers.values())}',
            '# TYPE mtl_batches_total counter',
            f'mtl_batches_total {batcher.batches}',
            '# TYPE mtl_images_total counter',
            f'mtl_images_total {batcher.images}',
            '# TYPE mtl_queue_images gauge',
            f'mtl_queue_images {batcher.waiting}',
        ]
        return PlainTextResponse('\n'.join([*lines, '']), media_type='text/plain; version=0.0.4')

    @app.post('/predict')
    async def predict(request: Request) -> Response:
        nonlocal seconds
        start = time.perf_counter()
        try:
            response = await answer(request, start + limits.seconds + limits.deadline)
        except ClientDisconnect:
            # Nobody reads it; it is counted.
            response = Response(status_code=499)
        except Refused as error:
            headers = {'Retry-After': '1'} if error.status == 503 else {}
            response = JSONResponse(dict(error=str(error)), error.status, headers=headers)
        except Exception as error:
            # Of this batch alone; the server goes on.
            sentence = f'The model failed: {_reason(error)}'
            _LOG.error(sentence, exc_info=error if os.environ.get(DEBUG_VARIABLE) == '1' else None)
            response = JSONResponse(dict(error=sentence), 500)
        answers[response.status_code] += 1
        seconds += time.perf_counter() - start
        return response

    async def answer(request: Request, end: float) -> Response:
        unknown = [name for name in request.query_params if name != 'output']
        if unknown:
            raise Refused(422, f'The only parameter is `output`. Found {unknown[0][:40]!r}.')
        output = request.query_params.get('output', 'picture')
        _check_output(output)
        kind = request.headers.get('content-type', '')
        is_form = kind.partition(';')[0].strip().lower() == 'multipart/form-data'
        if not is_form:
            _check_type(kind, 'The body', 'or a form with one (multipart/form-data)')
        async with uploads.receive(request, _FORM_BYTES if is_form else 0) as upload:
            if is_form:
                upload[:], output = read_form(kind, bytes(upload), output)
            if len(upload) > limits.body:
                raise _too_large(limits)
            return await _unless_disconnected(request, predict_upload(upload, output), end - time.perf_counter())

    async def predict_upload(upload: bytearray, output: str) -> Response:
        def prepare() -> np.ndarray:
            image = decode_photograph(upload, 'upload', limits.pixels)
            upload.clear()
            return inferencer.prepare(image)

        read_size = partial(read_photograph_size, upload, 'upload', limits.pixels)
        encode, media_type = (_to_picture, 'image/png') if output == 'picture' else (_to_arrays, 'application/x-npz')
        try:
            size = await asyncio.get_running_loop().run_in_executor(uploads.headers, read_size)
            pixels = count_pixels(*inferencer.check_size(*size))
            content = await batcher.submit(pixels, prepare, encode, file_pixels=size[0] * size[1])
        except DataError as error:
            raise Refused(400, str(error)) from error
        except QueueFull as error:
            raise Refused(503, _FULL) from error
        return Response(content, media_type=media_type)

    return app


async def _unless_disconnected(request: Request, job: Awaitable[Response], seconds: float) -> Response:
    """Return the result of a job, which ends early if its client goes away or the time is up."""
    working = asyncio.ensure_future(job)
    # All of the body was read: the next message says that the client went away.
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({working, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        if gone.done():
            raise ClientDisconnect
        raise Refused(503, 'There was no time for the prediction. Try again later, or send a smaller image.')
    finally:
        working.cancel()
        gone.cancel()


class Uploads:
    """The bodies of requests that were not decoded yet. All of them have a limit together: the oldest make room for others."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.most = max(limits.uploads, 2 * limits.body)
        self.headers = ThreadPoolExecutor(1, thread_name_prefix='headers')
        # In the order in which they began; of those that are still coming, what ends them.
        self._bodies: dict[int, tuple[bytearray, asyncio.Future]] = {}

    @asynccontextmanager
    async def receive(self, request: Request, more: int = 0) -> AsyncIterator[bytearray]:
        """The body of a request, which counts until it is left or cleared.

        Args:
            request: The request.
            more: Bytes beyond ``limits.body`` that may come.

        Raises:
            Refused: If it is larger, does not come in time, or had to make room.
        """
        length = request.headers.get('content-length', '0')
        if length.isdecimal() and int(length) > self.limits.body + more:
            raise _too_large(self.limits)
        body, dropped = bytearray(), asyncio.get_running_loop().create_future()
        self._bodies[id(body)] = (body, dropped)

        async def read() -> None:
            async for chunk in request.stream():
                body.extend(chunk)
                if len(body) > self.limits.body + more:
                    raise _too_large(self.limits)
                self._make_room(body)

        reading = asyncio.ensure_future(read())
        try:
            await asyncio.wait({reading, dropped}, timeout=self.limits.seconds, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                if dropped.done():
                    raise Refused(503, 'Too many uploads come at a time. Try again later.')
                raise Refused(408, f'An image should come within {self.limits.seconds:g} seconds.')
            dropped.cancel()
            reading.result()
            yield body
        finally:
            reading.cancel()
            dropped.cancel()
            del self._bodies[id(body)]

    def _make_room(self, newest: bytearray) -> None:
        coming = [item for item in self._bodies.values() if not item[1].done() or item[1].cancelled()]
        total = sum(len(body) for body, _ in coming)
        for body, dropped in coming:
            if total > self.most and body is not newest and not dropped.done():
                dropped.set_result(None)
                total -= len(body)
        if total > self.most:
            raise Refused(503, _FULL)


def _too_large(limits: Limits) -> Refused:
    return Refused(413, f'An image should have at most {limits.body} bytes.')


def _check_output(output: str) -> None:
    if output not in OUTPUTS:
        raise Refused(422, f'`output` should be {" or ".join(OUTPUTS)}. Found {output[:40]!r}.')


def _check_type(kind: str, what: str, more: str = '') -> None:
    kind = kind.partition(';')[0].strip().lower()
    if not kind.startswith('image/') and kind != 'application/octet-stream':
        expected = ' '.join(['an image file, Content-Type image/jpeg or so', *([more] if more else [])])
        raise Refused(415, f'{what} should be {expected}. Found {kind[:40]!r}.')


def read_form(kind: str, body: bytes, output: str) -> tuple[bytes, str]:
    """The file of a form as ``curl -F`` and browsers send it, and ``output`` if a field says so.

    Args:
        kind: Content-Type of the request.
        body: Of the request.
        output: If no field has that name.

    Raises:
        Refused: If it is no such form, or has not one file, or fields of other names.
    """
    message = Message()
    message['Content-Type'] = kind
    boundary = b'\r\n--' + (message.get_boundary() or '').encode('latin-1', 'replace')
    parts = (b'\r\n' + body).split(boundary)
    # What is before the first boundary and after the last one, which two more dashes follow, is no part.
    if boundary == b'\r\n--' or len(parts) < 3 or not parts[-1].startswith(b'--'):
        raise Refused(400, 'The form is damaged or cut off.')
    files = []
    for part in parts[1:-1]:
        head, blank, content = part.partition(b'\r\n\r\n')
        header = HeaderParser().parsestr(head.decode('utf-8', 'replace').lstrip())
        if not blank:
            raise Refused(400, 'The form is damaged: a part has no end of its header.')
        name, file = (header.get_param(key, None, 'content-disposition') for key in ('name', 'filename'))
        if header.get('content-transfer-encoding', 'binary').strip().lower() not in ('binary', '8bit', '7bit'):
            raise Refused(415, 'The file of a form should come as it is, without Content-Transfer-Encoding.')
        if file is not None:
            _check_type(header.get('content-type', 'application/octet-stream'), 'The file of a form')
            files.append(content)
        elif name == 'output':
            output = content.decode('utf-8', 'replace').strip()
            _check_output(output)
        else:
            raise Refused(422, f'The fields of a form are a file and `output`. Found {str(name)[:40]!r}.')
    if len(files) != 1:
        raise Refused(422, f'A form should have one file. Found {len(files)}.')
    return files[0], output


class _KnownHosts:
    """Refuses requests for names that are not this server's, and those that pages of other sites make."""

    def __init__(self, app: Any, hosts: Collection[str]) -> None:
        self.app = app
        self.hosts = hosts

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope['type'] == 'http':
            headers = Headers(scope=scope)
            origin = headers.get('origin')
            callers = [headers.get('host', ''), *([origin.partition('://')[2]] if origin is not None else [])]
            for caller in callers:
                if not self.knows(caller):
                    sentence = (
                        f'This server does not answer to {caller[:80]!r}. Start it with --allow-host NAME if that is its name.'
                    )
                    await JSONResponse(dict(error=sentence), 403)(scope, receive, send)
                    return
        await self.app(scope, receive, send)

    def knows(self, host: str) -> bool:
        """Return True if a name or address with or without a port is one of the server's."""
        match = _HOST.fullmatch(host.lower())
        name = match[1] or match[2] if match else ''
        if name in self.hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return ANY_ADDRESS in self.hosts


def _reason(error: Exception) -> str:
    """Return the message of an error in one line, with its class if the message is empty or a single word."""
    line = next(iter((explain(error) or str(error)).strip().splitlines()), '')
    text = line if ' ' in line else ': '.join(filter(None, (type(error).__name__, line)))
    return text if text.endswith('.') else f'{text}.'


def _predict(inferencer: MultiTaskInferencer, images: Sequence[np.ndarray]) -> list[Prediction]:
    return list(inferencer.predict([Frame(name='upload', image=image, original_size=image.shape[:2]) for image in images]))


def _to_picture(prediction: Prediction) -> bytes:
    return encode_png(prediction.side_by_side())


def _to_arrays(prediction: Prediction) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **prediction.values)
    return buffer.getvalue()
