"""Where a replica keeps its bytes: one contract (`base`), one module or folder per backend."""
