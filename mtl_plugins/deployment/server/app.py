"""The web application: one model, images in, pictures and arrays out."""

import asyncio
import base64
import io
import json
import logging
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from mtl_plugins.apis.inference import MultiTaskInferencer, Prediction
from mtl_plugins.apis.inference.output import encode_png
from mtl_plugins.apis.inference.sources import Frame
from mtl_plugins.deployment.server.batcher import Batcher, QueueFull
from mtl_plugins.errors import DataError
from mtl_plugins.labels.decoding import decode_photograph
from mtl_plugins.labels.pictures import describe_legend
from mtl_plugins.utils.cli import DEBUG_VARIABLE, explain

LOOPBACK = ('localhost', '127.0.0.1', '::1')
# Of uvicorn: connections that may be open, and seconds between the signal to end and the end.
OPTIONS = dict(limit_concurrency=64, timeout_graceful_shutdown=5, http='h11', ws='none')
# No script but the page's own, nothing from elsewhere.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src blob: data:; connect-src 'self'; "
    "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
_PAGE = Path(__file__).parent / 'templates' / 'serve.html'
# Of a form around its file: boundaries and headers.
_FORM_BYTES = 2**16
_LOG = logging.getLogger('uvicorn.error')
# The page shows no more pixels on a side.
_LARGEST_LAYER = 1024


@dataclass(frozen=True)
class Limits:
    """Limits of requests. The inferencer's ``max_pixels`` limits the size of a batch.

    Attributes:
        body: Bytes of an upload.
        pixels: Of an image, by its header.
        seconds: In which an upload must have come.
        queue: Images that may wait for the model.
        deadline: Seconds after which a request is refused that has no prediction yet.
    """

    body: int = 20 * 2**20
    pixels: int = 16_000_000
    seconds: float = 10.0
    queue: int = 16
    deadline: float = 30.0


def make_app(
    inferencer: MultiTaskInferencer,
    limits: Limits | None = None,
    hosts: Collection[str] = LOOPBACK,
    name: str = 'A model',
    sample: Callable[[], np.ndarray] | None = None,
) -> Starlette:
    """Make the application, to be served by uvicorn.

    ``POST /predict`` takes an image file as its body or as the file of a form and gives the side-by-side picture (PNG), or with
    ``?output=arrays`` the values by label (``.npz``). ``GET /`` is a page to drop an image on, ``/sample`` an image to try it
    with, ``/health`` says that the model is there.

    Args:
        inferencer: The model; its ``batch_size`` is the largest batch, its ``max_pixels`` that of a batch.
        limits: Of requests.
        hosts: Names by which the server may be called; ``'*'`` is any. Requests for other names are refused: pages of other sites
            may let their name point here.
        name: Of the model, on the page.
        sample: Gives the image of ``/sample``, uint8 RGB; None leaves it out.
    """
    service = _Service(inferencer, limits or Limits(), name, sample)

    async def no_such_page(request: Request, error: HTTPException) -> JSONResponse:
        place = f'{request.method} {request.url.path[:80]}'
        sentence = f'{place}: {error.detail}. There are GET /, /health and POST /predict.'
        return JSONResponse(dict(error=sentence), error.status_code, headers=error.headers)

    return Starlette(
        routes=[
            Route('/', service.page),
            *([Route('/sample', service.sample_image)] if sample else []),
            Route('/health', service.health),
            Route('/predict', service.predict, methods=['POST']),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)],
        exception_handlers={HTTPException: no_such_page},
    )


class _Service:
    """Answers of the application."""

    def __init__(self, inferencer: MultiTaskInferencer, limits: Limits, name: str, sample: Callable | None) -> None:
        self.inferencer, self.limits, self.name, self.sample = inferencer, limits, name, sample
        self.batcher = Batcher(self._predict_batch, inferencer.batch_size, limits.queue, inferencer.max_pixels)

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
        unknown = [name for name in request.query_params if name != 'output']
        if unknown:
            raise HTTPException(422, f'The only parameter is `output`. Found {unknown[0][:40]!r}.')
        output = request.query_params.get('output', 'picture')
        if output not in _ENCODERS:
            raise HTTPException(422, f'`output` should be {" or ".join(_ENCODERS)}. Found {output[:40]!r}.')
        encode, media_type = _ENCODERS[output]
        kind = request.headers.get('content-type', '')
        is_form = kind.partition(';')[0].strip().lower() == 'multipart/form-data'
        try:
            upload = await asyncio.wait_for(self._read(request), self.limits.seconds)
        except asyncio.TimeoutError:
            raise HTTPException(408, f'An image should come within {self.limits.seconds:g} seconds.') from None
        if is_form:
            upload = read_form(kind, upload)
        if len(upload) > self.limits.body:
            raise self._too_large()
        try:
            content = await asyncio.wait_for(self._predict(upload, encode), self.limits.deadline)
        except asyncio.TimeoutError:
            raise HTTPException(503, 'There was no time for the prediction. Try again later, or send a smaller image.') from None
        return Response(content, media_type=media_type)

    async def _read(self, request: Request) -> bytes:
        """Return the body of a request, which may be a form around a file."""
        body = bytearray()
        async for chunk in request.stream():
            body.extend(chunk)
            if len(body) > self.limits.body + _FORM_BYTES:
                raise self._too_large()
        return bytes(body)

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f'An image should have at most {self.limits.body} bytes.')

    async def _predict(self, upload: bytes, encode: Callable[[Prediction], bytes]) -> bytes:
        def prepare() -> np.ndarray:
            image = decode_photograph(upload, 'upload', self.limits.pixels, self.inferencer.check_size)
            return self.inferencer.prepare(image)

        try:
            if self.batcher.waiting >= self.limits.queue:
                raise QueueFull
            prediction = await self.batcher.submit(await asyncio.to_thread(prepare))
            return await asyncio.to_thread(encode, prediction)
        except DataError as error:
            raise HTTPException(400, str(error)) from error
        except QueueFull as error:
            raise HTTPException(503, 'Too many images wait. Try again later.') from error

    def _predict_batch(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        frames = [Frame(name='upload', image=image, original_size=image.shape[:2]) for image in images]
        return list(self.inferencer.predict(frames))


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
    return content
