"""Colours, type and the one small style sheet; light and dark."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QFont, QFontDatabase, QGuiApplication, QPalette

__all__ = ["DARK", "LIGHT", "Colors", "application_font", "colors_of_the_system", "palette", "style_sheet"]

COLUMN = 760
"""Width of the text column at most: about 90 characters."""


@dataclass(frozen=True, slots=True)
class Colors:
    """The colours of one appearance, by use. Text on its ground has a contrast of at least 4.5."""

    ground: str
    surface: str
    border: str
    text: str
    muted: str
    accent: str
    accent_hover: str
    on_accent: str
    question: str
    code: str
    error_ground: str
    error_text: str
    good: str
    waiting: str
    lost: str
    code_style: str
    """Pygments' name of a style."""


LIGHT = Colors(
    ground="#fafaf8",
    surface="#ffffff",
    border="#deded9",
    text="#1c1f23",
    muted="#63686f",
    accent="#0f766e",
    accent_hover="#0b5f59",
    on_accent="#ffffff",
    question="#e3f0ee",
    code="#f1f1ed",
    error_ground="#fdeeee",
    error_text="#8c1d1d",
    good="#178a50",
    waiting="#a86b00",
    lost="#c93636",
    code_style="friendly",
)

DARK = Colors(
    ground="#17191c",
    surface="#1f2226",
    border="#363b41",
    text="#e7e8ea",
    muted="#a0a6ae",
    accent="#3cc4b4",
    accent_hover="#62d6c8",
    on_accent="#0b2421",
    question="#20413d",
    code="#24282d",
    error_ground="#3a2022",
    error_text="#ffb9b4",
    good="#4ec48a",
    waiting="#e0ae4a",
    lost="#f07b76",
    code_style="one-dark",
)


def colors_of_the_system() -> Colors:
    """What the desktop prefers."""
    return DARK if QGuiApplication.styleHints().colorScheme() is Qt.ColorScheme.Dark else LIGHT


def application_font() -> QFont:
    """The desktop's own font, at a size made for reading; Inter where a bare desktop has no good one."""
    font = QFontDatabase.systemFont(QFontDatabase.SystemFont.GeneralFont)
    if font.family() in ("", "Sans Serif", "Sans", "DejaVu Sans"):
        font.setFamilies(["Inter", "Noto Sans", "Cantarell", "DejaVu Sans"])
    font.setPointSizeF(max(font.pointSizeF(), 10.5))
    return font


def palette(colors: Colors) -> QPalette:
    """For everything that the style sheet does not name: selections, menus, dialogs, scroll bars."""
    result = QPalette()
    roles = {
        QPalette.ColorRole.Window: colors.ground,
        QPalette.ColorRole.WindowText: colors.text,
        QPalette.ColorRole.Base: colors.surface,
        QPalette.ColorRole.AlternateBase: colors.code,
        QPalette.ColorRole.Text: colors.text,
        QPalette.ColorRole.PlaceholderText: colors.muted,
        QPalette.ColorRole.Button: colors.surface,
        QPalette.ColorRole.ButtonText: colors.text,
        QPalette.ColorRole.ToolTipBase: colors.surface,
        QPalette.ColorRole.ToolTipText: colors.text,
        QPalette.ColorRole.Highlight: colors.accent,
        QPalette.ColorRole.HighlightedText: colors.on_accent,
        QPalette.ColorRole.Link: colors.accent,
        QPalette.ColorRole.LinkVisited: colors.accent,
        QPalette.ColorRole.Accent: colors.accent,
        QPalette.ColorRole.Mid: colors.border,
    }
    for role, color in roles.items():
        result.setColor(role, QColor(color))
    for role in (QPalette.ColorRole.Text, QPalette.ColorRole.ButtonText, QPalette.ColorRole.WindowText):
        result.setColor(QPalette.ColorGroup.Disabled, role, QColor(colors.muted))
    return result


def style_sheet(colors: Colors) -> str:
    """Widgets are named by their `objectName`."""
    c = colors
    return f"""
    #header {{ background: {c.ground}; border-bottom: 1px solid {c.border}; }}
    #title {{ font-weight: 600; font-size: 14pt; }}
    #muted, #hint, #model, #meta, #figures {{ color: {c.muted}; }}
    #hint, #meta, #figures, #party {{ font-size: 9pt; }}
    #hint[warning="true"] {{ color: {c.lost}; }}
    #transcript, #column, #scrolled {{ background: {c.ground}; border: none; }}
    #author {{ color: {c.muted}; font-weight: 600; font-size: 9.5pt; }}
    QTextBrowser {{ background: transparent; border: 1px solid transparent; border-radius: 4px; color: {c.text}; }}
    QTextBrowser[reached="true"] {{ border-color: {c.accent}; }}
    #question {{ background: {c.question}; border-radius: 16px; border: 1px solid transparent; }}
    #failure {{ background: {c.error_ground}; border-radius: 12px; }}
    #failure QLabel {{ color: {c.error_text}; }}
    #failureTitle {{ font-weight: 600; }}
    #welcomeTitle {{ font-size: 20pt; font-weight: 600; }}
    QPushButton {{ border: 1px solid {c.border}; border-radius: 9px; padding: 6px 13px; background: {c.surface}; }}
    QPushButton:hover {{ border-color: {c.accent}; }}
    QPushButton:focus {{ border-color: {c.accent}; outline: none; }}
    QPushButton:disabled {{ color: {c.muted}; }}
    QPushButton:default {{ background: {c.accent}; border-color: {c.accent}; color: {c.on_accent}; }}
    #suggestion {{ text-align: left; padding: 11px 15px; border-radius: 12px; }}
    QToolButton {{ border: 1px solid transparent; border-radius: 7px; padding: 4px; background: transparent; }}
    QToolButton:hover {{ background: {c.code}; }}
    QToolButton:focus {{ border-color: {c.accent}; }}
    #latest {{ background: {c.surface}; border: 1px solid {c.border}; border-radius: 17px; }}
    #latest:hover, #latest:focus {{ border-color: {c.accent}; }}
    #composer {{ background: {c.surface}; border: 1px solid {c.border}; border-radius: 18px; }}
    #composer[active="true"] {{ border-color: {c.accent}; }}
    #composer QPlainTextEdit {{ background: transparent; border: none; }}
    #send {{ background: {c.accent}; border: 2px solid {c.accent}; border-radius: 17px; padding: 5px; }}
    #send:hover {{ background: {c.accent_hover}; border-color: {c.accent_hover}; }}
    #send:focus {{ border-color: {c.text}; }}
    #send:disabled {{ background: {c.border}; border-color: {c.border}; }}
    QProgressBar {{ background: {c.border}; border: none; border-radius: 3px; max-height: 6px; min-height: 6px; }}
    QProgressBar::chunk {{ background: {c.accent}; border-radius: 3px; }}
    QScrollBar:vertical {{ background: transparent; width: 12px; margin: 0; }}
    QScrollBar::handle:vertical {{ background: {c.border}; border-radius: 4px; min-height: 36px; margin: 2px; }}
    QScrollBar::handle:vertical:hover {{ background: {c.muted}; }}
    QScrollBar::add-line, QScrollBar::sub-line {{ height: 0; }}
    QScrollBar::add-page, QScrollBar::sub-page {{ background: transparent; }}
    QToolTip {{ background: {c.surface}; color: {c.text}; border: 1px solid {c.border}; padding: 4px; }}
    """
