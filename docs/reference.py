"""The reference pages of the site, made from what the program itself goes by.

Types come from the catalogue and the structs that validate operations, HTTP and metrics from a
replica that runs in this process meanwhile, commands and settings from their parsers, problems
from the classes that are raised.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import httpx2

from crdtdb import Database
from crdtdb.errors import PROBLEMS
from crdtdb.operations import operation_schema, operation_structs
from crdtdb.types import CATALOGUE
from crdtdb_server.config import Settings
from crdtdb_server.serve import live
from crdtdb_server.shell import application

__all__ = ["reference_pages", "what_wins"]

_README: Final = Path(__file__).parents[1] / "README.md"
_ROW: Final = re.compile(r"^\| `.*\|$", re.MULTILINE)
#: An item of a list, which may go on over several lines.
_SETTING: Final = re.compile(
    r"^\* `--(?P<flag>[a-z-]+)(?: [^`]*)?`: (?P<text>.*(?:\n(?!\*|\s*$).*)*)", re.MULTILINE
)
_DEFAULT: Final = re.compile(r" \*\[default: (?P<value>.*?)\]\*")
#: What the columns say already.
_VARIABLE: Final = re.compile(r" \*\[env: \w+\]\*")
#: What is no setting but says where they are.
_NO_SETTINGS: Final = frozenset({"config"})


async def reference_pages() -> dict[str, str]:
    """The pages by name."""
    settings = Settings(data_dir=Path("unused"), listen="127.0.0.1:0", allow_fault_injection=True)
    with Database.in_memory(replica="eu-1") as database:
        async with live(database, settings) as replica:
            async with httpx2.AsyncClient() as http:
                described = (await http.get(f"{replica.url}/openapi.json")).json()
            families = list(replica.service.metrics.registry.collect())
    commands = application().generate_docs(output_format="markdown")
    return {
        "types": _page("Types", _types()),
        "http": _page("HTTP", _http(described)),
        "commands": _page("Command line", _commands(commands)),
        "configuration": _page("Configuration", _configuration(commands)),
        "metrics": _page("Metrics", _metrics(families)),
        "problems": _page("Problems", _problems()),
        "limits": _page("Limits", [_section("Limits")]),
    }


def what_wins() -> str:
    """The README's table of what wins."""
    return _section("What wins").split("\n\n")[0]


def _section(heading: str) -> str:
    """What the README says under a heading."""
    return _README.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0].strip()


def _page(title: str, lines: Iterable[str]) -> str:
    return "\n".join([f"# {title}", "", *lines, ""])


def _cell(text: object) -> str:
    """What may stand in a cell of a table."""
    return " ".join(str(text).split()).replace("|", "\\|")


# -- types ----------------------------------------------------------------------------------------


def _rules() -> dict[str, str]:
    """What the README's table says of each type."""
    rules = {}
    for row in _ROW.findall(what_wins()):
        names, concurrent, lost = (cell.strip() for cell in row.strip("|").split("|"))
        for name in re.findall(r"`(\w+)`", names):
            rules[name] = f"Concurrent operations: {concurrent}.\n\nLost can be: {lost}."
    return rules


def _types() -> Iterator[str]:
    rules = _rules()
    yield "The type is part of an object's address: `/v1/buckets/{bucket}/{type}/{key}`."
    for name, kind in CATALOGUE.items():
        yield f"\n## `{name}`\n\n{kind.summary}\n\n{rules[name]}\n"
        yield "| operation | what it does | fields |\n| --- | --- | --- |"
        for operation, struct in operation_structs(name).items():
            schema = operation_schema(struct)
            required = schema.get("required", ())
            fields = [
                f"`{field}`{'' if field in required else '?'}: {_kind(shape)}"
                for field, shape in schema["properties"].items()
                if field != "op"
            ]
            does, takes = _cell(schema["description"]), _cell("; ".join(fields) or "—")
            yield f"| `{operation}` | {does} | {takes} |"


def _kind(schema: Any) -> str:
    """A JSON Schema in a few words."""
    if not schema:
        return "any JSON"
    if "anyOf" in schema:
        kinds = [_kind(one) for one in schema["anyOf"]]
        return " or ".join(dict.fromkeys(kind for kind in kinds if kind != "null"))
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        return " or ".join(f"`{one}`" for one in schema["enum"])
    words = str(schema.get("type", "any JSON"))
    if words == "array":
        words = f"list of {_kind(schema.get('items'))}"
    signs = (("minimum", "≥"), ("maximum", "≤"))
    bounds = [f"{sign} {schema[key]}" for key, sign in signs if key in schema]
    if "default" in schema and schema["default"] is not None:
        bounds.append(f"default {schema['default']}")
    return f"{words} ({', '.join(bounds)})" if bounds else words


# -- HTTP -----------------------------------------------------------------------------------------


def _http(document: Any) -> Iterator[str]:
    yield (
        "The same as `/openapi.json` of every replica, which programs should read, in short. "
        "Problems are on a [page of their own](problems.md)."
    )
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"\n## `{method.upper()} {path}`\n"
            yield f"{operation['summary']}. {operation['description']}\n"
            yield from _parameters(operation["parameters"])
            takes = operation.get("requestBody", {}).get("content", {})
            if takes:
                yield f"Body: {', '.join(f'`{media_type}`' for media_type in takes)}.\n"
            for status, response in operation["responses"].items():
                yield f"- {status}: {_cell(response['description'])}"


def _parameters(parameters: Any) -> Iterator[str]:
    if not parameters:
        return
    yield "| parameter | in | meaning |\n| --- | --- | --- |"
    for one in parameters:
        yield f"| `{one['name']}` | {one['in']} | {_cell(one.get('description', ''))} |"
    yield ""


# -- commands and settings ------------------------------------------------------------------------


def _commands(generated: str) -> Iterator[str]:
    """As the parser describes itself; the table of contents is the theme's."""
    yield "Exit codes: 0 done, 1 failed, 2 wrong usage. With `--json`, for programs.\n"
    yield generated[generated.index("**Commands**:") :]


def _configuration(generated: str) -> Iterator[str]:
    serve = generated.split("\n## crdtdb serve\n")[1].split("\n## ")[0]
    yield (
        "Settings of `crdtdb serve`. A flag wins over the environment, the environment over the "
        "file that `--config` names, the file over the default. Unknown names are errors. What may "
        "be repeated is a list in the file, and words or a JSON list in the environment.\n"
    )
    yield "| key in the file | environment | flag | default | meaning |"
    yield "| --- | --- | --- | --- | --- |"
    for found in _SETTING.finditer(serve):
        flag, text = (
            found["flag"],
            " ".join(found["text"].split()).replace(" **[required]**", " Required."),
        )
        if flag in _NO_SETTINGS:
            continue
        default = _DEFAULT.search(text)
        shown = f"`{default['value']}`" if default else ""
        key = flag.replace("-", "_")
        meaning = _cell(_VARIABLE.sub("", _DEFAULT.sub("", text)))
        yield f"| `{key}` | `CRDTDB_{key.upper()}` | `--{flag}` | {shown} | {meaning} |"


# -- metrics and problems -----------------------------------------------------------------------


def _metrics(families: Iterable[Any]) -> Iterator[str]:
    yield (
        "At `/metrics`, in the Prometheus text format. Names and labels are stable: they change "
        "only with a note in the changelog. Labels hold routes, types, operations and replicas, "
        "never names of users' data. Histograms have `_bucket`, `_sum` and `_count`. Times are "
        "seconds.\n"
    )
    yield "| metric | kind | labels | meaning |\n| --- | --- | --- | --- |"
    for family in sorted(families, key=lambda family: str(family.name)):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = ", ".join(f"`{label}`" for label in getattr(family, "_labelnames", ()))
        yield f"| `{name}` | {family.type} | {labels} | {_cell(family.documentation)} |"


def _problems() -> Iterator[str]:
    yield (
        "What is refused is answered with `application/problem+json` (RFC 9457): `code` is one of "
        "these, `detail` says what to do next, `errors` names fields and limits. Each replica has "
        "these pages under `/problems/`.\n"
    )
    for slug, problem in PROBLEMS.items():
        yield f"## `{slug}`\n\n{problem.status}, {problem.title}\n"
        for paragraph in (problem.__doc__ or "").split("\n\n"):
            yield f"{' '.join(paragraph.split())}\n"
