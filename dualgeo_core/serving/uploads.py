"""Photos of a multipart request, counted while they stream and kept in memory only."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from python_multipart.exceptions import MultipartParseError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from dualgeo_core.photos.ids import shown_id
from dualgeo_core.serving.refusals import Refused
from dualgeo_core.settings import ServingSettings

OVERHEAD_BYTES = 64 * 1024  # of headers and boundaries


@dataclass(frozen=True)
class Upload:
    """One photo: its name as one printable line, and the bytes of its file."""

    name: str
    data: bytes


class _InMemory(MultiPartParser):
    spool_max_size = 2**40  # no file is ever written to disk; `Uploads` bounds the memory


class Uploads:
    """Reads the photos of requests. All unfinished uploads together have at most `upload_bytes`."""

    def __init__(self, settings: ServingSettings) -> None:
        self._settings = settings
        self._held = 0

    async def read(self, request: Request) -> list[Upload]:
        """The photos in the field `photos`. Raises Refused, with the reason, as soon as a limit is exceeded."""
        if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            raise Refused(415, "the body is not multipart/form-data; send photos in the field `photos`")
        counted = _Counted(self, request)
        try:
            async with asyncio.timeout(self._settings.upload_s):
                return await self._parsed(request, counted)
        except TimeoutError:
            raise Refused(
                408, f"the upload took longer than {self._settings.upload_s:g} s; send fewer photos"
            ) from None
        finally:
            self._held -= counted.bytes

    async def _parsed(self, request: Request, counted: "_Counted") -> list[Upload]:
        most = self._settings.photos_per_request
        parser = _InMemory(request.headers, counted.stream(), max_files=most, max_fields=4, max_part_size=1024)
        try:
            form = await parser.parse()
        except (MultiPartException, MultipartParseError, KeyError, UnicodeDecodeError, LookupError) as error:
            if "Too many files" in str(error):
                raise Refused(413, f"more than {most} photos in one request; send them in several requests") from None
            raise Refused(400, "the multipart body is malformed; send photos in the field `photos`") from None
        except ClientDisconnect:
            raise Refused(400, "the upload was cut off") from None
        try:
            files = [part for part in form.getlist("photos") if isinstance(part, UploadFile)]
            if not files:
                raise Refused(400, "there is no photo in the field `photos`")
            return [await self._upload(file) for file in files]
        finally:
            await form.close()

    async def _upload(self, file: UploadFile) -> Upload:
        data = await file.read()
        if len(data) > self._settings.photo_bytes:
            raise Refused(413, f"a photo has more than {self._settings.photo_megabytes} MiB; send a smaller one")
        return Upload(name=shown_id((file.filename or "photo").replace("\\", "/").split("/")[-1][:200]), data=data)

    def hold(self, count: int) -> None:
        """Counts bytes of an unfinished upload. Raises Refused if all uploads together are too large."""
        self._held += count
        if self._held > self._settings.upload_bytes:
            raise Refused(503, "too many uploads at the same time; try again", retry_after_s=2)


class _Counted:
    """The body of a request, counted before any of it is kept."""

    def __init__(self, uploads: Uploads, request: Request) -> None:
        self._uploads, self._request = uploads, request
        self.bytes = 0

    async def stream(self) -> AsyncGenerator[bytes, None]:
        settings = self._uploads._settings
        most = settings.photo_bytes * settings.photos_per_request + OVERHEAD_BYTES
        declared = self._request.headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > most:
            raise Refused(413, f"the request has more than {most} bytes; send fewer or smaller photos")
        async for chunk in self._request.stream():
            self.bytes += len(chunk)
            self._uploads.hold(len(chunk))
            if self.bytes > most:
                raise Refused(413, f"the request has more than {most} bytes; send fewer or smaller photos")
            yield chunk
