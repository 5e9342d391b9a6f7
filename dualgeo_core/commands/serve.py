"""`dualgeo serve`: the web page and API that locate photos."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dualgeo_core.base.errors import InputError
from dualgeo_core.commands.downloads import confirm_downloads
from dualgeo_core.commands.options import ProfileOption, VersionOption, chosen_locator

if TYPE_CHECKING:
    from dualgeo_core.answering.base_locator import BaseLocator
    from dualgeo_core.maps.records import Thumbnail
    from dualgeo_core.settings import AnsweringSettings

LOOPBACK = ("127.0.0.1", "localhost", "::1")  # how requests to a service on loopback name its host


def serve(
    profile: ProfileOption = None,
    version: VersionOption = None,
    locator: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Locator folder of any profile, instead of a version.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on. Others than loopback need a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
) -> None:
    """Serves a page to drop photos on, and an API: POST /locate, /docs, /healthz, /readyz, /metrics.

    No photo is kept. With another --host than loopback, set the API token in DUALGEO_SERVE_TOKEN.
    Example: dualgeo serve --profile folder
    """
    from dualgeo_core.settings import Environment, load_answering_settings

    settings, token = load_answering_settings(profile), Environment().serve_token
    loopback = _is_loopback(host)
    if token is None and not loopback:
        raise InputError(
            f"--host {host} is open to other machines, and there is no API token: "
            "set DUALGEO_SERVE_TOKEN, or listen on 127.0.0.1"
        )
    _require_free(host, port)
    if version is not None and locator is not None:
        raise InputError("--version and --locator both name what answers; leave out one of them")
    folder = chosen_locator(settings, version) if locator is None else locator
    confirm_downloads(settings)
    from dualgeo_core.answering.opening import locator_opener

    open_locator = locator_opener(settings, folder=folder)  # says what is missing before the server starts
    _run(settings, open_locator, host=host, port=port, token=token, hosts=LOOPBACK if loopback else None)


def _run(
    settings: "AnsweringSettings",
    open_locator: "Callable[[], BaseLocator]",
    *,
    host: str,
    port: int,
    token: str | None,
    hosts: tuple[str, ...] | None,
) -> None:
    try:
        import uvicorn

        from dualgeo_core.serving.app import Service, make_app
    except ImportError as error:
        raise InputError(f"{error.name} is not installed; run pip install 'dualgeo[serve]'") from None

    service = Service(
        open_locator=open_locator,
        gallery_thumbnail=_gallery_thumbnail(settings),
        settings=settings.profile.serving,
        token=token,
        hosts=hosts,
    )
    typer.echo(f"Locates photos at http://{host}:{port} (API: /docs). Ctrl-C ends it.")
    uvicorn.run(
        make_app(service),
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        http="h11",  # the faster parser limits neither the size of headers nor requires a host
        h11_max_incomplete_event_size=64 * 1024,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=5,
    )


def _gallery_thumbnail(settings: "AnsweringSettings") -> "Thumbnail":
    """The pictures of gallery photos, if the gallery's photo set is on this machine."""
    from functools import lru_cache

    from dualgeo_core.maps.records import as_data_uri, no_thumbnail
    from dualgeo_core.photos.thumbnails import gallery_photos, gallery_thumbnails

    gallery = gallery_photos(settings)
    if gallery is None:
        return no_thumbnail

    @lru_cache(maxsize=4096)
    def thumbnail(gallery_id: str) -> str | None:
        found = gallery_thumbnails(gallery, [gallery_id])
        return as_data_uri(found[gallery_id]) if found else None

    return thumbnail


def _is_loopback(host: str) -> bool:
    """Whether every address of the host is one of this machine alone. Raises InputError if it has none."""
    import ipaddress

    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise InputError(f"--host {host} has no address ({error.strerror}); use one such as 127.0.0.1") from None
    return all(ipaddress.ip_address(str(address[4][0]).split("%")[0]).is_loopback for address in found)


def _require_free(host: str, port: int) -> None:
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(
                f"port {port} of {host} cannot be used ({error.strerror}); choose another --port"
            ) from None
