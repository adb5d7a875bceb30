"""Small helpers that write SVG by hand: boxes, arrows, text. Standard library only."""

from __future__ import annotations

from html import escape

# Okabe and Ito's colours, which people with colour blindness can tell apart.
BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#777777"
INK, MUTED, LINE = "#1f2328", "#57606a", "#8c959f"
PALE = {BLUE: "#e3f0f8", ORANGE: "#fbe9df", GREEN: "#e0f3ec", PINK: "#f8e8f1", GREY: "#f0f1f3"}
FONT = "Helvetica, Arial, 'DejaVu Sans', sans-serif"


def number(value: float) -> str:
    """At most two decimals, so that the file does not depend on the last bits of a float."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


class Picture:
    """A white, rounded sheet with shapes on it; the white keeps it readable in dark mode."""

    def __init__(self, width: float, height: float, title: str) -> None:
        self.width, self.height = width, height
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img" font-family="{FONT}">',
            f"<title>{escape(title)}</title>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            f'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="{MUTED}"/></marker>'
            "</defs>",
            f'<rect width="{width}" height="{height}" rx="14" fill="#ffffff" stroke="#d0d7de"/>',
        ]

    def box(
        self,
        x: float,
        y: float,
        w: float,
        h: float,
        fill: str = "#ffffff",
        stroke: str = LINE,
        rx: float = 7,
        width: float = 1.5,
        dash: str = "",
    ) -> None:
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        at = " ".join(
            f'{name}="{number(v)}"'
            for name, v in (("x", x), ("y", y), ("width", w), ("height", h), ("rx", rx))
        )
        self.parts.append(
            f'<rect {at} fill="{fill}" stroke="{stroke}" stroke-width="{number(width)}"{dashes}/>'
        )

    def text(
        self,
        x: float,
        y: float,
        words: str,
        size: float = 13,
        colour: str = INK,
        anchor: str = "middle",
        bold: bool = False,
        italic: bool = False,
    ) -> None:
        style = (' font-weight="bold"' if bold else "") + (' font-style="italic"' if italic else "")
        self.parts.append(
            f'<text x="{number(x)}" y="{number(y)}" font-size="{number(size)}" fill="{colour}" '
            f'text-anchor="{anchor}"{style}>{escape(words, quote=False)}</text>'
        )

    def line(
        self,
        points: list[tuple[float, float]],
        colour: str = MUTED,
        width: float = 1.6,
        tip: bool = False,
        dash: str = "",
    ) -> None:
        """A line through points, with an arrow's tip at its end if wanted."""
        path = "L".join(f"{number(x)} {number(y)}" for x, y in points)
        self.path(f"M{path}", colour, width, tip, dash)

    def path(
        self,
        d: str,
        colour: str = MUTED,
        width: float = 1.6,
        tip: bool = False,
        dash: str = "",
    ) -> None:
        more = (' marker-end="url(#tip)"' if tip else "") + (
            f' stroke-dasharray="{dash}"' if dash else ""
        )
        self.parts.append(
            f'<path d="{d}" fill="none" stroke="{colour}" stroke-width="{number(width)}"{more}/>'
        )

    def dot(self, x: float, y: float, r: float, fill: str, stroke: str = "none") -> None:
        at = f'cx="{number(x)}" cy="{number(y)}" r="{number(r)}"'
        self.parts.append(f'<circle {at} fill="{fill}" stroke="{stroke}"/>')

    def __str__(self) -> str:
        return "\n".join([*self.parts, "</svg>"]) + "\n"
