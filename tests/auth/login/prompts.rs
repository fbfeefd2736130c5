//! Tests that an interrupted password prompt leaves the terminal as it was.

use super::LoginFixture;
use crate::support::Terminal;
use crate::support::prelude::*;

/// Interrupts a command at its prompt for a password. Returns what is on the screen at the end, with
/// the settings of the terminal.
fn interrupt_prompt(mut shell: Command, command: &str) -> String {
    let script = format!("trap : INT; {command}; echo \"code $?\"; stty -a");
    shell.args(["-c", &script]);
    let mut terminal = Terminal::start(shell, 24, 200);
    terminal.wait_for("assword");
    terminal.type_text("\x03");
    terminal.wait().1
}

#[test]
fn typed_text_is_shown_again_after_ctrl_c() {
    let fixture = LoginFixture::new();
    let program = |path: &Path| path.display().to_string();
    let tool = program(Path::new(env!("CARGO_BIN_EXE_imgsync")));
    let server = program(&crate::support::server::binary());
    let file = program(&fixture.scratch.path("htpasswd"));
    let login = format!("{tool} login registry.example.com --username alice");
    let htpasswd = format!("{server} htpasswd {file} alice");
    for command in [login, htpasswd] {
        let mut shell = Command::new("sh");
        shell.env("HOME", fixture.home()).env("LC_ALL", "C");
        let screen = interrupt_prompt(shell, &command);
        assert!(screen.contains("\nerror: interrupted"), "{screen}");
        // Nothing continues where a login has stopped.
        assert!(!screen.contains("hint:"), "{screen}");
        assert!(screen.contains("\ncode 130"), "{screen}");
        assert!(screen.contains(" echo "), "{screen}");
    }
}
