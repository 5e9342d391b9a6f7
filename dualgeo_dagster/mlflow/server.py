"""MLflow's server with a page that opens in the mode "Model training": `mlflow server --app-name dualgeo`."""

from typing import TYPE_CHECKING

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
