"""The application: one page, `POST /locate`, health, metrics, and the API's documentation, all from this host."""

import asyncio
import logging
import math
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

import fastapi_offline
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from PIL import Image
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from dualgeo_core.answering.answers import Answer, as_geojson
from dualgeo_core.answering.base_locator import BaseLocator
from dualgeo_core.maps.page import STATIC as MAP_FILES
from dualgeo_core.maps.page import swapped_coastlines
from dualgeo_core.maps.records import Thumbnail, as_data_uri, map_record
from dualgeo_core.photos.decode import UndecodableImage, decode_image
from dualgeo_core.photos.thumbnails import thumbnail_jpeg
from dualgeo_core.serving.batching import Batches
from dualgeo_core.serving.protection import (
    SecurityHeaders,
    require_known_host,
    require_own_origin,
    require_token,
)
from dualgeo_core.serving.rates import RateLimit
from dualgeo_core.serving.refusals import Refused
from dualgeo_core.serving.uploads import Upload, Uploads
from dualgeo_core.settings import ServingSettings

PAGE = resources.files("dualgeo_core.serving").joinpath("static")
SWAGGER = resources.files(fastapi_offline).joinpath("static")
GEOJSON = "application/geo+json"
LOCATE_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["photos"],
                    "properties": {"photos": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            }
        },
    }
}


class Service:
    """What the routes share: the limits, the locator once it is loaded, and the metrics."""

    def __init__(
        self,
        *,
        open_locator: Callable[[], BaseLocator],
        gallery_thumbnail: Thumbnail,
        settings: ServingSettings,
        token: str | None,
        hosts: tuple[str, ...] | None,
    ) -> None:
        self._open_locator, self._gallery_thumbnail = open_locator, gallery_thumbnail
        self._token, self._hosts = token, hosts
        self._locator: BaseLocator | None = None
        self._uploads, self._batches = Uploads(settings), Batches(self._locate, settings)
        self._rates = RateLimit(per_minute=settings.requests_per_minute, burst=settings.request_burst)
        self.registry = CollectorRegistry()
        self.requests = Counter("dualgeo_requests", "Requests by status.", ["status"], registry=self.registry)
        self.photos = Counter("dualgeo_photos", "Photos by status.", ["status"], registry=self.registry)
        self.seconds = Histogram("dualgeo_locate_seconds", "Seconds of POST /locate.", registry=self.registry)
        waiting = Gauge("dualgeo_waiting_photos", "Photos that wait for the model.", registry=self.registry)
        waiting.set_function(lambda: self._batches.waiting_photos)

    @property
    def is_ready(self) -> bool:
        return self._locator is not None

    async def run(self) -> None:
        """Loads the models, then locates what waits, until it is cancelled. Ends the process if the models fail."""
        try:
            self._locator = await asyncio.to_thread(self._open_locator)
        except Exception:  # whatever it is: without models the service has nothing to serve
            logging.getLogger("uvicorn.error").exception("the models cannot be loaded")
            signal.raise_signal(signal.SIGTERM)
            return
        await self._batches.run()

    def admit(self, request: Request) -> None:
        """Raises Refused if the request is not allowed or the model is not loaded."""
        require_known_host(request, self._hosts)
        require_own_origin(request)
        require_token(request, self._token)
        wait_s = self._rates.wait_s(request.client.host if request.client else "")
        if wait_s:
            raise Refused(429, "too many requests; slow down", retry_after_s=math.ceil(wait_s))
        if not self.is_ready:
            raise Refused(503, "the model is loading; try again", retry_after_s=2)
        self._batches.require_room(1)

    async def answers(self, request: Request) -> tuple[list[Answer | dict[str, Any]], list[Image.Image | None]]:
        """One answer, or the status of an unreadable photo, per photo; and the pixels of each readable one."""
        uploads = await self._uploads.read(request)
        decoded = await asyncio.to_thread(lambda: [_decoded(upload) for upload in uploads])
        readable = [(upload.name, image) for upload, image in zip(uploads, decoded, strict=True) if image is not None]
        found = iter(
            await self._batches.located([name for name, _ in readable], [image for _, image in readable])
            if readable
            else []
        )
        answers = [
            {"photo": upload.name, "status": "unreadable", "reason": "not a readable JPEG, PNG, HEIC or WebP photo"}
            if image is None
            else next(found)
            for upload, image in zip(uploads, decoded, strict=True)
        ]
        for answer in answers:
            self.photos.labels(answer.status if isinstance(answer, Answer) else answer["status"]).inc()
        return answers, decoded

    def record(self, answer: Answer | dict[str, Any], image: Image.Image | None) -> dict[str, Any]:
        """The answer for the page's map."""
        if isinstance(answer, dict):
            return answer
        assert image is not None, "only a readable photo has an answer"
        picture = as_data_uri(thumbnail_jpeg(image))
        return map_record(answer, candidate_thumbnail=self._gallery_thumbnail, thumbnail=picture)

    def _locate(self, names: Any, images: Any) -> list[Answer]:
        assert self._locator is not None, "requests are admitted once the locator is loaded"
        return self._locator.locate_images(names=names, images=images, spread=True)


def _decoded(upload: Upload) -> Image.Image | None:
    """The upright pixels, or None. Position and other metadata of the photo are not read."""
    try:
        return decode_image(upload.data)
    except UndecodableImage:
        return None


def make_app(service: Service) -> FastAPI:
    """The application of a service."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        running = asyncio.create_task(service.run())
        yield
        running.cancel()

    app = FastAPI(title="DualGeo", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_middleware(SecurityHeaders)
    app.mount("/static", StaticFiles(directory=str(PAGE)), name="static")
    app.mount("/map", StaticFiles(directory=str(MAP_FILES)), name="map")
    app.mount("/swagger", StaticFiles(directory=str(SWAGGER)), name="swagger")
    _add_locate(app, service)
    _add_pages(app, service)
    _add_errors(app, service)
    return app


def _add_locate(app: FastAPI, service: Service) -> None:
    @app.post("/locate", openapi_extra=LOCATE_BODY, response_model=None)
    async def locate(request: Request, for_map: bool = False) -> Response:
        """Locates photos. With the header `Accept: application/geo+json` the answer is GeoJSON."""
        started = time.perf_counter()
        service.admit(request)
        answers, images = await service.answers(request)
        service.seconds.observe(time.perf_counter() - started)
        status = 200 if any(isinstance(answer, Answer) for answer in answers) else 422
        service.requests.labels(status).inc()
        if GEOJSON in request.headers.get("accept", ""):
            placed = [answer for answer in answers if isinstance(answer, Answer)]
            return JSONResponse(as_geojson(placed), status_code=status, media_type=GEOJSON)
        if for_map:
            records = await asyncio.to_thread(lambda: list(map(service.record, answers, images)))
            return JSONResponse({"answers": records}, status_code=status)
        plain = [answer.as_json() if isinstance(answer, Answer) else answer for answer in answers]
        return JSONResponse({"answers": plain}, status_code=status)


def _add_pages(app: FastAPI, service: Service) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(str(PAGE.joinpath("index.html")))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> FileResponse:
        return FileResponse(str(PAGE.joinpath("docs.html")))

    @app.get("/coastlines.json", include_in_schema=False)
    async def coastlines() -> JSONResponse:
        return JSONResponse(swapped_coastlines())

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process is alive."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        """The model is loaded."""
        return JSONResponse({"ready": service.is_ready}, status_code=200 if service.is_ready else 503)

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(service.registry), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_errors(app: FastAPI, service: Service) -> None:
    def reply(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
        service.requests.labels(status).inc()
        return JSONResponse({"error": message}, status_code=status, headers=headers)

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
        if error.status in (400, 408, 413):
            headers["Connection"] = "close"  # the rest of the body is not read
        return reply(error.status, error.message, headers)

    @app.exception_handler(HTTPException)
    async def wrong(request: Request, error: HTTPException) -> JSONResponse:
        return reply(error.status_code, str(error.detail).lower(), error.headers)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        return reply(500, "the service failed; see its log")
