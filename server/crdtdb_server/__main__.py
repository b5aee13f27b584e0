"""`python -m crdtdb_server`: the shell command `crdtdb`, for the interpreter at hand."""

import sys

from crdtdb_server.shell import main

sys.exit(main())
