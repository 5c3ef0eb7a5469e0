"""The reference of every key, written from the models: docs/configuration.md."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from typing import Literal, get_args, get_origin

from mm_dagster.config.grid import GridConfig
from mm_dagster.config.load import FILES
from mm_dagster.config.markets import CcxtVenue, RecordedVenue, SimulatedVenue
from mm_dagster.config.model import Model


def reference() -> str:
    """Every key of every file with its default and meaning, as Markdown: docs/configuration.md."""
    lines = [
        "# Configuration",
        "",
        "Written by `make docs` from the models in `mm_dagster/config/`. A folder of these files is chosen by",
        "`MM_CONFIG_DIR`, else it is `config` of the home that `mm init` made, else that of the demo; all but",
        "`markets.yaml` may be left out. Unknown keys are refused.",
        "Dots are nesting: `confirm.warning` is `confirm: {warning: ...}`.",
        "",
        "The folder is read at every run. Hidden files, and what is no regular file, are none of ours; a link to a",
        "file is read. Whatever is wrong with a file is said in one line, and the last valid configuration stays in",
        "force. An empty file is refused, and a file that vanished keeps what it said: `{}` in it is the wish for",
        "the defaults. An enabled grid whose file (or market) vanished stays watched as it was until a file with its",
        "`id` is back, that file says `enabled: false`, or `mm respond ID stopped` answers. A file is YAML 1.2 in its",
        "plain words (22:00 is a time, `on` a word), UTF-8, up to 128 KiB.",
    ]
    venues: dict[str, type[Model]] = {
        f"A venue of markets.yaml, kind {kind}": model
        for kind, model in (("ccxt", CcxtVenue), ("recorded", RecordedVenue), ("simulated", SimulatedVenue))
    }
    files: dict[str, type[Model]] = {f"{name}.yaml": model for name, model in FILES.items()}
    sections: dict[str, type[Model]] = {**files, "grids/*.yaml": GridConfig, **venues}
    for title, model in sections.items():
        lines += ["", f"## {title}", "", _text(model), "", "| key | default | meaning |", "| --- | --- | --- |"]
        lines += [f"| `{key}` | {default} | {meaning} |" for key, default, meaning in _keys(model, "")]
    return "\n".join(lines) + "\n"


def _keys(model: type[Model], prefix: str, defaults: Model | None = None) -> Iterator[tuple[str, str, str]]:
    """Key, default and meaning of every key below a model; a nested model's own words stand at its first key."""
    docstrings = _docstrings(model)
    for name, field in model.model_fields.items():
        said = field.description or docstrings.get(name, "")
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, Model):
            nested = getattr(defaults, name) if defaults is not None else field.default
            for place, (key, default, meaning) in enumerate(_keys(annotation, f"{prefix}{name}.", nested)):
                first = f"{said} {meaning} {_text(annotation)}".strip()
                yield key, default, meaning if place else first
            continue
        value = getattr(defaults, name) if defaults is not None else field.default
        default = f"`{json.dumps(value)}`" if defaults is not None or not field.is_required() else "required"
        choices = [str(choice) for choice in get_args(annotation)] if get_origin(annotation) is Literal else []
        meaning = said + (f" One of {', '.join(choices)}." if choices else "")
        yield f"{prefix}{name}", default, meaning.strip()


def _docstrings(model: type[Model]) -> dict[str, str]:
    """What stands below each key of a model and of those that it is made from, by the key."""
    found = {}
    for one in reversed([one for one in model.__mro__ if issubclass(one, Model)]):
        [written] = ast.parse(textwrap.dedent(inspect.getsource(one))).body
        assert isinstance(written, ast.ClassDef)
        for key, below in pairwise(written.body):
            match key, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = " ".join(text.split())
    return found


def _text(model: type[Model]) -> str:
    return " ".join((model.__doc__ or "").split())
