"""Settings of `dualgeo serve`: what one client may send, and how much work is accepted at a time."""

from pydantic import Field

from dualgeo_core.settings.base import Positive, Section

MEBIBYTE = 2**20


class ServingSettings(Section):
    photo_megabytes: Positive = Field(30, description="Largest photo in MiB.")
    photos_per_request: Positive = Field(16, description="Most photos in one request.")
    upload_megabytes: Positive = Field(256, description="Most MiB of all unfinished uploads together.")
    requests_per_minute: float = Field(120.0, gt=0, description="Sustained requests per client and minute.")
    request_burst: Positive = Field(60, description="Requests that a client may send at once.")
    upload_s: float = Field(30.0, gt=0, description="Time limit for the upload of one request in seconds.")
    answer_s: float = Field(60.0, gt=0, description="Time limit for waiting and locating in seconds.")
    batch_photos: Positive = Field(16, description="Most photos that the model locates together.")
    batch_wait_ms: float = Field(20.0, ge=0, description="Time that the first photo of a batch waits for others.")
    waiting_photos: Positive = Field(64, description="Most photos that wait for the model; further ones get 503.")

    @property
    def photo_bytes(self) -> int:
        return self.photo_megabytes * MEBIBYTE

    @property
    def upload_bytes(self) -> int:
        return self.upload_megabytes * MEBIBYTE
