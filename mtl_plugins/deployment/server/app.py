"""The web application: one model, images in, pictures and arrays out."""

import asyncio
import base64
import io
import ipaddress
import json
import logging
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from mtl_plugins.apis.inference import MultiTaskInferencer, Prediction
from mtl_plugins.apis.inference.output import encode_png
from mtl_plugins.apis.inference.sources import Frame
from mtl_plugins.apis.inference.tiles import count_pixels
from mtl_plugins.deployment.server.batcher import Batcher, QueueFull
from mtl_plugins.errors import DataError
from mtl_plugins.labels.decoding import decode_photograph, read_photograph_size
from mtl_plugins.labels.pictures import describe_legend
from mtl_plugins.utils.cli import DEBUG_VARIABLE, explain

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
# Of a form around its file: boundaries and headers.
_FORM_BYTES = 2**16
_LOG = logging.getLogger('uvicorn.error')
_FULL = 'Too many images wait. Try again later.'
# The page shows no more pixels on a side.
_LARGEST_LAYER = 1024


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


def make_app(
    inferencer: MultiTaskInferencer,
    limits: Limits | None = None,
    hosts: Collection[str] = LOOPBACK,
    name: str = 'A model',
    sample: Callable[[], np.ndarray] | None = None,
) -> Starlette:
    """Make the application, to be served by :func:`~mtl_plugins.deployment.server.connections.make_server`.

    ``POST /predict`` takes an image file as its body or as the file of a form and gives the side-by-side picture (PNG), or with
    ``?output=arrays`` the values by label (``.npz``). ``GET /`` is a page to drop an image on, ``/sample`` an image to try it
    with, ``/health`` says that the model is there.

    Args:
        inferencer: The model; its ``batch_size`` is the largest batch, its ``max_pixels`` that of a batch.
        limits: Of requests.
        hosts: Names by which the server may be called; :data:`ANY_ADDRESS` is every address. Requests for other names, and those
            of pages of other names, are refused: pages of other sites may let their name point here.
        name: Of the model, on the page.
        sample: Gives the image of ``/sample``, uint8 RGB; None leaves it out.
    """
    service = _Service(inferencer, limits or Limits(), name, sample)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        service.batcher.close()

    async def no_such_page(request: Request, error: HTTPException) -> JSONResponse:
        place = f'{request.method} {request.url.path[:80]}'
        sentence = f'{place}: {error.detail}. There are GET /, /health and POST /predict.'
        return JSONResponse(dict(error=sentence), error.status_code, headers=error.headers)

    app = Starlette(
        routes=[
            Route('/', service.page),
            *([Route('/sample', service.sample_image)] if sample else []),
            Route('/health', service.health),
            Route('/predict', service.predict, methods=['POST']),
        ],
        middleware=[Middleware(_KnownHosts, hosts={name.lower() for name in hosts})],
        exception_handlers={HTTPException: no_such_page},
        lifespan=lifespan,
    )
    app.state.batcher, app.state.limits = service.batcher, service.limits
    return app


class _Service:
    """Answers of the application."""

    def __init__(self, inferencer: MultiTaskInferencer, limits: Limits, name: str, sample: Callable | None) -> None:
        self.inferencer, self.limits, self.name, self.sample = inferencer, limits, name, sample
        self.batcher = Batcher(self._predict_batch, inferencer.batch_size, limits.queue, inferencer.max_pixels)
        self.uploads = Uploads(limits)

    async def page(self, request: Request) -> HTMLResponse:
        facts = dict(
            name=self.name,
            labels=list(self.inferencer.labels),
            sample=self.sample is not None,
            megabytes=self.limits.body / 2**20,
            megapixels=self.limits.pixels / 1e6,
        )
        # Nothing in it can end the element: JSON within HTML.
        packed = json.dumps(facts).replace('<', '\\u003c')
        text = _PAGE.read_text(encoding='utf-8').replace('{{ facts }}', packed)
        return HTMLResponse(text, headers={'Content-Security-Policy': _POLICY, 'X-Content-Type-Options': 'nosniff'})

    async def sample_image(self, request: Request) -> Response:
        return Response(await asyncio.to_thread(lambda: encode_png(self.sample())), media_type='image/png')

    async def health(self, request: Request) -> JSONResponse:
        return JSONResponse(dict(status='ok', labels=list(self.inferencer.labels), waiting=self.batcher.waiting))

    async def predict(self, request: Request) -> Response:
        try:
            return await self._answer(request)
        except ClientDisconnect:
            # Nobody reads it.
            return Response(status_code=499)
        except HTTPException as error:
            headers = {'Retry-After': '1'} if error.status_code == 503 else {}
            return JSONResponse(dict(error=error.detail), error.status_code, headers=headers)
        except Exception as error:
            # Of this batch alone; the server goes on.
            sentence = f'The model failed: {explain(error) or repr(error)}'
            _LOG.error(sentence, exc_info=error if os.environ.get(DEBUG_VARIABLE) == '1' else None)
            return JSONResponse(dict(error=sentence), 500)

    async def _answer(self, request: Request) -> Response:
        end = time.perf_counter() + self.limits.seconds + self.limits.deadline
        unknown = [name for name in request.query_params if name != 'output']
        if unknown:
            raise HTTPException(422, f'The only parameter is `output`. Found {unknown[0][:40]!r}.')
        output = request.query_params.get('output', 'picture')
        if output not in _ENCODERS:
            raise HTTPException(422, f'`output` should be {" or ".join(_ENCODERS)}. Found {output[:40]!r}.')
        encode, media_type = _ENCODERS[output]
        kind = request.headers.get('content-type', '')
        is_form = kind.partition(';')[0].strip().lower() == 'multipart/form-data'
        if not is_form:
            _check_type(kind)
        async with self.uploads.receive(request) as upload:
            if is_form:
                upload[:] = read_form(kind, bytes(upload))
            if len(upload) > self.limits.body:
                raise self.uploads.too_large()
            content = await _unless_disconnected(request, self._predict(upload, encode), end - time.perf_counter())
            return Response(content, media_type=media_type)

    async def _predict(self, upload: bytearray, encode: Callable[[Prediction], bytes]) -> bytes:
        def prepare() -> np.ndarray:
            image = decode_photograph(upload, 'upload', self.limits.pixels)
            upload.clear()
            return self.inferencer.prepare(image)

        try:
            size = await asyncio.to_thread(read_photograph_size, upload, 'upload', self.limits.pixels)
            pixels = count_pixels(*self.inferencer.check_size(*size))
            return await self.batcher.submit(pixels, prepare, encode, file_pixels=size[0] * size[1])
        except DataError as error:
            raise HTTPException(400, str(error)) from error
        except QueueFull as error:
            raise HTTPException(503, _FULL) from error

    def _predict_batch(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        frames = [Frame(name='upload', image=image, original_size=image.shape[:2]) for image in images]
        return list(self.inferencer.predict(frames))


async def _unless_disconnected(request: Request, job: Awaitable[bytes], seconds: float) -> bytes:
    """Wait for a job, which ends early if its client goes away or the time is up."""
    working = asyncio.ensure_future(job)
    # All of the body was read: the next message says that the client went away.
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({working, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        if gone.done():
            raise ClientDisconnect
        raise HTTPException(503, 'There was no time for the prediction. Try again later, or send a smaller image.')
    finally:
        working.cancel()
        gone.cancel()


class Uploads:
    """The bodies of requests that were not decoded yet. All of them have a limit together: the oldest make room for others."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        # By what reads them, in the order in which they began.
        self._bodies: dict[asyncio.Future, bytearray] = {}

    @asynccontextmanager
    async def receive(self, request: Request) -> AsyncIterator[bytearray]:
        """Give the body of a request, which may be a form around a file; it counts until it is left or cleared."""
        reading = asyncio.ensure_future(self._read(request, body := bytearray()))
        self._bodies[reading] = body
        try:
            await asyncio.wait({reading}, timeout=self.limits.seconds)
            if not reading.done():
                raise HTTPException(408, f'An image should come within {self.limits.seconds:g} seconds.')
            if reading.cancelled():
                raise HTTPException(503, 'Too many uploads come at a time. Try again later.')
            reading.result()
            yield body
        finally:
            reading.cancel()
            del self._bodies[reading]

    async def _read(self, request: Request, body: bytearray) -> None:
        length, most = request.headers.get('content-length', '0'), self.limits.body + _FORM_BYTES
        if length.isdecimal() and int(length) > most:
            raise self.too_large()
        async for chunk in request.stream():
            body.extend(chunk)
            if len(body) > most:
                raise self.too_large()
            total, room = sum(map(len, self._bodies.values())), max(self.limits.uploads, 2 * self.limits.body)
            for reading, other in self._bodies.items():
                if total > room and other is not body and not reading.done():
                    reading.cancel()
                    total -= len(other)
                    other.clear()
            if total > room:
                raise HTTPException(503, _FULL)

    def too_large(self) -> HTTPException:
        return HTTPException(413, f'An image should have at most {self.limits.body} bytes.')


def _to_arrays(prediction: Prediction) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **prediction.values)
    return buffer.getvalue()


def _to_layers(prediction: Prediction) -> bytes:
    """Return what the page shows, as JSON: image, and of each label colours, values of the pixels and legend."""
    step = -(-max(prediction.image.shape[:2]) // _LARGEST_LAYER)
    image = prediction.image[::step, ::step]
    layers = []
    for name, full in prediction.values.items():
        kind, values = prediction.labels[name], full[::step, ::step]
        numbers = np.ascontiguousarray(values, np.uint8 if kind.is_class_map else '<f4')
        layers.append(
            dict(
                name=name,
                picture=_data_uri(kind.colour(values)),
                classes=list(kind.classes) if kind.is_class_map else None,
                unit=kind.unit or '',
                values=base64.b64encode(numbers.tobytes()).decode(),
                legend=describe_legend(kind.legend(), kind.colour_bar(), kind.note()),
            )
        )
    size = dict(width=image.shape[1], height=image.shape[0])
    return json.dumps(dict(size, image=_data_uri(image), layers=layers)).encode()


def _data_uri(picture: np.ndarray) -> str:
    return f'data:image/png;base64,{base64.b64encode(encode_png(picture)).decode()}'


# Of `output`, what makes the content of an answer, and its type.
_ENCODERS = dict(
    picture=(lambda prediction: encode_png(prediction.side_by_side()), 'image/png'),
    arrays=(_to_arrays, 'application/x-npz'),
    layers=(_to_layers, 'application/json'),
)


def _check_type(kind: str) -> None:
    kind = kind.partition(';')[0].strip().lower()
    if not kind.startswith('image/') and kind != 'application/octet-stream':
        expected = 'an image file, Content-Type image/jpeg or so, or a form with one (multipart/form-data)'
        raise HTTPException(415, f'The body should be {expected}. Found {kind[:40]!r}.')


def read_form(kind: str, body: bytes) -> bytes:
    """Return the file of a form as ``curl -F`` and browsers send it; ``kind`` is the Content-Type of the request."""
    message = Message()
    message['Content-Type'] = kind
    boundary = b'\r\n--' + (message.get_boundary() or '').encode('latin-1', 'replace')
    parts = (b'\r\n' + body).split(boundary)
    # What is before the first boundary and after the last one, which two more dashes follow, is no part.
    if boundary == b'\r\n--' or len(parts) < 3 or not parts[-1].startswith(b'--'):
        raise HTTPException(400, 'The form is damaged or cut off.')
    head, _, content = parts[1].partition(b'\r\n\r\n')
    header = HeaderParser().parsestr(head.decode('utf-8', 'replace').lstrip())
    if len(parts) > 3 or header.get_param('filename', None, 'content-disposition') is None:
        raise HTTPException(422, f'A form should have one file and no fields. Found {len(parts) - 2} parts.')
    _check_type(header.get('content-type', 'application/octet-stream'))
    return content


class _KnownHosts:
    """Refuses requests for names that are not this server's, and those that pages of other sites make."""

    def __init__(self, app: Any, hosts: Collection[str]) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope['type'] == 'http':
            headers = Headers(scope=scope)
            origin = headers.get('origin')
            callers = [headers.get('host', ''), *([] if origin is None else [origin.partition('://')[2]])]
            unknown = next((caller for caller in callers if not self.knows(caller)), None)
            if unknown is not None:
                advice = 'Start it with --allow-host NAME if that is its name.'
                sentence = f'This server does not answer to {unknown[:80]!r}. {advice}'
                await JSONResponse(dict(error=sentence), 403)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def knows(self, host: str) -> bool:
        """Return True if a name or address with or without a port is one of the server's."""
        match = _HOST.fullmatch(host.lower())
        name = match[1] or match[2] if match else ''
        try:
            return name in self.hosts or (ANY_ADDRESS in self.hosts and bool(ipaddress.ip_address(name)))
        except ValueError:
            return False
