"""A user's mistakes that the type checker has to find. Each line with one says so."""

from __future__ import annotations

from crdtdb import Database
from crdtdb_client import AsyncClient, Client


def mistakes(db: Database | Client, later: AsyncClient) -> None:
    db.counter("shop", "views").increment("5")  # type: ignore[arg-type]
    db.counter("shop", "views").add("apple")  # type: ignore[attr-defined]
    db.gcounter("shop", "views").decrement()  # type: ignore[attr-defined]
    db.gset("shop", "seen").remove("ann")  # type: ignore[attr-defined]
    db.register("shop", "title").set({1, 2})  # type: ignore[arg-type]
    db.zset("game", "scores").add("ann")  # type: ignore[call-arg]
    db.zset("game", "scores").page(order="size")  # type: ignore[arg-type]
    db.list("home", "todo").insert("wash")  # type: ignore[arg-type]
    Client("http://eu:7460", on_behind="ignore")  # type: ignore[arg-type]
    print("apple" in later.set("shop", "cart"))  # type: ignore[operator]
