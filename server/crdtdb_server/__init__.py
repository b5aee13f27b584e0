"""crdtdb on the network: the HTTP interface of a replica.

`serving` puts a `crdtdb.Database` on a socket. A *front* speaks HTTP and hands each request to the
`Dispatcher`, which finds its route and lets the handler answer; writes go through the `Writer`.
"""
