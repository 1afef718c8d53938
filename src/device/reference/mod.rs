//! Device `reference`: plain f32 loops, the oracle the other devices are compared with.
