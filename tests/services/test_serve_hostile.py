"""The service under hostile files, 10,000 requests, slow clients and endless bodies: it answers, and stays well."""

import asyncio
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest
from conftest import Home
from hostile_files import ANY, PLACED, make_corpus, photo
from service_processes import Service, free_port

SLOW_CLIENTS = 200
REQUESTS = 10_000
GROWTH_BYTES = 150 * 2**20
NO_LIMIT_OF_RATE = "\nserving: {requests_per_minute: 1.0e+6, request_burst: 1000000, upload_s: 3.0}\n"
HEAD = b"POST /locate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\n"


class Served:
    """A service on the graph's home whose profile does not limit the rate."""

    def __init__(self, home: Home, folder: Path) -> None:
        profile = folder / "tiny.yaml"
        profile.write_text((home.path / "profiles" / "tiny.yaml").read_text() + NO_LIMIT_OF_RATE)
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.service = Service(
            *(sys.executable, "-m", "dualgeo_core.cli", "serve", "--profile", str(profile), f"--port={self.port}"),
            log=folder / "serve.log",
            environment={**home.environment, "TMPDIR": str(self.temporary)},
            cwd=folder,
        )
        self.service.wait_until_up(f"{self.address}/readyz")

    @property
    def memory(self) -> int:
        return int(psutil.Process(self.service.process.pid).memory_info().rss)

    def locate(self, *photos: bytes) -> httpx.Response:
        files = [("photos", ("photo.jpg", data, "image/jpeg")) for data in photos]
        return httpx.post(f"{self.address}/locate", files=files, timeout=120)

    def require_well(self) -> None:
        """The process is the same, answers a photo, and has written nothing."""
        assert self.service.process.poll() is None, self.service.log.read_text()[-2000:]
        assert self.locate(photo()).json()["answers"][0]["status"] != "unreadable"
        assert list(self.temporary.iterdir()) == []


def received(connection: socket.socket) -> bytes:
    """The start of the reply. A client that does not stop sending may lose it, because the connection is reset."""
    try:
        return connection.recv(4096)
    except ConnectionResetError:
        return b"- reset"


@pytest.fixture(scope="module")
def served(graph_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(graph_home, tmp_path_factory.mktemp("hostile"))
    yield served
    served.service.stop()


def test_every_hostile_file_is_answered_or_refused(served: Served, tmp_path: Path) -> None:
    expected = make_corpus(tmp_path / "raw", seed=0)
    for name, outcome in expected.items():
        path = tmp_path / "raw" / name
        if not path.is_file() or path.stat().st_size > 2**24:
            continue
        reply = served.locate(path.read_bytes())
        readable = outcome == PLACED or outcome.startswith(("no coordinates", "malformed GPS", "unreadable EXIF"))
        if outcome != ANY:
            assert (reply.status_code == 200) == readable, (name, outcome, reply.text)
        assert reply.status_code in (200, 422)
    served.require_well()


def test_ten_thousand_requests_leave_memory_flat(served: Served) -> None:
    served.require_well()
    before = served.memory

    async def ask(client: httpx.AsyncClient, number: int) -> int:
        kind = number % 5
        if kind == 0:
            return (await client.get("/healthz")).status_code
        if kind == 1:
            return (await client.get("/static/../../etc/passwd")).status_code
        if kind == 2:
            return (await client.post("/locate", json={"photo": "x"})).status_code
        if kind == 3:
            return (await client.post("/locate", files={"photos": b"no photo" * 4096})).status_code
        return (await client.get("/", headers={"X-Long": "x" * 4000})).status_code

    async def ask_all() -> set[int]:
        found: set[int] = set()
        async with httpx.AsyncClient(base_url=served.address, timeout=120) as client:
            for start in range(0, REQUESTS, 50):
                found |= set(await asyncio.gather(*(ask(client, start + number) for number in range(50))))
        return found

    found = asyncio.run(ask_all())
    grown = served.memory - before
    assert (found, grown < GROWTH_BYTES) == ({200, 404, 415, 422}, True), f"{grown / 2**20:.0f} MiB"
    served.require_well()


def test_slow_clients_are_cut_off_and_others_answered(served: Served) -> None:
    before = served.memory
    slow = []
    for _ in range(SLOW_CLIENTS):
        connection = socket.create_connection(("127.0.0.1", served.port), timeout=60)
        connection.sendall(HEAD + b"Content-Length: 1000000\r\n\r\n--b\r\n")
        slow.append(connection)
    served.require_well()
    for connection in slow:
        assert b" 408 " in connection.recv(4096)
        connection.close()
    assert served.memory - before < GROWTH_BYTES
    served.require_well()


@pytest.mark.parametrize("length", [b"Content-Length: 99999999999999\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_an_endless_body_is_cut_off(served: Served, length: bytes) -> None:
    before = served.memory
    start = b'--b\r\nContent-Disposition: form-data; name="photos"; filename="a.jpg"\r\n\r\n'
    chunk = bytes(2**20)
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as connection:

        def pour() -> None:
            try:
                connection.sendall(HEAD + length + b"\r\n")
                chunked = b"chunked" in length
                for part in (start, *(chunk for _ in range(1024))):
                    connection.sendall(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
            except OSError:
                pass  # the service has closed the connection, as it should

        pouring = threading.Thread(target=pour)
        pouring.start()
        status = received(connection).split()[1]
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        pouring.join()
    assert status in (b"413", b"503", b"reset")
    assert served.memory - before < 3 * GROWTH_BYTES, "at most the limit of all uploads together"
    served.require_well()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00\x01\x02\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /static/%2e%2e%2f%2e%2e%2fcli.py HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
        b"TRACE / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    ],
)
def test_odd_requests_get_an_error(served: Served, request_bytes: bytes) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as connection:
        try:
            connection.sendall(request_bytes)
            reply = connection.recv(4096)
        except ConnectionError:
            reply = b""
    assert reply == b"" or reply.split()[1][:1] == b"4", reply
    served.require_well()
