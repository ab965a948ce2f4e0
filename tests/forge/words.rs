//! Cap'n Proto's wire form by hand, for messages that no builder makes.
//!
//! A message is a table of segments, then their words. A pointer is one word,
//! and its offset counts from the word that follows it.

/// How long the elements of a list are, as a list pointer says it.
#[derive(Clone, Copy)]
pub enum Element {
    Void = 0,
    Byte = 2,
    Pointer = 6,
    /// Structs behind a tag; the pointer then counts words, the tag elements.
    Composite = 7,
}

/// A list pointer counts in 29 bits, a tag in 30, of which one is the sign.
pub const MOST_ELEMENTS: u32 = (1 << 29) - 1;

pub const fn struct_pointer(offset: i32, data: u16, pointers: u16) -> u64 {
    ((offset as u32) << 2) as u64 | (data as u64) << 32 | (pointers as u64) << 48
}

pub const fn list_pointer(offset: i32, element: Element, count: u32) -> u64 {
    (((offset as u32) << 2) | 1) as u64 | (element as u64) << 32 | (count as u64) << 35
}

/// The word before the elements of a composite list.
pub const fn tag(count: u32, data: u16, pointers: u16) -> u64 {
    struct_pointer(count as i32, data, pointers)
}

/// A pointer to a landing pad, `offset` words into the segment. The landing pad
/// of a double far pointer is itself a far pointer and a tag.
pub const fn far_pointer(segment: u32, offset: u32, double: bool) -> u64 {
    (offset << 3 | (double as u32) << 2 | 2) as u64 | (segment as u64) << 32
}

/// A message of these segments with an honest segment table.
pub fn message(segments: &[&[u64]]) -> Vec<u8> {
    let sizes: Vec<u32> = segments.iter().map(|words| words.len() as u32).collect();
    let mut message = segment_table(segments.len() as u32, &sizes);
    message.reserve(segments.iter().map(|words| 8 * words.len()).sum());
    message.extend(segments.iter().flat_map(|words| bytes(words)));
    message
}

/// A segment table that claims `count` segments and holds these sizes.
pub fn segment_table(count: u32, sizes: &[u32]) -> Vec<u8> {
    let mut table = count.wrapping_sub(1).to_le_bytes().to_vec();
    table.extend(sizes.iter().flat_map(|size| size.to_le_bytes()));
    table.resize(table.len().next_multiple_of(8), 0);
    table
}

pub fn bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// What a pointer points to.
#[derive(Clone, Copy)]
pub enum To {
    Null,
    /// At this word, with so many words of data and pointers.
    Struct(usize, u16, u16),
    /// At this word, of so many elements, or words if it is composite.
    List(usize, Element, u32),
}

impl To {
    /// The pointer that is itself at the word `from`.
    pub fn pointer(self, from: usize) -> u64 {
        let offset = |to: usize| to as i32 - from as i32 - 1;
        match self {
            To::Null => 0,
            To::Struct(to, data, pointers) => struct_pointer(offset(to), data, pointers),
            To::List(to, element, count) => list_pointer(offset(to), element, count),
        }
    }
}

/// Appends words and tells where they are.
pub fn add(words: &mut Vec<u64>, more: &[u64]) -> usize {
    words.extend(more);
    words.len() - more.len()
}

/// Appends a struct of these words of data and pointers.
pub fn add_struct<const D: usize, const P: usize>(
    words: &mut Vec<u64>,
    data: [u64; D],
    pointers: [To; P],
) -> To {
    let at = add(words, &data);
    for to in pointers {
        words.push(to.pointer(words.len()));
    }
    To::Struct(at, D as u16, P as u16)
}

/// Appends a list of `count` structs.
pub fn add_list<const D: usize, const P: usize>(
    words: &mut Vec<u64>,
    count: u32,
    element: impl Fn(u64) -> ([u64; D], [To; P]),
) -> To {
    let list = add(words, &[tag(count, D as u16, P as u16)]);
    for index in 0..count.into() {
        let (data, pointers) = element(index);
        add_struct(words, data, pointers);
    }
    To::List(list, Element::Composite, (words.len() - list - 1) as u32)
}

/// Appends bytes.
pub fn add_data(words: &mut Vec<u64>, data: &[u8]) -> To {
    let at = words.len();
    words.extend(data.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    }));
    To::List(at, Element::Byte, data.len() as u32)
}
