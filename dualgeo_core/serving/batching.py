"""Micro-batches: photos of several requests are located together by one model worker."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image

from dualgeo_core.answering.answers import Answer
from dualgeo_core.serving.refusals import Refused
from dualgeo_core.settings import ServingSettings

Locate = Callable[[Sequence[str], Sequence[Image.Image]], list[Answer]]


@dataclass(frozen=True)
class _Waiting:
    names: list[str]
    images: list[Image.Image]
    answers: "asyncio.Future[list[Answer]]"


class Batches:
    """Gives photos to `locate`, which runs in one thread. At most `waiting_photos` wait."""

    def __init__(self, locate: Locate, settings: ServingSettings) -> None:
        self._locate, self._settings = locate, settings
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="model")
        self.waiting_photos = 0

    def require_room(self, photos: int) -> None:
        """Raises Refused if so many photos more cannot wait now."""
        if self.waiting_photos and self.waiting_photos + photos > self._settings.waiting_photos:
            raise Refused(503, "too many photos are waiting; try again", retry_after_s=2)

    async def located(self, names: list[str], images: list[Image.Image]) -> list[Answer]:
        """The answers of these photos. Raises Refused if too many photos wait, or the answer takes too long."""
        self.require_room(len(names))
        asked = _Waiting(names, images, asyncio.get_running_loop().create_future())
        self.waiting_photos += len(names)
        self._queue.put_nowait(asked)
        try:
            async with asyncio.timeout(self._settings.answer_s):
                return await asked.answers
        except TimeoutError:
            raise Refused(503, "the answer took too long; try again", retry_after_s=10) from None

    async def run(self) -> None:
        """Locates what waits, batch by batch, until it is cancelled."""
        while True:
            batch = await self._next_batch()
            open_requests = [asked for asked in batch if not asked.answers.done()]
            names = [name for asked in open_requests for name in asked.names]
            images = [image for asked in open_requests for image in asked.images]
            try:
                answers = await asyncio.get_running_loop().run_in_executor(self._worker, self._locate, names, images)
            except Exception as error:  # the requests fail, and the worker goes on
                for asked in open_requests:
                    if not asked.answers.done():
                        asked.answers.set_exception(error)
            else:
                for asked in open_requests:
                    own, answers = answers[: len(asked.names)], answers[len(asked.names) :]
                    if not asked.answers.done():
                        asked.answers.set_result(own)
            self.waiting_photos -= sum(len(asked.names) for asked in batch)

    async def _next_batch(self) -> list[_Waiting]:
        """What waits now or arrives within batch_wait_ms, up to batch_photos."""
        batch = [await self._queue.get()]
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.batch_wait_ms / 1000
        while sum(len(asked.names) for asked in batch) < self._settings.batch_photos:
            try:
                async with asyncio.timeout_at(deadline):
                    batch.append(await self._queue.get())
            except TimeoutError:
                break
        return batch
