"""`dualgeo serve`: answers, limits and refusals of the application; a made-up locator stands for the models."""

import io
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hostile_files import photo
from made_answers import PLACES, made_answer
from PIL import Image
from typer.testing import CliRunner

from dualgeo_core.answering.answers import Answer
from dualgeo_core.base.errors import InputError
from dualgeo_core.cli import app as command_line
from dualgeo_core.maps.records import no_thumbnail
from dualgeo_core.serving.app import Service, make_app
from dualgeo_core.serving.rates import RateLimit
from dualgeo_core.settings import ServingSettings

TOKEN = "a-token-of-the-tests"
HOST = "http://127.0.0.1:8000"


class MadeLocator:
    """Answers every photo with Paris, once it may."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.may_answer = threading.Event()
        self.may_answer.set()

    def locate_images(self, *, names: Sequence[str], images: Sequence[Image.Image], spread: bool) -> list[Answer]:
        self.may_answer.wait()
        self.batches.append(len(names))
        return [made_answer(*PLACES["paris"], photo=name) for name in names]


@pytest.fixture
def locator() -> MadeLocator:
    return MadeLocator()


@pytest.fixture
def client_of(locator: MadeLocator) -> Iterator[Callable[..., TestClient]]:
    """`client_of(token=..., **limits)`: a client of a running service with these limits."""
    opened: list[TestClient] = []

    def client(token: str | None = None, **limits: Any) -> TestClient:
        service = Service(
            open_locator=lambda: locator,  # type: ignore[arg-type, return-value]
            gallery_thumbnail=no_thumbnail,
            settings=ServingSettings(**limits),
            token=token,
            hosts=("127.0.0.1",),
        )
        found = TestClient(make_app(service), base_url=HOST, raise_server_exceptions=False)
        opened.append(found)
        found.__enter__()
        while found.get("/readyz").status_code != 200:
            pass
        return found

    yield client
    locator.may_answer.set()
    for found in opened:
        found.__exit__(None, None, None)


def send(client: TestClient, *photos: bytes, **options: Any) -> Any:
    files = [("photos", (f"{number}.jpg", data, "image/jpeg")) for number, data in enumerate(photos)]
    return client.post("/locate", files=files, **options)


def test_photos_are_answered_in_order_and_a_bad_one_has_a_status(client_of: Callable[..., TestClient]) -> None:
    client = client_of()
    reply = send(client, photo(), b"no photo", photo("PNG"))

    answers = reply.json()["answers"]
    assert reply.status_code == 200
    assert [(answer["photo"], answer["status"]) for answer in answers] == [
        ("0.jpg", "ok"),
        ("1.jpg", "unreadable"),
        ("2.jpg", "ok"),
    ]
    assert answers[0]["latitude"] == made_answer(*PLACES["paris"]).as_json()["latitude"]
    assert "spread" not in answers[0]
    assert send(client, b"no photo").status_code == 422


def test_the_page_gets_what_the_map_draws_and_others_geojson(client_of: Callable[..., TestClient]) -> None:
    client = client_of()
    [record] = send(client, photo(), params={"for_map": "true"}).json()["answers"]
    assert record["spread"]["points"]
    assert record["thumbnail"].startswith("data:image/jpeg;base64,")

    reply = send(client, photo(), headers={"Accept": "application/geo+json"})
    assert reply.headers["content-type"] == "application/geo+json"
    assert reply.json()["features"][0]["geometry"]["type"] == "Point"


def test_the_photos_own_position_is_never_echoed(client_of: Callable[..., TestClient]) -> None:
    """The photo has a position in its EXIF; the made-up locator answers another one."""
    text = send(client_of(), photo(), params={"for_map": "true"}).text
    from hostile_files import LATITUDE

    assert f"{LATITUDE:.3f}" not in text


def test_requests_that_arrive_together_are_one_batch(
    client_of: Callable[..., TestClient], locator: MadeLocator
) -> None:
    client = client_of(batch_wait_ms=20)
    locator.may_answer.clear()
    replies: list[Any] = []
    threads = [threading.Thread(target=lambda: replies.append(send(client, photo()))) for _ in range(6)]
    for thread in threads:
        thread.start()
    while client.get("/metrics").text.count("dualgeo_waiting_photos 6.0") == 0:
        pass
    locator.may_answer.set()
    for thread in threads:
        thread.join()

    assert [reply.status_code for reply in replies] == [200] * 6
    assert len(locator.batches) <= 2, "the first batch may begin before the others have arrived"


def test_a_full_queue_is_503_with_retry_after(client_of: Callable[..., TestClient], locator: MadeLocator) -> None:
    client = client_of(waiting_photos=1)
    locator.may_answer.clear()
    first = threading.Thread(target=lambda: send(client, photo()))
    first.start()
    while "dualgeo_waiting_photos 1.0" not in client.get("/metrics").text:
        pass
    reply = send(client, photo())
    locator.may_answer.set()
    first.join()

    assert reply.status_code == 503
    assert int(reply.headers["retry-after"]) > 0
    assert send(client, photo()).status_code == 200


@pytest.mark.parametrize(
    ("limits", "photos", "status"),
    [
        ({"photo_megabytes": 1}, [bytes(2**20 + 1)], 413),
        ({"photo_megabytes": 1, "photos_per_request": 1}, [bytes(2**22)], 413),
        ({"photos_per_request": 2}, [b"1", b"2", b"3"], 413),
        ({"upload_megabytes": 1}, [bytes(2**21)], 503),
    ],
)
def test_limits_refuse_with_their_status(
    client_of: Callable[..., TestClient], limits: dict[str, int], photos: list[bytes], status: int
) -> None:
    client = client_of(**limits)
    reply = send(client, *photos)
    assert (reply.status_code, list(reply.json())) == (status, ["error"])
    assert send(client, photo()).status_code == 200, "and the next request is answered"


def test_an_endless_body_is_cut_off_while_it_streams(client_of: Callable[..., TestClient]) -> None:
    client = client_of(photo_megabytes=1, photos_per_request=1)
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        yield b'--b\r\nContent-Disposition: form-data; name="photos"; filename="a.jpg"\r\n\r\n'
        while sent < 2**24:
            sent += 2**16
            yield bytes(2**16)

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    assert client.post("/locate", content=endless(), headers=headers).status_code == 413


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Content-Type": "application/json"}, b"{}", 415),
        ({"Content-Type": "image/jpeg"}, b"x", 415),
        ({}, b"", 415),
        ({"Content-Type": "multipart/form-data"}, b"x", 400),
        ({"Content-Type": "multipart/form-data; boundary=b"}, b"garbage", 400),
        ({"Content-Type": "multipart/form-data; boundary=b"}, b"--b--\r\n", 400),
        ({"Content-Type": "multipart/form-data; boundary=b; charset=no-such"}, b"--b--\r\n", 400),
        ({"Origin": "https://elsewhere.example"}, b"", 403),
        ({"Host": "elsewhere.example"}, b"", 421),
    ],
)
def test_wrong_requests_get_a_reason(
    client_of: Callable[..., TestClient], headers: dict[str, str], body: bytes, status: int
) -> None:
    reply = client_of().post("/locate", content=body, headers=headers)
    assert (reply.status_code, list(reply.json())) == (status, ["error"])


@pytest.mark.parametrize("path", ["/static/../app.py", "/static/%2e%2e/app.py", "/map/..%2f..%2fcli.py", "/etc/passwd"])
def test_paths_do_not_leave_their_folder(client_of: Callable[..., TestClient], path: str) -> None:
    assert client_of().get(path).status_code == 404


def test_every_response_carries_the_security_headers(client_of: Callable[..., TestClient]) -> None:
    client = client_of()
    for path in ("/", "/docs", "/healthz", "/readyz", "/metrics", "/openapi.json", "/static/page.js", "/nothing"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self'")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
    assert "/locate" in client.get("/openapi.json").json()["paths"]


def test_pages_load_nothing_from_other_hosts(client_of: Callable[..., TestClient]) -> None:
    client = client_of()
    for page in ("/", "/docs"):
        text = client.get(page).text
        sources = [part.split('"')[0] for mark in ('src="', 'href="') for part in text.split(mark)[1:]]
        assert sources
        for source in sources:
            assert source.startswith("/")
            assert client.get(source).status_code == 200


def test_the_token_is_required_where_there_is_one(client_of: Callable[..., TestClient]) -> None:
    client = client_of(token=TOKEN)
    assert send(client, photo()).status_code == 401
    assert send(client, photo(), headers={"Authorization": f"Bearer {TOKEN}x"}).status_code == 401
    assert send(client, photo(), headers={"Authorization": "Bearer é".encode("latin-1")}).status_code == 401
    assert send(client, photo(), headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_too_many_requests_get_429_until_their_bucket_fills(client_of: Callable[..., TestClient]) -> None:
    client = client_of(request_burst=2, requests_per_minute=1)
    statuses = [send(client, photo()).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]

    now = [0.0]
    limit = RateLimit(per_minute=60, burst=1, clock=lambda: now[0])
    assert limit.wait_s("a") == 0
    assert limit.wait_s("a") == pytest.approx(1)
    assert limit.wait_s("b") == 0, "another client has a bucket of its own"
    now[0] = 1.0
    assert limit.wait_s("a") == 0


def test_beyond_loopback_a_token_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DUALGEO_SERVE_TOKEN", raising=False)
    done = CliRunner().invoke(command_line, ["serve", "--host", "0.0.0.0"])
    assert isinstance(done.exception, InputError)
    assert "DUALGEO_SERVE_TOKEN" in str(done.exception)


def test_nothing_is_written(client_of: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch) -> None:
    """A photo that is larger than the size at which web frameworks begin to write temporary files."""

    def refuse(file: Any) -> None:
        raise AssertionError("a photo was written to disk")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", refuse)
    buffer = io.BytesIO()
    Image.effect_noise((1800, 1800), 90).save(buffer, "PNG")
    assert len(buffer.getvalue()) > 2 * 2**20
    assert send(client_of(), buffer.getvalue()).json()["answers"][0]["status"] == "ok"
