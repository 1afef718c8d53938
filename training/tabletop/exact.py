"""Functions that give the same bits in every language: sine, cosine, logarithm and random numbers.

Libraries round these functions differently. Here they are polynomials, evaluated in the order written and without
fused multiply-add (Numba does not fuse unless told to, nor does Rust).
"""

import numpy as np
from numba import njit, uint64

# fdlibm's kernels (k_sin.c, k_cos.c) and pi/2 in two parts (e_rem_pio2.c).
_S = (-1.66666666666666324348e-01, 8.33333333332248946124e-03, -1.98412698298579493134e-04,
      2.75573137070700676789e-06, -2.50507602534068634195e-08, 1.58969099521155010221e-10)
_C = (4.16666666666666019037e-02, -1.38888888888741095749e-03, 2.48015872894767294178e-05,
      -2.75573143513906633035e-07, 2.08757232129817482790e-09, -1.13596475577881948265e-11)
_S1, _S2, _S3, _S4, _S5, _S6 = _S
_C1, _C2, _C3, _C4, _C5, _C6 = _C
_TWO_OVER_PI = 6.36619772367581382433e-01
_PIO2_HIGH = 1.57079632673412561417e00
_PIO2_LOW = 6.07710050650619224932e-11
_LN2 = 6.93147180559945286227e-01

_GOLDEN = uint64(0x9E3779B97F4A7C15)
_MIX1 = uint64(0xBF58476D1CE4E5B9)
_MIX2 = uint64(0x94D049BB133111EB)


@njit(cache=True)
def sin_cos(x):
    """(sin x, cos x) for |x| < 1000, within 1e-12."""
    k = np.floor(x * _TWO_OVER_PI + 0.5)
    r = (x - k * _PIO2_HIGH) - k * _PIO2_LOW
    z = r * r
    s = r + r * z * (_S1 + z * (_S2 + z * (_S3 + z * (_S4 + z * (_S5 + z * _S6)))))
    c = 1.0 - 0.5 * z + z * z * (_C1 + z * (_C2 + z * (_C3 + z * (_C4 + z * (_C5 + z * _C6)))))
    quadrant = int(k) & 3
    if quadrant == 0:
        return s, c
    if quadrant == 1:
        return c, -s
    if quadrant == 2:
        return -s, -c
    return -c, s


@njit(cache=True)
def ln(x):
    """Natural logarithm of 0 < x <= 1, within 1e-12 of its value."""
    e = 0.0
    while x < 0.75:
        x = x * 2.0
        e = e - 1.0
    z = (x - 1.0) / (x + 1.0)
    w = z * z
    p = 1.0 / 21.0
    for k in range(9, -1, -1):
        p = 1.0 / (2.0 * k + 1.0) + w * p
    return e * _LN2 + 2.0 * z * p


@njit(cache=True)
def mix(seed, index):
    """Word `index` of the splitmix64 stream `seed`."""
    z = uint64(seed) + (uint64(index) + uint64(1)) * _GOLDEN
    z = (z ^ (z >> uint64(30))) * _MIX1
    z = (z ^ (z >> uint64(27))) * _MIX2
    return z ^ (z >> uint64(31))


@njit(cache=True)
def uniform(seed, index):
    """Number `index` of the stream `seed`, uniform on [0, 1)."""
    return float(mix(seed, index) >> uint64(11)) * (1.0 / 9007199254740992.0)


@njit(cache=True)
def normal(seed, index):
    """Standard normal number `index` of the stream `seed` (Box and Muller)."""
    a = 1.0 - uniform(seed, uint64(2) * uint64(index))
    b = uniform(seed, uint64(2) * uint64(index) + uint64(1))
    return np.sqrt(-2.0 * ln(a)) * sin_cos(6.28318530717958623200 * b)[1]


@njit(cache=True)
def normals(seed, count):
    """The first `count` normal numbers of the stream `seed`, rounded to f32."""
    out = np.empty(count, np.float32)
    for i in range(count):
        out[i] = normal(seed, i)
    return out
