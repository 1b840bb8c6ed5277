"""Linear algebra for kernels: small dense blocks and the blocked Schur complement."""
