"""Draws glyphs/*.png from Noto Color Emoji. It is only needed to change them: `python -m demo.draw_glyphs FONT`."""

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from demo.things import FOLDER, THINGS

SIZE = 109  # the one size that the font's bitmaps have


def draw(character: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """One emoji on nothing, cropped to what is painted."""
    canvas = Image.new("RGBA", (2 * SIZE, 2 * SIZE))
    ImageDraw.Draw(canvas).text((SIZE // 2, SIZE // 2), character, font=font, embedded_color=True)
    box = canvas.getbbox()
    assert box is not None, f"the font has no drawing of {character}"
    return canvas.crop(box)


def main(font: Path) -> None:
    face = ImageFont.truetype(font, SIZE)
    for thing in THINGS:
        draw(thing.emoji, face).save(FOLDER / thing.file, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
