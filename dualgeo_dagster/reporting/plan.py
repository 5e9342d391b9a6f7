"""The plan of a run as metadata of its first asset."""

from typing import Any

import dagster as dg

from dualgeo_core.photos.photo_set import open_photos
from dualgeo_dagster.profile import workspace


def plan_facts(photos: int) -> dict[str, Any]:
    """The plan for a gallery of this size; nothing if this machine's rates are unknown (`dualgeo plan` measures them).

    Benchmarks whose photo set is not on this machine are left out.
    """
    from dualgeo_core.base.errors import InputError
    from dualgeo_core.planning.plan import plan
    from dualgeo_core.planning.rates import known_rates
    from dualgeo_core.planning.tables import plan_markdown
    from dualgeo_core.planning.work import Size

    settings = workspace().settings
    rates = known_rates(settings)
    if rates is None:
        return {}
    queries = 0
    for source in settings.profile.photos.benchmarks.values():
        try:
            queries += len(open_photos(source, data=settings.data))
        except InputError:
            continue
    predicted = plan(settings.profile, rates, Size(photos=photos, queries=queries))
    return {"Plan of the whole graph": dg.MetadataValue.md(plan_markdown(predicted, rates))}
