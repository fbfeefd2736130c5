//! Pairs of layers: one as it was built before, and one as it is built again with small changes.

use super::bytes::{Noise, noise};
use super::zip::{ZipStyle, zip};

/// The time of the old layers, and that of the new ones.
const OLD_TIME: u64 = 1_700_000_000;
const NEW_TIME: u64 = 1_710_000_000;

/// A layer and its successor, as tars.
pub struct LayerPair {
    pub name: &'static str,
    pub old: Vec<u8>,
    pub new: Vec<u8>,
}

/// Returns pairs of all kinds.
pub fn all() -> Vec<LayerPair> {
    let pair = |name, build: &dyn Fn(bool) -> Vec<u8>| LayerPair {
        name,
        old: build(false),
        new: build(true),
    };
    vec![
        pair("sources", &|is_new| sources(is_new, 2_000, 4_096)),
        pair("compiled Python", &|is_new| compiled_python(is_new, 500)),
        pair("jars", &jars),
        pair("binary with changed bytes", &|is_new| binary(is_new, false)),
        pair("binary with an insertion", &|is_new| binary(is_new, true)),
        pair("odd entries", &odd_entries),
    ]
}

/// Returns `count` files of `size` bytes. The new layer has new times, and one changed file.
pub fn sources(is_new: bool, count: u64, size: usize) -> Vec<u8> {
    let mut tar = TarWriter::new(is_new);
    for number in 0..count {
        let seed = if is_new && number == count / 2 {
            u64::MAX
        } else {
            number
        };
        let name = format!("usr/src/app/module{}/file{number}.js", number % 40);
        tar.file(&name, &text(seed, size));
    }
    tar.finish()
}

/// Returns `count` compiled files with the time of the source in each, and the sources.
pub fn compiled_python(is_new: bool, count: u64) -> Vec<u8> {
    let mut tar = TarWriter::new(is_new);
    for number in 0..count {
        let seed = if is_new && number == 7 {
            u64::MAX
        } else {
            number
        };
        let source = text(seed, 3_000);
        let mut compiled = vec![0xcb, 0x0d, b'\r', b'\n', 0, 0, 0, 0];
        compiled.extend((tar.time as u32 + number as u32 / 100).to_le_bytes());
        compiled.extend((source.len() as u32).to_le_bytes());
        compiled.extend(noise(seed, 4_000));
        tar.file(&format!("lib/package/m{number}.py"), &source);
        tar.file(
            &format!("lib/package/__pycache__/m{number}.cpython-312.pyc"),
            &compiled,
        );
    }
    tar.finish()
}

/// Returns three zip files: with data descriptors, without, and with stored members.
pub fn jars(is_new: bool) -> Vec<u8> {
    let mut tar = TarWriter::new(is_new);
    for style in [ZipStyle::Streamed, ZipStyle::Sized, ZipStyle::Stored] {
        tar.file(&format!("app/{style:?}.jar"), &zip(is_new, style, 200));
    }
    tar.finish()
}

/// Returns a file of 12 MiB in which some bytes change, with an insertion if wanted.
pub fn binary(is_new: bool, has_insertion: bool) -> Vec<u8> {
    let mut bytes = noise(1, 12 * 1024 * 1024);
    if is_new {
        for at in (0..bytes.len()).step_by(1_000_003) {
            bytes[at] ^= 0x55;
        }
        if has_insertion {
            bytes.splice(3_000_000..3_000_000, noise(2, 1_234));
        }
    }
    let mut tar = TarWriter::new(is_new);
    tar.file("usr/bin/server", &bytes);
    tar.finish()
}

/// Returns entries of all kinds, and bytes behind the last one.
pub fn odd_entries(is_new: bool) -> Vec<u8> {
    let mut tar = TarWriter::new(is_new);
    let long = format!("{}/file", "folder".repeat(30));
    tar.entry("dir/", b'5', b"", &[]);
    tar.entry("link", b'2', b"dir/target", &[]);
    tar.entry("hard", b'1', b"dir/file", &[]);
    tar.entry("dev/null", b'3', b"", &[]);
    tar.entry("PaxHeaders.0/file", b'x', b"", &pax("path", &long));
    tar.file("file", &text(1, 5_000));
    tar.entry(
        "././@LongLink",
        b'L',
        b"",
        &[long.as_bytes(), b"\0"].concat(),
    );
    tar.file(&long[..100], &text(2, 5_000));
    tar.entry("empty", b'0', b"", &[]);
    tar.file("tiny", b"63 bytes or fewer");
    // A link with a size, but without content.
    tar.bytes
        .extend(header("hard2", b'1', b"dir/file", 5_000, tar.time));
    // A size in base 256, a checksum with seven digits, and padding that is not zero.
    let mut large = header("large", b'0', b"", 700, tar.time);
    large[124..136].copy_from_slice(b"\x80\0\0\0\0\0\0\0\0\0\x02\xbc");
    set_checksum(&mut large);
    tar.bytes.extend(large);
    tar.content(&noise(3, 700));
    let mut seven = header("seven", b'0', b"", 700, tar.time);
    let sum = checksum(&seven);
    seven[148..156].copy_from_slice(format!("{sum:07o}\0").as_bytes());
    tar.bytes.extend(seven);
    tar.bytes.extend(noise(4, 1024));
    if is_new {
        tar.file("added", &text(9, 3_000));
    }
    let mut bytes = tar.finish();
    bytes.extend(noise(5, 3_000));
    bytes
}

/// Returns text that compresses to about a fifth.
pub fn text(seed: u64, size: usize) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "return ",
        "function ",
        "(value) ",
        "{\n",
        "}\n",
        "const ",
        "name",
        " = ",
        "await ",
        ";\n",
        "this.",
        "import ",
        "list",
        "[index] ",
        "if ",
        "else ",
    ];
    let mut choices = vec![0; size];
    Noise::new(seed).fill(&mut choices);
    let words = choices.iter().map(|choice| WORDS[usize::from(choice % 16)]);
    words.flat_map(str::bytes).take(size).collect()
}

/// Writes a tar as GNU tar and Go do.
pub struct TarWriter {
    bytes: Vec<u8>,
    /// The modification time of the first entry.
    time: u64,
}

impl TarWriter {
    pub fn new(is_new: bool) -> Self {
        Self {
            bytes: Vec::new(),
            time: if is_new { NEW_TIME } else { OLD_TIME },
        }
    }

    pub fn file(&mut self, name: &str, content: &[u8]) {
        self.entry(name, b'0', b"", content);
    }

    pub fn entry(&mut self, name: &str, kind: u8, target: &[u8], content: &[u8]) {
        // A build takes more than a second.
        let time = self.time + self.bytes.len() as u64 / 1_000_000;
        self.bytes
            .extend(header(name, kind, target, content.len(), time));
        self.content(content);
    }

    fn content(&mut self, content: &[u8]) {
        self.bytes.extend(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
    }

    /// Returns the tar with two zero blocks at its end.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }
}

fn header(name: &str, kind: u8, target: &[u8], size: usize, time: u64) -> [u8; 512] {
    let mut header = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, format!("{time:011o}\0").as_bytes());
    put(156, &[kind]);
    put(157, target);
    put(257, b"ustar\x0000root");
    put(297, b"root");
    set_checksum(&mut header);
    header
}

fn set_checksum(header: &mut [u8; 512]) {
    let sum = checksum(header);
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn checksum(header: &[u8; 512]) -> u64 {
    let mut blank = *header;
    blank[148..156].fill(b' ');
    blank.iter().map(|byte| u64::from(*byte)).sum()
}

/// Returns the content of a pax header with one record.
fn pax(key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    let len = (1..9).map(|digits| rest.len() + digits);
    let mut fitting = len.filter(|len| len.to_string().len() + rest.len() == *len);
    let len = fitting.next().expect("a record has a length");
    format!("{len}{rest}").into_bytes()
}
