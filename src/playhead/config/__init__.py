"""Settings: `playhead.toml` in the workspace, then `PLAYHEAD_<SECTION>_<KEY>`, read once."""

from playhead.config.address import Address
from playhead.config.reading import FILE, MARK, read_settings
from playhead.config.sections import (
    SECTIONS,
    ApiSettings,
    BatchSettings,
    DashboardSettings,
    EngineSettings,
    GateSettings,
    GatewaySettings,
    LakeSettings,
    LogSettings,
    Settings,
    SparkSettings,
    SpeedSettings,
    ViewSettings,
)
from playhead.config.template import TEMPLATE

__all__ = [
    "FILE",
    "MARK",
    "SECTIONS",
    "TEMPLATE",
    "Address",
    "ApiSettings",
    "BatchSettings",
    "DashboardSettings",
    "EngineSettings",
    "GateSettings",
    "GatewaySettings",
    "LakeSettings",
    "LogSettings",
    "Settings",
    "SparkSettings",
    "SpeedSettings",
    "ViewSettings",
    "read_settings",
]
