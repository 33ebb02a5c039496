"""Groups of commands that import a command's module only when the command is run."""

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


class LazyCommand(TyperCommand):
    """Stands for a command in the help of its group, until `load` imports it."""

    def __init__(self, name: str, target: str, summary: str) -> None:
        """`target` is `module:function`, the module named from `gateway.cli`; `summary` is the first paragraph of
        the function's docstring."""
        super().__init__(name, help=summary)
        self._target = target

    def load(self) -> Any:
        """Import the module and return the command that its function defines."""
        module, _, function = self._target.partition(":")
        app = typer.Typer(add_completion=False)
        app.command(self.name)(getattr(import_module(f".{module}", __package__), function))
        return typer.main.get_command(app)


def lazy_group(*commands: LazyCommand) -> type[TyperGroup]:
    """Return a class of groups that have these commands, and after them those that are added to the group."""

    class LazyGroup(TyperGroup):
        def __init__(self, **attributes: Any) -> None:
            super().__init__(**attributes)
            self.commands = {str(command.name): command for command in commands} | dict(self.commands)

        def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
            name, command, rest = super().resolve_command(ctx, args)
            return name, command.load() if isinstance(command, LazyCommand) else command, rest

    return LazyGroup
