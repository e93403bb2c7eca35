"""TorchModule → text."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from seqdsl.backends.torch.module import TorchModule


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("seqdsl.backends.torch", "templates"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        autoescape=False,
    )
    return environment.get_template("module.py.j2")


def render(module: TorchModule) -> str:
    """The text of the file."""
    return _template().render(module=module)
