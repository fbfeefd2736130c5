//! Tests what a push shows on a terminal: while it runs, and at its end.

use crate::support::Terminal;
use crate::support::prelude::*;

const ROWS: u16 = 24;

/// A server, and two images whose push takes about two seconds.
struct TerminalFixture {
    scratch: Scratch,
    server: Server,
    imgsync: Imgsync,
}

impl TerminalFixture {
    fn new() -> Self {
        let scratch = Scratch::new();
        let server = Server::start(&scratch.folder("root"));
        let imgsync = Imgsync::new(&scratch.folder("home"));
        Self {
            scratch,
            server,
            imgsync,
        }
    }

    /// Returns a command that pushes an archive. The upload takes about two seconds.
    fn push(&self, archive: &Path) -> Command {
        let mut command = self.imgsync.command();
        let remote = format!("{}/app:v1", self.server.address());
        command.args(["push", "--limit-rate", "3MB"]);
        command.arg(archive).arg(remote);
        command
    }

    /// Writes an image of two compressed layers.
    fn compressed(&self) -> PathBuf {
        let path = self.scratch.path("layout.tar");
        archive::write_tar(&image().oci_layout("v1"), &path);
        path
    }

    /// Writes an image of two layers. The second one has other bytes than the config states.
    fn damaged(&self) -> PathBuf {
        let path = self.scratch.path("damaged.tar");
        let mut image = image();
        image.layers[1] = layer("large", noise(7, 3_000_000));
        archive::write_tar(&image.docker_archive("app:v1"), &path);
        path
    }
}

fn image() -> Image {
    let layers = [("small", 2_000_000), ("large", 4_000_000)];
    let layers = layers.map(|(name, size)| layer(name, noise(3, size)));
    Image::new(layers.to_vec())
}

/// Returns the totals that were drawn, without repetitions.
fn drawn_totals(terminal: &Terminal) -> Vec<String> {
    let output = terminal.output();
    let totals = output.split("total ").skip(1);
    let totals = totals.filter_map(|rest| rest.split_once(" / ")?.1.split("\x1b[K").next());
    let mut totals: Vec<_> = totals.map(|total| total.trim().to_owned()).collect();
    totals.dedup();
    totals
}

/// Returns an error with its hint, as it is written where there is no terminal.
fn error_of(outcome: &Outcome) -> String {
    let error = outcome.stderr.find("error: ").expect("an error");
    outcome.stderr[error..].trim_end().to_owned()
}

#[test]
fn the_error_is_the_last_text_on_terminals_of_every_width() {
    let fixture = TerminalFixture::new();
    let archive = fixture.damaged();
    let expected = error_of(&run(&mut fixture.push(&archive)));
    assert!(expected.contains("\nhint: "), "{expected}");
    for columns in [30, 47, 80, 200] {
        let mut terminal = Terminal::start(fixture.push(&archive), ROWS, columns);
        let (code, screen) = terminal.wait();
        assert_eq!(code, Some(3), "{screen}");
        assert!(screen.ends_with(&expected), "{columns} columns:\n{screen}");
        assert!(!screen.contains("total "), "{screen}");
    }
}

#[test]
fn ctrl_c_leaves_the_error_and_no_bars() {
    let fixture = TerminalFixture::new();
    let archive = fixture.compressed();
    for columns in [40, 80] {
        fixture.imgsync.clear_cache();
        let mut terminal = Terminal::start(fixture.push(&archive), ROWS, columns);
        terminal.wait_for("total ");
        // The text on a terminal whose size changes may be broken, but not the text at the end.
        terminal.resize(columns - 7);
        terminal.type_text("\x03");
        let (code, screen) = terminal.wait();
        assert_eq!(code, Some(130), "{screen}");
        let expected = "error: interrupted\n\
                        hint: run the same command again: it continues where this run stopped";
        assert!(screen.ends_with(expected), "{screen}");
        assert!(!screen.contains("total "), "{screen}");
    }
}

#[test]
fn a_push_shows_its_total_at_once_and_its_result_at_the_end() {
    let fixture = TerminalFixture::new();
    let mut terminal = Terminal::start(fixture.push(&fixture.compressed()), ROWS, 100);
    terminal.wait_for("/s, ");
    terminal.wait_for(" left");
    let (code, screen) = terminal.wait();
    assert_eq!(code, Some(0), "{screen}");
    let totals = drawn_totals(&terminal);
    assert_eq!(totals.len(), 1, "{totals:?}");
    let lines: Vec<_> = screen.lines().collect();
    let (result, blobs) = lines.split_last().expect("lines");
    assert_eq!(blobs.len(), 3, "{screen}");
    for (name, size) in [
        ("layer ", ": sent 2.1 MB"),
        ("layer ", ": sent 4.2 MB"),
        ("config", ""),
    ] {
        let is_blob = |line: &&&str| line.starts_with(name) && line.ends_with(size);
        assert!(blobs.iter().any(|line| is_blob(&line)), "{screen}");
    }
    assert!(result.contains(": sent 6.3 MB, saved 0 B, "), "{screen}");
}

#[test]
fn layers_are_named_by_the_instructions_that_made_them() {
    let fixture = TerminalFixture::new();
    let path = fixture.scratch.path("named.tar");
    // The second layer takes long to compress, but not to send.
    let layers = vec![
        layer("small", noise(1, 2_000_000)),
        layer("large", vec![0; 100_000_000]),
    ];
    let mut image = Image::new(layers);
    let config = String::from_utf8(image.config).unwrap();
    let created_by = r#""comment":"made by a test","created_by":"COPY app /app # buildkit""#;
    image.config = config
        .replace(r#""comment":"made by a test""#, created_by)
        .into();
    archive::write_tar(&image.docker_archive("app:v1"), &path);
    let mut terminal = Terminal::start(fixture.push(&path), ROWS, 100);
    let (code, screen) = terminal.wait();
    assert_eq!(code, Some(0), "{screen}");
    for layer in &image.layers {
        let short = &digest(layer)["sha256:".len()..][..12];
        let name = format!("layer {short} (COPY app /app)");
        assert!(screen.contains(&format!("{name}: sent ")), "{screen}");
        // The layers are compressed while the user watches.
        assert!(terminal.output().contains(&format!("{name} ")), "{screen}");
    }
    assert!(terminal.output().contains("still to compress"), "{screen}");
}

#[test]
fn colours_can_be_switched_off() {
    let fixture = TerminalFixture::new();
    let archive = fixture.damaged();
    for (no_color, is_coloured) in [(None, true), (Some("1"), false)] {
        let mut command = fixture.push(&archive);
        command.envs(no_color.map(|value| ("NO_COLOR", value)));
        let mut terminal = Terminal::start(command, ROWS, 80);
        terminal.wait();
        let output = terminal.output();
        let is_red = output.contains("\x1b[31m");
        assert_eq!(is_red, is_coloured, "{output:?}");
        // Without colours, only the cursor is moved and lines are erased.
        let is_styled = output.contains('m')
            && output.split("\x1b[").skip(1).any(|sequence| {
                sequence
                    .trim_start_matches(|c: char| c.is_ascii_digit() || c == ';')
                    .starts_with('m')
            });
        assert_eq!(is_styled, is_coloured, "{output:?}");
    }
}
