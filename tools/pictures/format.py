"""Draws what an image consists of: two versions that share a pack, and that pack from inside."""

from html import escape

WIDTH, HEIGHT = 960, 600
MARGIN = 24
BLUE, TEAL, ORANGE, PINK, GREY = "#4263eb", "#1098ad", "#f76707", "#d6336c", "#818b98"

# As in the pictures of `puzzlefs inspect --graph`.
STYLE = """
text{font:12px ui-sans-serif,system-ui,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:#1f2328}
.head{font-size:13px;font-weight:600}
.dim{fill:#59636e;font-size:11px}
.on{fill:#fff;font-weight:600}
.mono{font-family:ui-monospace,'DejaVu Sans Mono',monospace;font-size:10.5px}
.middle{text-anchor:middle}
.card{fill:#fff;stroke:#d1d9e0}
.box{fill:#818b98;fill-opacity:.1;stroke:#818b98;stroke-opacity:.6}
.zoom{fill:#4263eb;fill-opacity:.08}
.rule{stroke:#818b98;stroke-opacity:.4}
@media(prefers-color-scheme:dark){
text{fill:#f0f6fc}
.dim{fill:#9198a1}
.on{fill:#fff}
.card{fill:#0d1117;stroke:#3d444d}
}
"""


class Drawing:
    def __init__(self):
        self.parts = []

    def text(self, x, y, text, style=""):
        self.parts.append(f'<text x="{x:g}" y="{y:g}" class="{style}">{escape(text)}</text>')

    def box(self, x, y, width, height, colour=None):
        fill = f'fill="{colour}"' if colour else 'class="box"'
        self.parts.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="3" {fill}/>')

    def area(self, points, style):
        self.parts.append(f'<path class="{style}" d="M{"L".join(f"{x:g} {y:g}" for x, y in points)}z"/>')

    def arrow(self, start, end, colour=GREY):
        (x0, y0), (x1, y1) = start, end
        bend = (x1 - x0) / 2
        path = f"M{x0:g} {y0:g}C{x0 + bend:g} {y0:g} {x1 - bend:g} {y1:g} {x1 - 5:g} {y1:g}"
        self.parts.append(f'<path fill="none" stroke="{colour}" stroke-width="1.3" d="{path}"/>')
        self.parts.append(f'<path fill="{colour}" d="M{x1:g} {y1:g}l-7 -3.5v7z"/>')

    def document(self):
        return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
                f'height="{HEIGHT}" role="img">\n<title>What a puzzlefs image consists of</title>\n'
                f'<style>{STYLE.replace(chr(10), "")}</style>\n'
                f'<rect class="card" x=".5" y=".5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="8"/>\n'
                + "\n".join(self.parts) + "\n</svg>\n")


# The blobs from top to bottom: text, colour, top, height. v1 and v2 share pack A.
BLOBS = {
    "config 1": ("config", None, 56, 24),
    "rootfs 1": ("rootfs: the metadata", TEAL, 88, 32),
    "pack B": ("pack B", ORANGE, 128, 40),
    "pack A": ("pack A, shared", BLUE, 176, 52),
    "pack C": ("pack C", PINK, 236, 40),
    "rootfs 2": ("rootfs: the metadata", TEAL, 284, 32),
    "config 2": ("config", None, 324, 24),
}
MANIFESTS = [
    ("v1", 56, ["config 1", "rootfs 1", "pack A", "pack B"]),
    ("v2", 218, ["config 2", "rootfs 2", "pack A", "pack C"]),
]
INDEX_X, INDEX_WIDTH = MARGIN, 130
MANIFEST_X, MANIFEST_WIDTH = 220, 170
BLOB_X, BLOB_WIDTH = 476, 190
TREE_X = 706


def draw_layout(drawing):
    for x, text in [(INDEX_X, "index.json"), (MANIFEST_X, "manifests"), (BLOB_X, "blobs"), (TREE_X, "a file")]:
        drawing.text(x, 36, text, "head")
    drawing.box(INDEX_X, 160, INDEX_WIDTH, 84)
    drawing.text(INDEX_X + 12, 180, "tags", "dim")
    for row, (tag, top, blobs) in enumerate(MANIFESTS):
        y = 200 + 26 * row
        drawing.text(INDEX_X + 12, y + 4, tag)
        drawing.arrow((INDEX_X + INDEX_WIDTH, y), (MANIFEST_X, top + 65))
        draw_manifest(drawing, tag, top, blobs)
    for text, colour, top, height in BLOBS.values():
        drawing.box(BLOB_X, top, BLOB_WIDTH, height, colour)
        drawing.text(BLOB_X + 12, top + height / 2 + 4, text, "on" if colour else "")


def draw_manifest(drawing, tag, top, blobs):
    drawing.box(MANIFEST_X, top, MANIFEST_WIDTH, 130)
    drawing.text(MANIFEST_X + 12, top + 22, f"manifest of {tag}")
    rows = ["config", "layers[0]  rootfs", f"layers[1]  {blobs[2]}", f"layers[2]  {blobs[3]}"]
    for row, (text, blob) in enumerate(zip(rows, blobs)):
        y = top + 48 + 22 * row
        _, colour, blob_top, height = BLOBS[blob]
        drawing.text(MANIFEST_X + 12, y + 4, text, "mono")
        drawing.arrow((MANIFEST_X + MANIFEST_WIDTH, y), (BLOB_X, blob_top + height / 2), colour or GREY)


def draw_file(drawing):
    """What the metadata says of a file."""
    drawing.box(TREE_X, 56, WIDTH - MARGIN - TREE_X, 172)
    lines = ["/usr/bin/app", "mode 0755, owner 0:0", "mtime, with nanoseconds", "xattrs, ACLs, capabilities", "",
             "its data, as extents:"]
    for row, line in enumerate(lines):
        drawing.text(TREE_X + 12, 78 + 18 * row, line, "mono" if row == 0 else "dim")
    for row, extent in enumerate(["pack A, 100 KiB from 24 KiB", "pack B,  40 KiB from 0"]):
        drawing.text(TREE_X + 12, 188 + 20 * row, extent, "mono")
    drawing.arrow((BLOB_X + BLOB_WIDTH, 104), (TREE_X, 104), TEAL)
    notes = ["A pack that is there already, on disk or", "in a registry, is neither stored nor sent", "again, whatever image brought it."]
    for row, note in enumerate(notes):
        drawing.text(TREE_X, 262 + 18 * row, note, "dim")


# Of pack A: the lengths of its chunks in KiB, and of its frames; what is stored of each frame.
CHUNKS = [24, 13, 9, 31, 22, 12, 13, 18, 41, 8, 26, 17, 39, 11, 28, 14, 35, 21, 16, 30, 12, 37, 19, 8, 22, 33, 15, 27,
          23, 44]
FRAMES = [256, 256, sum(CHUNKS) - 2 * 256]
STORED = [110, 124, 78]


def draw_pack(drawing):
    """The pack from inside, in one scale."""
    left, width, top = 150, WIDTH - MARGIN - 150, 404
    _, _, pack_top, pack_height = BLOBS["pack A"]
    pack_end, blobs_end, right = pack_top + pack_height, 356, BLOB_X + BLOB_WIDTH
    drawing.area([(BLOB_X, pack_end), (right, pack_end), (right, blobs_end), (left + width, top - 8), (left, top - 8),
                  (BLOB_X, blobs_end)], "zoom")
    drawing.text(BLOB_X + BLOB_WIDTH / 2, top - 20, "pack A from inside", "dim middle")
    scale = width / sum(CHUNKS)
    rows = [("chunks", "cut by content"), ("frames", "256 KiB, zstd"), ("the blob", "as it is stored")]
    for row, (name, note) in enumerate(rows):
        y = top + 52 * row
        drawing.text(MARGIN, y + 14, name, "head")
        drawing.text(MARGIN, y + 29, note, "dim")
    x = left
    for number, chunk in enumerate(CHUNKS):
        drawing.parts.append(f'<rect x="{x:.1f}" y="{top}" width="{chunk * scale - 1:.1f}" height="32" rx="1.5" '
                             f'fill="{BLUE}" fill-opacity="{(0.95, 0.7, 0.82)[number % 3]}"/>')
        x += chunk * scale
    x, stored_x = left, left
    for frame, stored in zip(FRAMES, STORED):
        y = top + 52
        drawing.area([(x, y + 32), (x + frame * scale - 1, y + 32), (stored_x + stored * scale - 1, y + 52),
                      (stored_x, y + 52)], "zoom")
        drawing.box(x, y, frame * scale - 1, 32, BLUE)
        drawing.text(x + frame * scale / 2, y + 20, "frame", "on middle")
        drawing.box(stored_x, y + 52, stored * scale - 1, 32, BLUE)
        x += frame * scale
        stored_x += stored * scale
    for text, width in [("chunk index", 92), ("seek table", 84)]:
        drawing.box(stored_x, top + 104, width - 1, 32)
        drawing.text(stored_x + width / 2, top + 124, text, "dim middle")
        stored_x += width
    drawing.text(stored_x + 12, top + 124, "its SHA-256 is its name", "dim")
    drawing.text(MARGIN, top + 172, "Chunks are what is shared, frames what is read, packs what is carried.", "dim")


def draw():
    drawing = Drawing()
    draw_pack(drawing)
    draw_layout(drawing)
    draw_file(drawing)
    return drawing.document()
