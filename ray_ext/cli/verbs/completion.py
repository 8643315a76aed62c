"""``completion``."""

from __future__ import annotations

import click

from ray_ext.cli.output import answer
from ray_ext.cli.verb import verb

__all__ = ["command"]

#: How each shell is told, for its start-up file.
_INSTALL = {
    "bash": ("~/.bashrc", 'eval "$(ray-ext completion bash)"'),
    "zsh": ("~/.zshrc, after compinit", 'eval "$(ray-ext completion zsh)"'),
    "fish": ("~/.config/fish/config.fish", "ray-ext completion fish | source"),
}
#: click's convention: the program's name.
_VARIABLE = "_RAY_EXT_COMPLETE"


@verb(section="Help", examples=tuple(line for _, line in _INSTALL.values()))
@click.argument("shell", type=click.Choice(list(_INSTALL)))
def command(shell: str) -> None:
    """Print the script that lets a shell complete verbs, options, and the ids of installed extensions.

    Put the line of your shell into its start-up file.
    """
    from click.shell_completion import get_completion_class

    completer = get_completion_class(shell)
    assert completer is not None, "click knows bash, zsh and fish"
    group = click.get_current_context().find_root().command
    # What click's own source() adds to this for bash is a check of the version, which starts a bash.
    made = completer(group, {}, "ray-ext", _VARIABLE)
    file, line = _INSTALL[shell]
    script = made.source_template % made.source_vars()
    how = f"# Completion of ray-ext for {shell}. To have it in every shell, add this line to {file}:\n#   {line}\n"
    # zsh looks for its own mark in the first line.
    first, rest = script.split("\n", 1) if shell == "zsh" else ("", script)
    text = f"{first}\n{how}{rest}" if first else f"{how}{rest}"
    answer("completion", {"shell": shell, "script": text}, lambda: click.echo(text))
