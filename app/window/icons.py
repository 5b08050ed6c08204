"""Line icons, drawn in the colour that is asked for."""

from __future__ import annotations

from importlib.resources import files

from PySide6.QtCore import QByteArray, QRectF, QSize, Qt
from PySide6.QtGui import QIcon, QPainter, QPixmap, QPixmapCache
from PySide6.QtSvg import QSvgRenderer

__all__ = ["icon", "pixmap"]

_SCALES = (1, 2, 3)
"""Pixmaps for screens of up to three pixels a point."""


def icon(name: str, color: str, size: int = 18) -> QIcon:
    """`assets/icons/NAME.svg` with `color` for its `currentColor`."""
    result = QIcon()
    for scale in _SCALES:
        for mode in (QIcon.Mode.Normal, QIcon.Mode.Disabled):  # Qt would make a paler one of its own
            result.addPixmap(pixmap(name, color, size, scale), mode)
    return result


def pixmap(name: str, color: str, size: int, scale: float = 1) -> QPixmap:
    """The same as a pixmap of `size` points, drawn once: each of a hundred answers has five."""
    key = f"trine/{name}/{color}/{size}/{scale}"
    drawn = QPixmap()
    if not QPixmapCache.find(key, drawn):
        drawn = _draw(name, color, size, scale)
        QPixmapCache.insert(key, drawn)
    return drawn


def _draw(name: str, color: str, size: int, scale: float) -> QPixmap:
    source = (files("assets") / "icons" / f"{name}.svg").read_text("utf-8").replace("currentColor", color)
    image = QPixmap(QSize(size, size) * scale)
    image.setDevicePixelRatio(scale)
    image.fill(Qt.GlobalColor.transparent)
    painter = QPainter(image)
    QSvgRenderer(QByteArray(source.encode())).render(painter, QRectF(0, 0, size, size))
    painter.end()
    return image
