"""Names under which states are kept."""

from playhead.views.leaf import Leaf
from playhead.views.view import View


def state_name(view: View, leaf: Leaf) -> str:
    """The name of one of a view's states: another text of the view gives another name."""
    return f"{view.name}_{view.hash}_{leaf.name.removeprefix('state_')}"
