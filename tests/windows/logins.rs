//! Tests logins: in Docker's file in the user's profile, and in a credential helper.

use std::io::{Seek as _, Write as _};

use super::WindowsFixture;
use crate::support::prelude::*;
use crate::support::wine;
use serde_json::{Value, json};

/// The user alice with the password `secret`, from `htpasswd -Bbn alice secret`.
const HTPASSWD: &str = "alice:$2y$05$QPa1xegaJPiCtMHwmQ.0x.Tp5gZebiXTQONeDUdL3y1Fn8AElzEdK\n";

struct LoginFixture {
    windows: WindowsFixture,
    registry: StockRegistry,
    archive: String,
}

impl LoginFixture {
    fn new() -> Self {
        let windows = WindowsFixture::new();
        let htpasswd = windows.scratch.path("htpasswd");
        std::fs::write(&htpasswd, HTPASSWD).unwrap();
        let auth = format!("auth: {{htpasswd: {{realm: here, path: {htpasswd:?}}}}}\n");
        let root = windows.scratch.folder("stock");
        let (archive, _) = windows.write_image();
        Self {
            registry: StockRegistry::start_configured(&root, "", "", &auth),
            archive: wine::path(&archive),
            windows,
        }
    }

    fn host(&self) -> String {
        self.registry.address().to_string()
    }

    fn config(&self) -> PathBuf {
        self.windows.scratch.path("home/.docker/config.json")
    }

    fn read_config(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.config()).unwrap()).unwrap()
    }

    fn write_config(&self, bytes: &[u8]) {
        std::fs::create_dir_all(self.config().parent().unwrap()).unwrap();
        std::fs::write(self.config(), bytes).unwrap();
    }

    /// Returns the tool with the folder of the credential helper in PATH.
    fn command(&self) -> Command {
        let mut command = self.windows.command();
        // wine adds these folders to the PATH of Windows.
        let folder = self.windows.scratch.folder("programs");
        command.env("WINEPATH", wine::path(&folder));
        command
    }

    fn push(&self) -> Outcome {
        let remote = format!("{}/app:v1", self.host());
        run(self.command().args(["push", &self.archive, &remote]))
    }

    /// Logs in as alice, with a password that ends in a line break of Windows.
    fn log_in(&self) {
        let mut password = tempfile::tempfile().unwrap();
        password.write_all(b"secret\r\n").unwrap();
        password.rewind().unwrap();
        let mut command = self.command();
        command.args([
            "login",
            &self.host(),
            "--username",
            "alice",
            "--password-stdin",
        ]);
        run(command.stdin(password)).succeeded();
    }

    fn log_out(&self) {
        run(self.command().args(["logout", &self.host()])).succeeded();
        self.push().failed(5, &["imgsync login"]);
    }
}

#[test]
#[ignore = "tests/targets.sh runs it"]
fn a_login_is_stored_in_the_profile() {
    let fixture = LoginFixture::new();
    fixture.push().failed(5, &["imgsync login"]);
    fixture.log_in();
    let auths = json!({fixture.host(): {"auth": "YWxpY2U6c2VjcmV0"}});
    assert_eq!(fixture.read_config()["auths"], auths);
    fixture.push().succeeded();
    fixture.log_out();
}

#[test]
#[ignore = "tests/targets.sh runs it"]
fn files_of_windows_editors_are_read() {
    let fixture = LoginFixture::new();
    let auths = json!({"auths": {fixture.host(): {"auth": "YWxpY2U6c2VjcmV0"}}});
    let text = serde_json::to_string_pretty(&auths)
        .unwrap()
        .replace('\n', "\r\n");
    let with_mark = format!("\u{feff}{text}");
    let utf16: Vec<u8> = with_mark
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    for bytes in [text.as_bytes(), with_mark.as_bytes(), &utf16] {
        fixture.write_config(bytes);
        fixture.push().succeeded();
    }
}

#[test]
#[ignore = "tests/targets.sh runs it"]
fn a_credential_helper_is_found_in_path() {
    let fixture = LoginFixture::new();
    let folder = fixture.windows.scratch.folder("programs");
    let helper = folder.join("docker-credential-wincred.exe");
    std::fs::copy(wine::helper(), helper).unwrap();
    // As Docker Desktop writes it.
    fixture.write_config(br#"{"credsStore": "wincred"}"#);
    fixture.push().failed(5, &["imgsync login"]);
    fixture.log_in();
    let config = json!({"credsStore": "wincred", "auths": {fixture.host(): {}}});
    assert_eq!(fixture.read_config(), config);
    assert!(folder.join("login.json").exists());
    fixture.push().succeeded();
    fixture.log_out();
    assert!(!folder.join("login.json").exists());
}
