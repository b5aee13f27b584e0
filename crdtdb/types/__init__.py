"""The catalogue: one file per data type, found by looking into this folder.

A new type is one file plus its test; nothing here names a type. Modules that start with an
underscore are shared by types and are not types.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from types import MappingProxyType
from typing import Final

from crdtdb.datatype import OperationType, StateType

__all__ = ["CATALOGUE"]


def _discover() -> dict[str, StateType | OperationType]:
    names = sorted(m.name for m in iter_modules(__path__) if not m.name.startswith("_"))
    return {name: import_module(f"{__name__}.{name}").TYPE for name in names}


#: Type name → the type. An unknown name (they arrive from the network) is a dict miss.
CATALOGUE: Final = MappingProxyType(_discover())
