//! A graph as an SVG picture.
//!
//! A row is an image; a column is a blob, as wide as it is large. Blobs stand in the order in which
//! images brought them, so what an image adds is at the right end of what was there before it, and
//! what it left behind is a gap. The colour is that of the image which brought the blob.
//!
//! However many images and packs there are, the picture stays small: blobs narrower than a pixel
//! share a column, which a row fills as far as its image has them, and rows end at [`ROWS_MAX`].

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;

use super::{Graph, GraphImage};

/// Lengths are in pixels of the picture as it is drawn unscaled.
const WIDTH: f64 = 960.0;
const MARGIN: f64 = 24.0;
/// The space of a letter of a label.
const LETTER: f64 = 6.9;
/// The space of the numbers at the end of a row.
const NUMBERS: f64 = 150.0;
const SIZE_END: f64 = WIDTH - MARGIN - 76.0;
/// Between metadata and packs.
const LANE_GAP: f64 = 10.0;
/// Where the heads of the columns stand, and the first row.
const HEADS: f64 = 128.0;
const FIRST_ROW: f64 = HEADS + 12.0;
/// The height of all rows together that is aimed at, and the limits for one.
const ROWS_HEIGHT: f64 = 640.0;
const ROW_HEIGHT: Range<f64> = 9.0..28.0;
const STORED_HEIGHT: f64 = 20.0;
const NOTE_HEIGHT: f64 = 18.0;
/// More images than these are counted only.
const ROWS_MAX: usize = 300;
/// Columns narrower than that are put together.
const COLUMN_MIN: f64 = 1.0;
/// Columns wider than that have lines beside them.
const OUTLINED_MIN: f64 = 2.5;
/// The space of a number of the scale.
const TICK_WIDTH: f64 = 80.0;
/// The longest label, in letters.
const LABEL_MAX: usize = 24;
const TITLE_MAX: usize = 60;
const NAMES_MAX: usize = 200;

const STYLE: &str = "\
text{font:12px ui-sans-serif,system-ui,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:#1f2328}\
.title{font-size:17px;font-weight:600}\
.big{font-size:22px;font-weight:600}\
.strong{font-weight:600}\
.dim{fill:#59636e;font-size:11px}\
.end{text-anchor:end}\
.middle{text-anchor:middle}\
.card{fill:#fff;stroke:#d1d9e0}\
.track{fill:#818b98;fill-opacity:.1}\
.cut{stroke:#fff;stroke-width:.7}\
.rule{stroke:#818b98;stroke-opacity:.4}\
@media(prefers-color-scheme:dark){\
text{fill:#f0f6fc}\
.dim{fill:#9198a1}\
.card{fill:#0d1117;stroke:#3d444d}\
.cut{stroke:#0d1117}\
}";

/// What the colours of the images go through, from the first to the last.
const COLOURS: [[u8; 3]; 6] =
    [[66, 99, 235], [16, 152, 173], [55, 178, 77], [245, 159, 0], [247, 103, 7], [214, 51, 108]];

/// Appends a line to a string, which cannot fail.
macro_rules! line {
    ($out:expr, $($format:tt)*) => {{
        $out.push_str(&format!($($format)*));
        $out.push('\n');
    }};
}

pub fn draw(graph: &Graph, title: &str) -> String {
    let picture = Picture::new(graph);
    let body = [picture.head(title), picture.rows(), picture.stored(), picture.foot()].concat();
    let height = number(picture.bottom() + MARGIN);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\">\n\
         <title>{}</title>\n<style>{STYLE}.row{{font-size:{}px}}</style>\n\
         <rect class=\"card\" x=\".5\" y=\".5\" width=\"{}\" height=\"{}\" rx=\"8\"/>\n{body}</svg>\n",
        escape(&format!("{title}: {}", picture.summary())),
        number((picture.row_height - 1.0).min(12.0)),
        number(WIDTH - 1.0),
        number(picture.bottom() + MARGIN - 1.0),
    )
}

/// Blobs that stand at one place.
struct Column {
    /// The image that brought them.
    first: usize,
    blobs: Vec<usize>,
    bytes: f64,
    span: Range<f64>,
}

/// Where everything stands.
struct Picture<'a> {
    graph: &'a Graph,
    shown: &'a [GraphImage],
    metadata: Vec<Column>,
    packs: Vec<Column>,
    /// How many of the blobs are metadata.
    documents: usize,
    /// Where the columns of metadata and those of packs stand.
    lanes: [Range<f64>; 2],
    /// Pixels a byte.
    scale: f64,
    row_height: f64,
}

impl<'a> Picture<'a> {
    fn new(graph: &'a Graph) -> Self {
        let shown = &graph.images[..graph.images.len().min(ROWS_MAX)];
        let longest = shown.iter().map(|image| label(image).chars().count()).max();
        let left = MARGIN + 20.0 + LETTER * longest.unwrap_or(0).max(8) as f64;
        let mut is_metadata = vec![false; graph.blobs.len()];
        for image in &graph.images {
            is_metadata[image.metadata] = true;
        }
        let all = 0..graph.blobs.len();
        let (metadata, packs): (Vec<_>, Vec<_>) = all.partition(|&blob| is_metadata[blob]);
        let documents = metadata.len();
        let width = WIDTH - MARGIN - NUMBERS - LANE_GAP - left;
        let scale = width / graph.blobs.iter().map(|blob| blob.size as f64).sum::<f64>().max(1.0);
        let (metadata, end) = columns(graph, metadata, scale, left);
        let start = end + LANE_GAP;
        let (packs, right) = columns(graph, packs, scale, start);
        let height = ROWS_HEIGHT / shown.len().max(1) as f64;
        Picture {
            graph,
            shown,
            metadata,
            packs,
            documents,
            lanes: [left..end, start..right],
            scale,
            row_height: height.clamp(ROW_HEIGHT.start, ROW_HEIGHT.end).floor(),
        }
    }

    fn columns(&self) -> impl Iterator<Item = &Column> {
        self.metadata.iter().chain(&self.packs)
    }

    fn bar_height(&self) -> f64 {
        (self.row_height * 0.72).round()
    }

    fn row_top(&self, row: usize) -> f64 {
        FIRST_ROW + self.row_height * row as f64
    }

    fn rows_end(&self) -> f64 {
        self.row_top(self.shown.len())
    }

    /// What all images are made of has a row of its own, if there are several.
    fn stored_top(&self) -> Option<f64> {
        (self.graph.images.len() > 1).then(|| self.rows_end() + 14.0)
    }

    fn bars_end(&self) -> f64 {
        match (self.stored_top(), self.shown.len()) {
            (Some(top), _) => top + STORED_HEIGHT,
            (None, 0) => HEADS,
            (None, _) => FIRST_ROW + self.bar_height(),
        }
    }

    fn bottom(&self) -> f64 {
        self.bars_end() + 24.0 + NOTE_HEIGHT * self.notes().len() as f64
    }

    fn colour(&self, image: usize) -> String {
        let last = self.graph.images.len().max(2) - 1;
        let place = image as f64 / last as f64 * (COLOURS.len() - 1) as f64;
        let stop = (place as usize).min(COLOURS.len() - 2);
        let part = place - stop as f64;
        let mix = |index: usize| {
            let [from, to] = [stop, stop + 1].map(|stop| f64::from(COLOURS[stop][index]));
            (from + (to - from) * part).round() as u8
        };
        format!("#{:02x}{:02x}{:02x}", mix(0), mix(1), mix(2))
    }

    fn summary(&self) -> String {
        let images = count(self.graph.images.len(), "image");
        format!("{images}, {}", count(self.graph.blobs.len() - self.documents, "pack"))
    }

    fn head(&self, title: &str) -> String {
        let mut out = String::new();
        let title = shorten(title, TITLE_MAX);
        text(&mut out, MARGIN, 40.0, "title", &title);
        text(&mut out, WIDTH - MARGIN, 40.0, "dim end", &self.summary());
        let metadata = self.metadata.iter().map(|column| column.bytes).sum::<f64>();
        let tiles = match self.graph.images.len() {
            0 => return out,
            1 => vec![
                (bytes(self.graph.distinct() as f64), "stored"),
                (bytes(metadata), "of it metadata"),
            ],
            _ => vec![
                (bytes(self.graph.sum() as f64), "sum of the images"),
                (bytes(self.graph.distinct() as f64), "stored: what is shared, once"),
                (format!("{:.0} %", self.graph.share() * 100.0), "shared"),
            ],
        };
        for (index, (value, caption)) in tiles.into_iter().enumerate() {
            let x = MARGIN + 190.0 * index as f64;
            text(&mut out, x, 78.0, "big", &value);
            text(&mut out, x, 94.0, "dim", caption);
        }
        let [metadata, packs] = &self.lanes;
        text(&mut out, metadata.end, HEADS, "dim end", "metadata");
        text(&mut out, packs.start, HEADS, "dim", "packs");
        text(&mut out, SIZE_END, HEADS, "dim end", "size");
        if self.stored_top().is_some() {
            text(&mut out, WIDTH - MARGIN, HEADS, "dim end", "adds");
        }
        out
    }

    fn rows(&self) -> String {
        let mut out = String::new();
        for (row, image) in self.shown.iter().enumerate() {
            self.row(&mut out, row, image);
        }
        out
    }

    fn row(&self, out: &mut String, row: usize, image: &GraphImage) {
        let (top, height) = (self.row_top(row), self.bar_height());
        let baseline = top + height / 2.0 + 4.0;
        let (size, added) = (self.graph.size(image), self.graph.added(row));
        let about = format!(
            "{} ({}): {} in {}, {} of it new here",
            shorten(&names(image), NAMES_MAX),
            image.manifest,
            bytes(size as f64),
            count(image.packs.len(), "pack"),
            bytes(added as f64)
        );
        line!(out, "<g><title>{}</title>", escape(&about));
        self.track(out, top, height);
        line!(
            out,
            "<circle cx=\"{}\" cy=\"{}\" r=\"{}\" fill=\"{}\"/>",
            number(MARGIN + 4.0),
            number(top + height / 2.0),
            number((height / 4.0).min(4.0)),
            self.colour(row)
        );
        text(out, MARGIN + 14.0, baseline, "row", &label(image));
        for (first, path) in self.boxes(row, top, height) {
            line!(out, "<path fill=\"{}\" d=\"{path}\"/>", self.colour(first));
        }
        text(out, SIZE_END, baseline, "row end", &bytes(size as f64));
        if self.stored_top().is_some() {
            text(out, WIDTH - MARGIN, baseline, "dim row end", &bytes(added as f64));
        }
        out.push_str("</g>\n");
    }

    /// The faint ground of a row.
    fn track(&self, out: &mut String, top: f64, height: f64) {
        let path: String = self.lanes.iter().map(|lane| rectangle(lane, top, height)).collect();
        line!(out, "<path class=\"track\" d=\"{path}\"/>");
    }

    /// What an image has, as a path for each image that brought some of it.
    fn boxes(&self, row: usize, top: f64, height: f64) -> BTreeMap<usize, String> {
        let mut paths: BTreeMap<usize, String> = BTreeMap::new();
        let mut columns = self.columns().peekable();
        while let Some(column) = columns.next() {
            let filled = self.filled(column, row);
            if filled == 0.0 {
                continue;
            }
            let mut span = column.span.clone();
            while let Some(next) = columns.next_if(|next| {
                next.first == column.first
                    && next.span.start == span.end
                    && self.filled(next, row) == filled
            }) {
                span.end = next.span.end;
            }
            let path = paths.entry(column.first).or_default();
            path.push_str(&rectangle(&span, top + height * (1.0 - filled), height * filled));
        }
        paths
    }

    /// Which part of a column an image has, from 0 to 1.
    fn filled(&self, column: &Column, row: usize) -> f64 {
        let has = |&&blob: &&usize| self.graph.blobs[blob].images.binary_search(&row).is_ok();
        let bytes = |&blob: &usize| self.graph.blobs[blob].size as f64;
        let mine = column.blobs.iter().filter(has).map(bytes).sum::<f64>();
        if mine == column.bytes { 1.0 } else { mine / column.bytes }
    }

    /// Everything that is stored, as boxes that tell what they are: in a row of its own, or over
    /// that of the only image.
    fn stored(&self) -> String {
        let mut out = String::new();
        let top = self.stored_top().unwrap_or(FIRST_ROW);
        let height = self.bars_end() - top;
        for column in self.columns() {
            line!(
                out,
                "<path fill=\"{}\" d=\"{}\"><title>{}</title></path>",
                self.colour(column.first),
                rectangle(&column.span, top, height),
                escape(&self.about(column))
            );
        }
        self.cuts(&mut out, top + height);
        if self.stored_top().is_some() {
            let (y, right) = (number(top - 8.0), number(WIDTH - MARGIN));
            line!(out, "<path class=\"rule\" d=\"M{MARGIN} {y}H{right}\"/>");
            let baseline = top + height / 2.0 + 4.0;
            text(&mut out, MARGIN + 14.0, baseline, "strong", "stored");
            let size = bytes(self.graph.distinct() as f64);
            text(&mut out, SIZE_END, baseline, "strong end", &size);
        }
        out
    }

    /// Lines between columns, which make boxes of them in all rows at once.
    fn cuts(&self, out: &mut String, bottom: f64) {
        let wide = |column: &Column| column.span.end - column.span.start > OUTLINED_MIN;
        let mut path = String::new();
        for columns in [&self.metadata, &self.packs] {
            for pair in columns.windows(2).filter(|pair| pair.iter().any(wide)) {
                let x = number(pair[1].span.start);
                path.push_str(&format!("M{x} {}V{}", number(FIRST_ROW), number(bottom)));
            }
        }
        line!(out, "<path class=\"cut\" pointer-events=\"none\" d=\"{path}\"/>");
    }

    fn about(&self, column: &Column) -> String {
        let size = bytes(column.bytes);
        match column.blobs[..] {
            [blob] => {
                let (blob, all) = (&self.graph.blobs[blob], self.graph.images.len());
                format!(
                    "{}: {size}, in {} of {}",
                    blob.digest,
                    blob.images.len(),
                    count(all, "image")
                )
            }
            _ => format!("{} smaller: {size}", column.blobs.len()),
        }
    }

    /// The scale, and what there is to say.
    fn foot(&self) -> String {
        let mut out = String::new();
        let y = self.bars_end();
        if !self.packs.is_empty() {
            self.axis(&mut out, y);
        }
        for (index, note) in self.notes().iter().enumerate() {
            text(&mut out, MARGIN, y + 42.0 + NOTE_HEIGHT * index as f64, "dim", note);
        }
        out
    }

    fn axis(&self, out: &mut String, y: f64) {
        let lane = &self.lanes[1];
        let total = self.packs.iter().map(|column| column.bytes).sum::<f64>();
        let most = ((lane.end - lane.start) / TICK_WIDTH).clamp(1.0, 6.0);
        let step = step(total / most);
        let ticks = (0..).map(|number| f64::from(number) * step);
        for value in ticks.take_while(|&value| value <= total) {
            let x = lane.start + value * self.scale;
            let line = format!("M{} {}v4", number(x), number(y + 4.0));
            line!(out, "<path class=\"rule\" d=\"{line}\"/>");
            text(out, x, y + 20.0, "dim middle", &tick(value));
        }
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        match self.graph.images.len() {
            0 => notes.push("There is no puzzlefs image here.".to_owned()),
            1 => {}
            _ => notes.push(
                "What stands one below the other is the same blob, stored once. Its colour is that of \
                 the first image that has it."
                    .to_owned(),
            ),
        }
        let hidden = self.graph.images.len() - self.shown.len();
        let counts = [
            (hidden, "more image counted, not shown", "more images counted, not shown"),
            (self.graph.others, "entry of another kind", "entries of other kinds"),
            (self.graph.unreadable, "entry that cannot be read", "entries that cannot be read"),
        ];
        let counts = counts.into_iter().filter(|(count, ..)| *count > 0);
        let counts: Vec<_> = counts
            .map(|(count, one, many)| format!("{count} {}", if count == 1 { one } else { many }))
            .collect();
        if !counts.is_empty() {
            notes.push(format!("Beside these: {}.", counts.join(", ")));
        }
        notes
    }
}

/// Puts blobs side by side from `x` on; tells where they end.
fn columns(graph: &Graph, mut blobs: Vec<usize>, scale: f64, x: f64) -> (Vec<Column>, f64) {
    let size = |blob: usize| graph.blobs[blob].size as f64;
    blobs.retain(|&blob| graph.blobs[blob].size > 0);
    // What the same images have stands together, what more of them have first.
    let is_narrow = |blob: usize| size(blob) * scale < COLUMN_MIN;
    blobs.sort_by_cached_key(|&blob| {
        let images = &graph.blobs[blob].images;
        (images[0], Reverse(images.len()), images.clone(), is_narrow(blob), blob)
    });
    let mut columns: Vec<Column> = Vec::new();
    let mut end = x;
    for blob in blobs {
        let (first, bytes) = (graph.blobs[blob].images[0], size(blob));
        let start = end;
        end += bytes * scale;
        match columns.last_mut() {
            // Two narrow ones of the same image share a column.
            Some(last)
                if last.first == first && last.bytes * scale < COLUMN_MIN && is_narrow(blob) =>
            {
                last.blobs.push(blob);
                last.bytes += bytes;
                last.span.end = end;
            }
            _ => columns.push(Column { first, blobs: vec![blob], bytes, span: start..end }),
        }
    }
    (columns, end)
}

fn rectangle(span: &Range<f64>, top: f64, height: f64) -> String {
    let [left, right] = [span.start, span.end].map(|x| (x * 10.0).round() / 10.0);
    let (width, height) = (number(right - left), number(height));
    format!("M{} {}h{width}v{height}h-{width}z", number(left), number(top))
}

fn text(out: &mut String, x: f64, y: f64, class: &str, content: &str) {
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    let (x, y) = (number(x), number(y));
    line!(out, "<text x=\"{x}\" y=\"{y}\"{class}>{}</text>", escape(content));
}

fn names(image: &GraphImage) -> String {
    match image.names.is_empty() {
        true => image.manifest.to_string(),
        false => image.names.join(", "),
    }
}

fn label(image: &GraphImage) -> String {
    shorten(&names(image), LABEL_MAX)
}

fn shorten(text: &str, most: usize) -> String {
    match text.chars().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most - 1).chain(['…']).collect(),
    }
}

/// A number as short as it can be, to a tenth.
fn number(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}

/// Bytes as a human reads them, in powers of 1000.
fn bytes(value: f64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    // 999.5 would be shown as 1000.
    let unit = (0..UNITS.len() - 1).find(|&unit| value < 999.5 * 1000_f64.powi(unit as i32));
    let unit = unit.unwrap_or(UNITS.len() - 1);
    let value = value / 1000_f64.powi(unit as i32);
    let digits = match (unit, value) {
        (0, _) => 0,
        (_, ..9.995) => 2,
        (_, ..99.95) => 1,
        _ => 0,
    };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// Bytes at a scale, without zeros behind the point.
fn tick(value: f64) -> String {
    let text = bytes(value);
    match text.split_once(' ') {
        Some((digits, unit)) if digits.contains('.') => {
            format!("{} {unit}", digits.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => text,
    }
}

/// The next of 1, 2, 5, 10, 20, 50 and so on.
fn step(least: f64) -> f64 {
    let power = 10_f64.powf(least.max(1.0).log10().floor());
    [1.0, 2.0, 5.0]
        .map(|step| step * power)
        .into_iter()
        .find(|&step| step >= least)
        .unwrap_or(10.0 * power)
}

fn count(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Text for XML: without what it takes for markup, or does not allow.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            letter if letter.is_control() => escaped.push('\u{fffd}'),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::graph::GraphBlob;

    const MB: u64 = 1_000_000;

    /// Images of which each is metadata and packs, by what they are called and their bytes.
    fn graph(images: &[(&str, &[(&str, u64)])]) -> Graph {
        let mut graph = Graph::default();
        for (number, (name, blobs)) in images.iter().enumerate() {
            let mut numbers = blobs.iter().map(|(blob, size)| {
                let digest = Digest::of(blob.as_bytes());
                let known = graph.blobs.iter().position(|known| known.digest == digest);
                let blob = known.unwrap_or_else(|| {
                    graph.blobs.push(GraphBlob { digest, size: *size, images: Vec::new() });
                    graph.blobs.len() - 1
                });
                graph.blobs[blob].images.push(number);
                blob
            });
            let metadata = numbers.next().expect("the metadata");
            let packs = numbers.collect();
            let (manifest, names) = (Digest::of(name.as_bytes()), vec![name.to_string()]);
            graph.images.push(GraphImage { manifest, names, metadata, packs });
        }
        graph
    }

    /// `v2` keeps `a`, leaves `b`, adds `c`; `small1` and `small2` are narrower than a pixel.
    fn two() -> Graph {
        graph(&[
            ("v1", &[("m1", MB), ("b", 100 * MB), ("a", 200 * MB), ("small1", 9_000)]),
            (
                "v2",
                &[("m2", MB), ("a", 200 * MB), ("c", 98 * MB), ("small2", 1), ("small1", 9_000)],
            ),
        ])
    }

    #[test]
    fn blobs_stand_where_all_images_find_them() {
        let graph = two();
        let picture = Picture::new(&graph);
        let blobs = |name: &str| {
            let digest = Digest::of(name.as_bytes());
            graph.blobs.iter().position(|blob| blob.digest == digest).expect("a blob")
        };
        // What both have, and its narrow one behind it; what only v1 has; what v2 brought.
        let expected = [(0, "a"), (0, "small1"), (0, "b"), (1, "c"), (1, "small2")];
        let found = picture.packs.iter().map(|column| (column.first, column.blobs.clone()));
        let expected = expected.map(|(first, name)| (first, vec![blobs(name)]));
        assert_eq!(found.collect::<Vec<_>>(), expected);
        for pair in picture.packs.windows(2) {
            assert_eq!(pair[0].span.end, pair[1].span.start);
        }
        for column in &picture.packs {
            let width = column.span.end - column.span.start;
            assert!((width - column.bytes * picture.scale).abs() < 1e-6, "{width}");
        }
        let filled = |row| {
            let columns = picture.packs.iter();
            columns.map(|column| picture.filled(column, row)).collect::<Vec<_>>()
        };
        assert_eq!(filled(0), [1.0, 1.0, 1.0, 0.0, 0.0]);
        assert_eq!(filled(1), [1.0, 1.0, 0.0, 1.0, 1.0]);
        // One box where they are side by side.
        let boxes = |row| {
            let boxes = picture.boxes(row, 0.0, 20.0).into_iter();
            boxes.map(|(first, path)| (first, path.matches('z').count())).collect::<Vec<_>>()
        };
        assert_eq!((boxes(0), boxes(1)), (vec![(0, 2)], vec![(0, 1), (1, 2)]));
    }

    #[test]
    fn narrow_blobs_share_a_column() {
        let names: Vec<String> = (0..5000).map(|number| format!("pack {number}")).collect();
        let all: Vec<_> = names.iter().map(|name| (name.as_str(), MB)).collect();
        let half: Vec<_> = all.iter().copied().step_by(2).collect();
        let graph = graph(&[("v1", &all), ("v2", &half)]);
        let picture = Picture::new(&graph);
        assert!((500..2000).contains(&picture.packs.len()), "{}", picture.packs.len());
        assert!(picture.packs.iter().all(|column| column.blobs.len() > 1));
        assert!(draw(&graph, "narrow").contains("<title>7 smaller: 7.00 MB</title>"));
        // What a row has of a column is at its bottom.
        let columns = picture.packs.iter().map(|column| picture.filled(column, 1));
        let had: f64 = columns.zip(&picture.packs).map(|(part, column)| part * column.bytes).sum();
        assert_eq!(had.round() as u64, 2499 * MB);
    }

    #[test]
    fn texts_tell_the_totals() {
        let svg = draw(&two(), "images");
        let texts = [
            "<title>images: 2 images, 5 packs</title>",
            ">600 MB</text>",
            ">400 MB</text>",
            ">33 %</text>",
            "<title>v2 (sha256:",
            "): 299 MB in 4 packs, 99.0 MB of it new here</title>",
            ": 200 MB, in 2 of 2 images</title>",
            ">300 MB</text>",
        ];
        for text in texts {
            assert!(svg.contains(text), "{text} in {svg}");
        }
        assert!(!svg.contains("Beside these"), "{svg}");
    }

    #[test]
    fn every_graph_can_be_drawn() {
        let many: Vec<String> = (0..1000).map(|number| format!("image {number}")).collect();
        let blobs: Vec<Vec<(&str, u64)>> = (0..many.len())
            .map(|number| {
                let kept = many[..number].iter().rev().step_by(3).take(200);
                let own = std::iter::once(&many[number]);
                own.chain(kept).map(|name| (name.as_str(), name.len() as u64 * MB)).collect()
            })
            .collect();
        let many: Vec<_> =
            many.iter().zip(&blobs).map(|(name, blobs)| (name.as_str(), &blobs[..])).collect();
        let markup = "a\0\u{1b}]0;<b x=\"y\">&amp;'\u{fffe}";
        let cases = [
            ("nothing", Graph::default(), "There is no puzzlefs image here."),
            ("one", graph(&[("v1", &[("m", MB), ("a", MB)])]), ">of it metadata</text>"),
            (
                "no bytes",
                graph(&[("v1", &[("m", 0), ("a", 0)]), ("v2", &[("m", 0)])]),
                ">0 %</text>",
            ),
            (
                "too many bytes",
                graph(&[("v1", &[("m", u64::MAX), ("a", u64::MAX)]), ("v2", &[("a", u64::MAX)])]),
                ">18.4 EB</text>",
            ),
            (
                "packs that are nothing beside the metadata",
                graph(&[("v1", &[("m", u64::MAX), ("a", 1)]), ("v2", &[("a", 1)])]),
                ">18.4 EB</text>",
            ),
            (
                "markup",
                graph(&[(markup, &[("m", 1)])]),
                "class=\"row\">a\u{fffd}\u{fffd}]0;&lt;b x=&quot;y&quot;&gt;&amp;amp;'\u{fffd}</text>",
            ),
            ("many", graph(&many), "700 more images counted, not shown"),
            (
                "other entries",
                Graph { others: 1, unreadable: 2, ..two() },
                "Beside these: 1 entry of another kind, 2 entries that cannot be read.",
            ),
        ];
        for (name, graph, expected) in cases {
            let svg = draw(&graph, markup);
            assert!(svg.contains(expected), "{name}: {svg}");
            assert_eq!(svg, draw(&graph, markup), "{name}");
            for wrong in ["NaN", "inf", "<b", "\0", "\u{1b}", "h-0v", "v-"] {
                assert!(!svg.contains(wrong), "{name}: {wrong} in {svg}");
            }
            assert!(svg.len() < 8 << 20, "{name}: {} bytes", svg.len());
        }
    }

    #[test]
    fn numbers() {
        let cases = [
            (0.0, "0 B", "0 B"),
            (999.0, "999 B", "999 B"),
            (999.6, "1.00 kB", "1 kB"),
            (1500.0, "1.50 kB", "1.5 kB"),
            (9_996_000.0, "10.0 MB", "10 MB"),
            (99.96e9, "100 GB", "100 GB"),
            (200e12, "200 TB", "200 TB"),
            (u64::MAX as f64, "18.4 EB", "18.4 EB"),
        ];
        for (value, expected, at_a_scale) in cases {
            assert_eq!((bytes(value).as_str(), tick(value).as_str()), (expected, at_a_scale));
        }
        for (least, expected) in [(0.0, 1.0), (1.5, 2.0), (21e6, 50e6), (51e6, 100e6)] {
            assert_eq!(step(least), expected);
        }
        for (value, expected) in [(0.0, "0"), (1.04, "1"), (12.25, "12.2")] {
            assert_eq!(number(value), expected);
        }
    }
}
