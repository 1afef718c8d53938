//! Device `cpu`: the host's cores.
