"""What every command takes: which workspace, and whether to show tracebacks."""

import functools
import gc
import inspect
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec

import typer

from playhead.cli.signals import Interrupts
from playhead.cli.terminal import show_details, waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playhead.assemble import Workspace

Arguments = ParamSpec("Arguments")
Function = Callable[Concatenate["Invocation", Arguments], None]

DEFAULT_WORKSPACE = Path("workspace")

_WORKSPACE_HELP = "The workspace's folder."
_DEBUG_HELP = "Show details and, when something fails, the traceback."

WorkspaceOption = Annotated[
    Path,
    typer.Option(
        "--workspace", "-w", envvar="PLAYHEAD_WORKSPACE", metavar="DIR", help=_WORKSPACE_HELP
    ),
]
DebugOption = Annotated[bool, typer.Option("--debug", help=_DEBUG_HELP)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]

_OwnWorkspaceOption = Annotated[
    Path | None,
    typer.Option("--workspace", "-w", metavar="DIR", help=_WORKSPACE_HELP),
]


@dataclass
class Invocation:
    """One run of the program: what was said before or after the command's name.

    Attributes:
        workspace: the workspace's folder.
        debug: tracebacks are wanted.
        interrupts: watches for SIGINT.
    """

    workspace: Path = DEFAULT_WORKSPACE
    debug: bool = False
    interrupts: Interrupts = field(default_factory=Interrupts)

    def tell(self, *, workspace: Path | None, debug: bool) -> None:
        """Take what was said in one place; the later place wins, and silence changes nothing."""
        if workspace is not None:
            self.workspace = workspace
        if debug:
            self.debug = True
            show_details()

    @contextmanager
    def open(self) -> "Iterator[Workspace]":
        """The workspace, open for the block.

        Raises:
            WorkspaceError: the folder is none.
        """
        with waiting("opening the workspace"):
            with _uncollected():
                from playhead.assemble import Workspace

            opened = Workspace(self.workspace)
        with opened as workspace:
            yield workspace


@contextmanager
def _uncollected() -> "Iterator[None]":
    """Make objects that stay for good without looking through them for garbage, ever.

    Importing all rooms makes 140,000 of them; walking them again and again takes as long as a
    fifth of the imports.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if was_enabled:
            gc.enable()


def command(
    app: typer.Typer,
    *,
    name: str | None = None,
    panel: str | None = None,
    examples: Sequence[str] = (),
    takes_rest: bool = False,
    hidden: bool = False,
) -> Callable[[Function[Arguments]], Function[Arguments]]:
    """Make a function a command that takes --workspace and --debug after its name, too.

    Args:
        name: the command's name; the function's by default.
        panel: under which heading the help lists it.
        examples: command lines for the help and the documentation; tests run them.
        takes_rest: what the command does not know is left in `context.args`.
        hidden: programs call it, and the help does not list it.
    """

    def register(function: Function[Arguments]) -> Function[Arguments]:
        app.command(
            name,
            epilog=shown_examples(examples),
            rich_help_panel=panel,
            hidden=hidden,
            context_settings=_REST if takes_rest else None,
        )(with_invocation(function))
        return function

    return register


def with_invocation(function: Function[Arguments]) -> Callable[..., None]:
    """The function as Typer calls it: its `Invocation` comes from context, --workspace, --debug."""
    signature = inspect.signature(function)
    _, *named = signature.parameters.values()
    own = [parameter for parameter in named if parameter.annotation is not typer.Context]
    wants_context = {parameter.name for parameter in named if parameter not in own}

    @functools.wraps(function)
    def called(
        _context: typer.Context, *, workspace: Path | None, debug: bool, **arguments: Any
    ) -> None:
        invocation = _context.ensure_object(Invocation)
        invocation.tell(workspace=workspace, debug=debug)
        arguments |= dict.fromkeys(wants_context, _context)
        function(invocation, **arguments)  # type: ignore[call-arg]

    setattr(called, "__signature__", signature.replace(parameters=[_CONTEXT, *own, *_SHARED]))  # noqa: B010
    return called


def shown_examples(examples: Sequence[str]) -> str | None:
    """Example command lines as an epilog, one a paragraph."""
    return "\n\n".join(f"Example: `{example}`" for example in examples) or None


_REST = {"allow_extra_args": True, "ignore_unknown_options": True}
_CONTEXT = inspect.Parameter(
    "_context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
)
_SHARED = [
    inspect.Parameter(
        "workspace", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_OwnWorkspaceOption
    ),
    inspect.Parameter(
        "debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=DebugOption
    ),
]
