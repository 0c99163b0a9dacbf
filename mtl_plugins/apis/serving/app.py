"""The web application: one model, images in, pictures and arrays out."""

import asyncio
import html
import io
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from starlette.requests import ClientDisconnect

from mtl_plugins.apis.inference import MultiTaskInferencer, Prediction
from mtl_plugins.apis.inference.output import encode_png
from mtl_plugins.apis.inference.sources import Frame
from mtl_plugins.apis.serving.batcher import Batcher, QueueFull
from mtl_plugins.errors import DataError
from mtl_plugins.labels.decoding import decode_photograph

OUTPUTS = ('picture', 'arrays')
# No script but the page's own, nothing from elsewhere.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src blob: data:; connect-src 'self'; "
    "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
_PAGE = Path(__file__).parent / 'templates' / 'serve.html'


@dataclass(frozen=True)
class Limits:
    """What a request may cost.

    Attributes:
        body: Bytes of an upload.
        pixels: Of an image, by its header.
        seconds: In which an upload must have come.
        queue: Images that may wait for the model; as many more may be on their way in.
    """

    body: int = 20 * 2**20
    pixels: int = 16_000_000
    seconds: float = 10.0
    queue: int = 16


class Refused(Exception):
    """An answer that is no prediction."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def make_app(inferencer: MultiTaskInferencer, limits: Limits | None = None) -> FastAPI:
    """The application.

    ``POST /predict`` takes an image file as its body and gives the side-by-side picture (PNG), or with ``?output=arrays`` the
    values by label (``.npz``). ``GET /`` is a page to drop an image on, ``/health`` says that the model is there, ``/metrics``
    counts in Prometheus' text format.

    Args:
        inferencer: The model; its ``batch_size`` is the largest batch.
        limits: Of a request.
    """
    limits = limits or Limits()
    batcher = Batcher(lambda images: _predict(inferencer, images), inferencer.batch_size, limits.queue)
    answers: Counter[int] = Counter()
    seconds = 0.0
    arriving = 0

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        batcher.close()

    # No pages of documents, which load scripts from elsewhere.
    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    @app.get('/')
    async def page() -> HTMLResponse:
        labels = html.escape(', '.join(inferencer.labels))
        text = _PAGE.read_text(encoding='utf-8').replace('{{ labels }}', labels)
        return HTMLResponse(text, headers={'Content-Security-Policy': _POLICY, 'X-Content-Type-Options': 'nosniff'})

    @app.get('/health')
    async def health() -> JSONResponse:
        return JSONResponse(dict(status='ok', labels=list(inferencer.labels), waiting=batcher.waiting))

    @app.get('/metrics')
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
    async def predict(request: Request, output: str = 'picture') -> Response:
        nonlocal seconds, arriving
        start = time.perf_counter()
        arriving += 1
        try:
            response = await answer(request, output)
        except ClientDisconnect:
            # Nobody reads it; it is counted.
            response = Response(status_code=499)
        except Refused as error:
            headers = {'Retry-After': '1'} if error.status == 503 else {}
            response = JSONResponse(dict(error=str(error)), error.status, headers=headers)
        except Exception as error:
            # Of this batch alone; the server goes on.
            response = JSONResponse(dict(error=f'The model failed: {type(error).__name__}.'), 500)
        finally:
            arriving -= 1
        answers[response.status_code] += 1
        seconds += time.perf_counter() - start
        return response

    async def answer(request: Request, output: str) -> Response:
        if output not in OUTPUTS:
            raise Refused(422, f'`output` should be {" or ".join(OUTPUTS)}. Found {output[:40]!r}.')
        kind = request.headers.get('content-type', '').partition(';')[0].strip().lower()
        if not kind.startswith('image/') and kind != 'application/octet-stream':
            raise Refused(415, f'The body should be an image file, Content-Type image/jpeg or so. Found {kind[:40]!r}.')
        full = 'Too many images wait. Try again later.'
        if arriving > 2 * limits.queue:
            # Read and forgotten: who still sends would not see an answer.
            await read_body(request, limits, keep=False)
            raise Refused(503, full)
        loop = asyncio.get_running_loop()

        def prepare(body: bytes) -> np.ndarray:
            return inferencer.prepare(decode_photograph(body, 'upload', limits.pixels))

        try:
            image = await loop.run_in_executor(None, prepare, await read_body(request, limits))
            prediction = await batcher.submit(image)
        except DataError as error:
            raise Refused(400, str(error)) from error
        except QueueFull as error:
            raise Refused(503, full) from error
        encode, media_type = (_to_picture, 'image/png') if output == 'picture' else (_to_arrays, 'application/x-npz')
        return Response(await loop.run_in_executor(None, encode, prediction), media_type=media_type)

    return app


async def read_body(request: Request, limits: Limits, keep: bool = True) -> bytes:
    """The body of a request, of which no more than ``limits.body`` bytes are taken.

    Raises:
        Refused: If it is larger, or does not come in time.
    """
    too_large = Refused(413, f'An image should have at most {limits.body} bytes.')
    length = request.headers.get('content-length', '0')
    if length.isdecimal() and int(length) > limits.body:
        raise too_large
    body, size = bytearray(), 0

    async def read() -> None:
        nonlocal size
        async for chunk in request.stream():
            size += len(chunk)
            if size > limits.body:
                raise too_large
            if keep:
                body.extend(chunk)

    try:
        await asyncio.wait_for(read(), limits.seconds)
    except asyncio.TimeoutError:
        raise Refused(408, f'An image should come within {limits.seconds:g} seconds.') from None
    return bytes(body)


def _predict(inferencer: MultiTaskInferencer, images: Sequence[np.ndarray]) -> list[Prediction]:
    return list(inferencer.predict([Frame('upload', image, original_size=image.shape[:2]) for image in images]))


def _to_picture(prediction: Prediction) -> bytes:
    return encode_png(prediction.side_by_side())


def _to_arrays(prediction: Prediction) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **prediction.values)
    return buffer.getvalue()
