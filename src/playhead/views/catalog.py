"""View files: the built-in library, and the folders that the settings name."""

from collections.abc import Iterable
from functools import cache
from importlib import resources
from pathlib import Path

from playhead.errors import ViewError
from playhead.views.header import read_header
from playhead.views.relations import known_relations
from playhead.views.view import View


@cache
def library() -> dict[str, View]:
    """The built-in views by name, in the order of their names.

    Their plans are derived when they are first asked for: deriving all takes half a second.
    """
    files = resources.files("playhead.views") / "library"
    texts = {
        entry.name.removesuffix(".sql"): entry.read_text(encoding="utf-8")
        for entry in files.iterdir()
        if entry.name.endswith(".sql")
    }
    relations = known_relations()
    return {
        name: View(name, texts[name], read_header(texts[name]), relations) for name in sorted(texts)
    }


def load_views(folders: Iterable[Path] = ()) -> dict[str, View]:
    """The library and every `*.sql` of the folders; a folder's view replaces one of its name.

    Raises:
        ViewError: a folder does not exist, or a view's text cannot be used.
    """
    views = dict(library())
    for folder in folders:
        if not folder.is_dir():
            raise ViewError(f"view folder {folder} does not exist")
        for file in sorted(folder.glob("*.sql")):
            view = View.parse(file.stem, file.read_text(encoding="utf-8"))
            _check_bound(view, file)
            views[view.name] = view
    return views


def _check_bound(view: View, file: Path) -> None:
    unknown = [name for name in view.reads if name not in view.relations]
    if unknown:
        raise ViewError(
            f"view {view.name} ({file}): no topic or dimension {unknown[0]}",
            hint=f"There are {', '.join(sorted(view.relations))}.",
        )
    if view.name in view.relations:
        raise ViewError(f"view {view.name} ({file}) has the name of a topic or dimension")
