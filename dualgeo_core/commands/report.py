"""`dualgeo report`: the scores and curves of the last evaluation as files for git."""

import typer

from dualgeo_core.commands.options import ProfileOption


def report(profile: ProfileOption = None) -> None:
    """Writes the last evaluation of a profile to reports/PROFILE: metrics.json, scores.csv and error_cdf.csv.

    Commit the files, so that evaluations can be compared between commits. Runs do not change them.
    """
    from dualgeo_core.pipeline.report import write_report
    from dualgeo_core.pipeline.workspace import Workspace
    from dualgeo_core.settings import load_settings

    folder = write_report(Workspace(load_settings(profile)))
    for file in sorted(folder.iterdir()):
        typer.echo(str(file))
