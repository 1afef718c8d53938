"""The two cameras: flat-shaded prisms, drawn from far to near with integer arithmetic.

Points are projected in double precision and rounded to 1/16 of a sample; a sample is inside a convex polygon if it is on
the inner side of, or on, each edge (64-bit integers). An image has 2 x 2 samples per pixel, whose mean, times the scene's
light, is the pixel. Everything is in front of both cameras, always, so nothing is clipped but by the image's border.
"""

import numpy as np
from numba import njit

from . import arm
from .exact import sin_cos
from .scene import HALF, HEIGHT, LINE_X, TABLE_X, TABLE_Y, Scene

CAMERAS = ("front", "wrist")
SIZE = 64

FLOOR = (70, 74, 82)
TABLE = (206, 198, 184)
ZONE = (180, 186, 176)
PAINT = ((216, 36, 40), (36, 158, 60), (40, 84, 226), (240, 200, 30))
BODY = (236, 238, 240)
LINK = (150, 156, 166)
STEEL = (46, 48, 56)

_FLOOR, _TABLE, _ZONE = np.array(FLOOR), np.array(TABLE), np.array(ZONE)
_PAINT = np.array(PAINT)
_BODY, _LINK, _STEEL = np.array(BODY), np.array(LINK), np.array(STEEL)

# The front camera: position, axes (right, down, forward), and half the image's width over the focal length.
FRONT_EYE = (0.0, -0.50, 0.84)
FRONT_AT = (0.0, 0.02, 0.0)
FRONT_FOCUS = 2.5
# The wrist camera looks down along the tool, from this height above its tip; its right is the tool's right.
WRIST_ABOVE = 0.15
WRIST_FOCUS = 1.25


def _front_camera():
    eye, at = np.array(FRONT_EYE), np.array(FRONT_AT)
    f = at - eye
    f = f / np.sqrt(f[0] * f[0] + f[1] * f[1] + f[2] * f[2])
    # The camera looks along +y and down, and is not tilted.
    camera = np.empty((4, 3))
    camera[0] = eye
    camera[1] = (1.0, 0.0, 0.0)
    camera[2] = (0.0, f[2], -f[1])
    camera[3] = f
    return camera


_FRONT = _front_camera()


@njit(cache=True)
def _project(camera, focus, side, x, y, z):
    """Image position of a point in 1/16 samples; `side` is the image's width in samples."""
    dx, dy, dz = x - camera[0, 0], y - camera[0, 1], z - camera[0, 2]
    u = dx * camera[1, 0] + dy * camera[1, 1] + dz * camera[1, 2]
    v = dx * camera[2, 0] + dy * camera[2, 1] + dz * camera[2, 2]
    w = dx * camera[3, 0] + dy * camera[3, 1] + dz * camera[3, 2]
    half = 8.0 * side
    return int(np.floor(half + half * focus * u / w + 0.5)), int(np.floor(half + half * focus * v / w + 0.5))


@njit(cache=True)
def _fill(image, px, py, n, colour, shade, blend):
    """Fills a convex polygon of `n` vertices, in either direction, with colour * shade / 256; `blend` multiplies instead."""
    area = 0
    for i in range(n):
        j = (i + 1) % n
        area += px[i] * py[j] - px[j] * py[i]
    if area == 0:
        return
    sign = 1 if area > 0 else -1
    side = image.shape[0]
    left, right, top, bottom = px[0], px[0], py[0], py[0]
    for i in range(1, n):
        left, right = min(left, px[i]), max(right, px[i])
        top, bottom = min(top, py[i]), max(bottom, py[i])
    # Centres of samples are at 16 i + 8.
    first, last = max((left + 7) >> 4, 0), min((right - 8) >> 4, side - 1)
    r, g, b = colour[0] * shade >> 8, colour[1] * shade >> 8, colour[2] * shade >> 8
    for row in range(max((top + 7) >> 4, 0), min((bottom - 8) >> 4, side - 1) + 1):
        y = 16 * row + 8
        for column in range(first, last + 1):
            x = 16 * column + 8
            inside = True
            for i in range(n):
                j = (i + 1) % n
                if sign * ((px[j] - px[i]) * (y - py[i]) - (py[j] - py[i]) * (x - px[i])) < 0:
                    inside = False
                    break
            if inside:
                if blend:
                    image[row, column, 0] = image[row, column, 0] * shade >> 8
                    image[row, column, 1] = image[row, column, 1] * shade >> 8
                    image[row, column, 2] = image[row, column, 2] * shade >> 8
                else:
                    image[row, column, 0] = r
                    image[row, column, 1] = g
                    image[row, column, 2] = b


@njit(cache=True)
def _flat(image, camera, focus, corners, z, colour, shade, blend):
    """A horizontal polygon."""
    n = len(corners)
    px, py = np.empty(n, np.int64), np.empty(n, np.int64)
    for i in range(n):
        px[i], py[i] = _project(camera, focus, image.shape[0], corners[i, 0], corners[i, 1], z)
    _fill(image, px, py, n, colour, shade, blend)


@njit(cache=True)
def _prism(image, camera, focus, corners, z0, z1, colour):
    """An upright prism over a convex polygon, given counterclockwise as seen from above."""
    n = len(corners)
    px, py = np.empty(4, np.int64), np.empty(4, np.int64)
    for i in range(n):
        j = (i + 1) % n
        ex, ey = corners[j, 0] - corners[i, 0], corners[j, 1] - corners[i, 1]
        # The outward normal is (ey, -ex): the side is seen if the camera is on its outer side.
        if (camera[0, 0] - corners[i, 0]) * ey - (camera[0, 1] - corners[i, 1]) * ex <= 0.0:
            continue
        length = np.sqrt(ex * ex + ey * ey)
        # Light comes from the front and the left.
        shade = int(np.floor(170.0 + 34.0 * (ex - ey) / length))
        px[0], py[0] = _project(camera, focus, image.shape[0], corners[i, 0], corners[i, 1], z0)
        px[1], py[1] = _project(camera, focus, image.shape[0], corners[j, 0], corners[j, 1], z0)
        px[2], py[2] = _project(camera, focus, image.shape[0], corners[j, 0], corners[j, 1], z1)
        px[3], py[3] = _project(camera, focus, image.shape[0], corners[i, 0], corners[i, 1], z1)
        _fill(image, px, py, 4, colour, shade, False)
    _flat(image, camera, focus, corners, z1, colour, 256, False)


@njit(cache=True)
def _box(x, y, s, c, a, b):
    """Corners of a rectangle of half sides a and b, turned by the angle of sine s and cosine c."""
    out = np.empty((4, 2))
    for i in range(4):
        u = a if i == 0 or i == 3 else -a
        v = b if i < 2 else -b
        out[i, 0] = x + c * u - s * v
        out[i, 1] = y + s * u + c * v
    return out


@njit(cache=True)
def _beam(x0, y0, x1, y1, half):
    """Corners of a rectangle around the segment from (x0, y0) to (x1, y1), longer by `half` at both ends."""
    dx, dy = x1 - x0, y1 - y0
    length = np.sqrt(dx * dx + dy * dy)
    return _box(0.5 * (x0 + x1), 0.5 * (y0 + y1), dy / length, dx / length, 0.5 * length + half, half)


@njit(cache=True)
def _block(image, camera, focus, block, colour):
    s, c = sin_cos(block[2])
    _prism(image, camera, focus, _box(block[0], block[1], s, c, HALF, HALF), 0.0, HEIGHT, colour)


@njit(cache=True)
def _fork(image, camera, focus, x, y, z, s, c, column):
    """The tool: two prongs and, where `column` is set, the bar above them and the column that carries it."""
    for k in range(2):
        # The prong that is farther from the front camera first.
        side = arm.PRONG_OFFSET if (k == 0) == (c > 0.0) else -arm.PRONG_OFFSET
        corners = _box(x - s * side, y + c * side, s, c, arm.PRONG_RADIUS, arm.PRONG_RADIUS)
        _prism(image, camera, focus, corners, z, z + 0.045, _STEEL)
    if column:
        bar = _box(x, y, s, c, 0.010, arm.PRONG_OFFSET + arm.PRONG_RADIUS)
        _prism(image, camera, focus, bar, z + 0.045, z + 0.058, _STEEL)
        _prism(image, camera, focus, _box(x, y, s, c, 0.010, 0.010), z + 0.058, 0.235, _BODY)


@njit(cache=True)
def _draw(image, camera, focus, wrist, q, blocks, colours):
    """Draws the scene into `image` [side, side, 3] of samples."""
    for row in range(image.shape[0]):
        for column in range(image.shape[0]):
            for k in range(3):
                image[row, column, k] = _FLOOR[k]
    x, y = arm.tool(q[0], q[1])
    s, c = sin_cos(q[0] + q[1] + q[2])
    _prism(image, camera, focus, _box(0.0, 0.0, 0.0, 1.0, TABLE_X, TABLE_Y), -0.03, 0.0, _TABLE)
    zone = 0.5 * (TABLE_X - LINE_X)
    for k in range(2):
        middle = LINE_X + zone if k == 0 else -LINE_X - zone
        _flat(image, camera, focus, _box(middle, 0.0, 0.0, 1.0, zone, TABLE_Y), 0.0, _ZONE, 256, False)
    # Shadows of a light that stands high, in front and on the left.
    for i in range(len(blocks)):
        bs, bc = sin_cos(blocks[i, 2])
        _flat(image, camera, focus, _box(blocks[i, 0] + 0.008, blocks[i, 1] + 0.006, bs, bc, HALF, HALF), 0.0, _TABLE, 190, True)
    _flat(image, camera, focus, _box(x, y, s, c, 0.012, arm.PRONG_OFFSET + arm.PRONG_RADIUS), 0.0, _TABLE, 150, True)
    if wrist:
        for i in range(len(blocks)):
            _block(image, camera, focus, blocks[i], _PAINT[colours[i]])
        _fork(image, camera, focus, x, y, q[3], s, c, False)
        return
    order = np.argsort(-blocks[:, 1])
    for i in order:
        if blocks[i, 1] >= y:
            _block(image, camera, focus, blocks[i], _PAINT[colours[i]])
    _prism(image, camera, focus, _box(0.0, arm.BASE_Y, 0.0, 1.0, 0.05, 0.05), -0.03, 0.275, _BODY)
    ex, ey = arm.elbow(q[0])
    _fork(image, camera, focus, x, y, q[3], s, c, True)
    _prism(image, camera, focus, _beam(ex, ey, x, y, 0.022), 0.235, 0.275, _LINK)
    _prism(image, camera, focus, _beam(0.0, arm.BASE_Y, ex, ey, 0.028), 0.275, 0.315, _BODY)
    for i in order:
        if blocks[i, 1] < y:
            _block(image, camera, focus, blocks[i], _PAINT[colours[i]])


@njit(cache=True)
def _render(q, blocks, colours, light, wrist, size):
    samples = np.empty((2 * size, 2 * size, 3), np.int64)
    if wrist:
        x, y = arm.tool(q[0], q[1])
        s, c = sin_cos(q[0] + q[1] + q[2])
        camera = np.empty((4, 3))
        camera[0, 0], camera[0, 1], camera[0, 2] = x, y, q[3] + WRIST_ABOVE
        camera[1, 0], camera[1, 1], camera[1, 2] = c, s, 0.0
        camera[2, 0], camera[2, 1], camera[2, 2] = s, -c, 0.0
        camera[3, 0], camera[3, 1], camera[3, 2] = 0.0, 0.0, -1.0
        _draw(samples, camera, WRIST_FOCUS, True, q, blocks, colours)
    else:
        _draw(samples, _FRONT, FRONT_FOCUS, False, q, blocks, colours)
    image = np.empty((size, size, 3), np.uint8)
    for row in range(size):
        for column in range(size):
            for k in range(3):
                total = (samples[2 * row, 2 * column, k] + samples[2 * row, 2 * column + 1, k]
                         + samples[2 * row + 1, 2 * column, k] + samples[2 * row + 1, 2 * column + 1, k])
                image[row, column, k] = total * light >> 10
    return image


def render(camera: str, q, blocks, scene: Scene, size: int = SIZE) -> np.ndarray:
    """The image [size, size, 3] (RGB, u8) of a camera."""
    return _render(q, blocks, scene.colours, scene.light, camera == "wrist", size)
