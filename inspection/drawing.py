"""Draw boxes on a picture: as an SVG overlay for a page, or into a PNG."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

from markupsafe import Markup, escape
from PIL import Image, ImageDraw, ImageFont

from inspection.examples import Example, Region

SHOWN = 10  # regions drawn, best first, more would hide the picture
THUMBNAIL = 320  # pixels of a thumbnail's longer side
LARGE = 800  # pixels of a single picture's longer side, when it is smaller
COLOURS = ("#e5484d", "#3e8ede", "#f5a524", "#30a46c", "#ab4aba", "#12a5a5", "#e54d99", "#8d8d2c")  # of boxes, by rank


def label(region: Region) -> str:
    return f"{region.name} {region.score:.2f}"


def overlay(example: Example) -> Markup:
    """The boxes of the best regions as SVG, in pixels of the stored image. Labels show on hover."""
    unit = max(example.width, example.height) / THUMBNAIL  # one pixel of the thumbnail
    drawn = [_box(i, region, unit, example.width) for i, region in _large_first(example)]
    return Markup('<svg class="boxes" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        example.width, example.height, f"{len(drawn)} regions", Markup("").join(drawn)
    )


def _large_first(example: Example) -> list[tuple[int, Region]]:
    """The regions to draw, with their rank: those with a tag last, and small after large, so that they lie on top."""

    def place(item: tuple[int, Region]) -> tuple[bool, float]:
        x1, y1, x2, y2 = item[1].box
        return item[1].tagged, -(x2 - x1) * (y2 - y1)

    return sorted(enumerate(example.regions[:SHOWN]), key=place)


def _box(i: int, region: Region, unit: float, width: int) -> Markup:
    x1, y1, x2, y2 = region.box
    shape = Markup(
        '<g class="box s{}{}" data-region="{}"><title>{}</title>'
        '<rect class="edge" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>{}</g>'
    )
    title = f"{label(region)} ({region.attribute} {region.attribute_score:.2f})"
    faint = "" if region.tagged else " faint"
    return shape.format(i % len(COLOURS), faint, i, title, x1, y1, x2 - x1, y2 - y1, _label(region, unit, width))


def _label(region: Region, unit: float, width: int) -> Markup:
    """The region's name on a plate above the box, or inside where there is no room."""
    x1, y1 = region.box[:2]
    text, size = label(region), 11 * unit
    wide, high = 0.58 * size * len(text) + 0.8 * size, 1.5 * size
    x, y = max(0.0, min(x1, width - wide)), y1 - high if y1 >= high else y1
    plate = Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="{:.1f}"/>')
    words = Markup('<text x="{:.1f}" y="{:.1f}" font-size="{:.1f}">{}</text>')
    return Markup('<g class="label">{}{}</g>').format(
        plate.format(x, y, wide, high, 0.3 * size),
        words.format(x + 0.4 * size, y + 1.08 * size, size, text),
    )


def data_uri(image: bytes, longest: int = THUMBNAIL) -> str:
    """The picture as a JPEG of at most `longest` pixels a side, in a data URI. Deterministic."""
    with Image.open(io.BytesIO(image)) as opened:
        small = opened.convert("RGB")
    small.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    sink = io.BytesIO()
    small.save(sink, "JPEG", quality=80, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(sink.getvalue()).decode()


def png(example: Example) -> bytes:
    """The picture with boxes and labels drawn into it, and the tags below."""
    with Image.open(io.BytesIO(example.image)) as opened:
        picture = opened.convert("RGB")
    scale = max(1.0, LARGE / max(picture.size))
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS)
    font = ImageFont.load_default(size=15)
    draw = ImageDraw.Draw(picture)
    for i, region in _large_first(example):
        box = [value * scale for value in region.box]
        colour = COLOURS[i % len(COLOURS)]
        draw.rectangle(box, outline=colour, width=3 if region.tagged else 1)
        if not region.tagged:
            continue
        place = (max(box[0], 0), max(box[1] - 20, 0))
        draw.rectangle(draw.textbbox(place, f" {label(region)} ", font), fill=colour)
        draw.text(place, f" {label(region)} ", "white", font)
    whole = _with_lines(
        picture, _wrapped("tags: " + (", ".join(tag for tag, _, _ in example.tags) or "none"), picture.width)
    )
    sink = io.BytesIO()
    whole.save(sink, "PNG")
    return sink.getvalue()


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of whole words that fit below a picture of this width."""
    font, lines = ImageFont.load_default(size=15), [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width - 16:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _with_lines(picture: Image.Image, lines: Sequence[str]) -> Image.Image:
    whole = Image.new("RGB", (picture.width, picture.height + 14 + 20 * len(lines)), "white")
    whole.paste(picture, (0, 0))
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(size=15)
    for i, line in enumerate(lines):
        draw.text((8, picture.height + 6 + 20 * i), line, "black", font)
    return whole


def page(example: Example, text: str, style: str) -> str:
    """A page of one picture with its boxes, and the row as text."""
    body = Markup(
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        "<title>{id}</title><style>{style}</style><main><figure class=picture style='max-width:{width}px'>"
        '<img src="{image}" alt="">{boxes}</figure><pre>{text}</pre></main></html>'
    )
    return str(
        body.format(
            id=example.image_id,
            style=Markup(style),
            width=LARGE,
            image=data_uri(example.image, LARGE),
            boxes=overlay(example),
            text=escape(text),
        )
    )
