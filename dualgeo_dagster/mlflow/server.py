"""MLflow's server with a page that opens in the mode "Model training": `python -m dualgeo_dagster.mlflow.server`.

It is one process, which a signal ends once. `mlflow server` starts a second one and passes signals on to it: Ctrl-C,
which reaches both, then interrupts the second one while it shuts down.
"""

import argparse
import os
from typing import TYPE_CHECKING

from dualgeo_dagster.settings import keep_libraries_quiet

if TYPE_CHECKING:
    from fastapi import FastAPI

# What MLflow's page remembers in the browser. Its own defaults are the mode "GenAI" and an open assistant.
DEFAULTS = """<script>
for (const [key, value] of [
  ["mlflow.workflowType_v1", '"machine_learning"'],
  ["mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true"],
]) if (localStorage.getItem(key) === null) localStorage.setItem(key, value);
</script>"""


def create_app() -> "FastAPI":
    """MLflow's application. Its page sets the defaults above for a browser that has no choice of its own yet."""
    from pathlib import Path

    from mlflow.server import app as pages
    from mlflow.server.fastapi_app import create_fastapi_app
    from starlette.requests import Request
    from starlette.responses import HTMLResponse
    from starlette.routing import Route

    assert pages.static_folder is not None, "MLflow is installed with its web page"
    index = Path(pages.static_folder, "index.html").read_text(encoding="utf-8")
    page = index.replace("<head>", f"<head>{DEFAULTS}", 1)

    async def show(request: Request) -> HTMLResponse:
        return HTMLResponse(page, headers={"Cache-Control": "no-cache"})

    app: FastAPI = create_fastapi_app()
    app.router.routes.insert(0, Route("/", show))  # before MLflow's own routes, which take every other path
    return app


def main() -> None:
    """Serves the pages of one store until SIGINT or SIGTERM."""
    import uvicorn
    from mlflow.server.constants import ARTIFACT_ROOT_ENV_VAR, BACKEND_STORE_URI_ENV_VAR, REGISTRY_STORE_URI_ENV_VAR
    from mlflow.server.handlers import initialize_backend_stores

    options = argparse.ArgumentParser(description=main.__doc__)
    for name in ("--host", "--port", "--store", "--artifacts"):
        options.add_argument(name, required=True)
    asked = options.parse_args()
    keep_libraries_quiet()
    # MLflow's application reads its stores from these variables.
    os.environ[BACKEND_STORE_URI_ENV_VAR] = os.environ[REGISTRY_STORE_URI_ENV_VAR] = asked.store
    os.environ[ARTIFACT_ROOT_ENV_VAR] = asked.artifacts
    initialize_backend_stores(asked.store, asked.store, asked.artifacts)
    uvicorn.run(create_app(), host=asked.host, port=int(asked.port), log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
