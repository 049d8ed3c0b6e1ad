"""The running platform: a supervisor, its parts, and what the rest of the world sees of them."""

from playhead.platform.control import PartStatus, PlatformStatus, bring_down, platform_status
from playhead.platform.parts import Part, Role, standard_parts
from playhead.platform.supervisor import Supervisor

__all__ = [
    "Part",
    "PartStatus",
    "PlatformStatus",
    "Role",
    "Supervisor",
    "bring_down",
    "platform_status",
    "standard_parts",
]
