"""The automation conditions: an asset is rebuilt once all its upstream assets are up to date."""

from collections.abc import Sequence

import dagster as dg

from dualgeo_dagster.defs.observed import REBUILD_BY_DEFAULT
from dualgeo_dagster.profile import NAME

# Only a new data version counts as a change: a dependency rebuilt with the same result triggers nothing.
STALE_AND_READY = (
    dg.AutomationCondition.any_deps_match(dg.AutomationCondition.data_version_changed())
    .since(dg.AutomationCondition.newly_requested() | dg.AutomationCondition.newly_updated())
    .with_label("a dependency's data version changed")
    & ~dg.AutomationCondition.any_deps_missing()
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.any_deps_match(dg.AutomationCondition.will_be_requested())
    & ~dg.AutomationCondition.in_progress()
)
# While an ancestor is being rebuilt, the direct dependencies are still based on older data.
BEING_REBUILT = (
    dg.AutomationCondition.will_be_requested()
    | dg.AutomationCondition.in_progress()
    | dg.AutomationCondition.data_version_changed()
)


def with_rebuild_conditions(assets: Sequence[dg.AssetsDefinition]) -> list[dg.AssetsDefinition]:
    """The same assets, each with a condition that rebuilds it once all its ancestors are up to date."""
    parents = {spec.key: {dep.asset_key for dep in spec.deps} for asset in assets for spec in asset.specs}

    def ancestors(key: dg.AssetKey) -> set[dg.AssetKey]:
        near = parents.get(key, set())
        return near.union(*map(ancestors, near))

    def with_condition(spec: dg.AssetSpec) -> dg.AssetSpec:
        condition: dg.AutomationCondition = STALE_AND_READY
        for key in sorted(ancestors(spec.key) - parents[spec.key]):
            condition &= ~dg.AutomationCondition.asset_matches(key, BEING_REBUILT)
        return spec.replace_attributes(automation_condition=condition)

    return [asset.map_asset_specs(with_condition) for asset in assets]


rebuild_what_changed = dg.AutomationConditionSensorDefinition(
    f"{NAME}_rebuild_what_changed",
    target=dg.AssetSelection.all(include_sources=True),
    default_status=REBUILD_BY_DEFAULT,
    run_tags={"profile": NAME},
    description="Rebuilds everything downstream of a changed photo set. Also turn on the sensor "
    f"{NAME}_photo_set_versions, which reports the changes.",
)
