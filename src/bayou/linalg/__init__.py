"""Linear algebra for kernels: small dense blocks, blocked, sparse and unformed Schur complements, their inverses."""
