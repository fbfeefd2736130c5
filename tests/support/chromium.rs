//! Drives Chromium by the DevTools protocol over a pipe, which needs neither a port nor a library.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};

use super::Scratch;
use super::run::wait_until;

/// How long Chromium may take for one command.
const DEADLINE: Duration = Duration::from_secs(60);

/// Passes the pipes of the process to Chromium as the file descriptors that it expects.
const LAUNCH: &str = r#"exec "$0" "$@" 3<&0 4>&1 0</dev/null 1>&2"#;

/// A running Chromium with one tab, killed on drop.
pub struct Chromium {
    process: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    session: String,
    last_id: u64,
    /// What pages wrote to the console: errors, and violations of their policy.
    pub problems: Vec<String>,
    _profile: Scratch,
}

impl Chromium {
    /// Starts Chromium without a window. Certificates are not verified.
    pub fn start() -> Self {
        let profile = Scratch::new();
        let mut process = Command::new("sh")
            .args([
                "-c",
                LAUNCH,
                "chromium",
                "--headless=new",
                "--remote-debugging-pipe",
            ])
            // The tests run as root and in containers, where the sandbox does not work.
            .args([
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
            ])
            .args([
                "--ignore-certificate-errors",
                "--disable-background-networking",
                "--no-proxy-server",
            ])
            .args([
                "--hide-scrollbars",
                "--force-color-profile=srgb",
                "--lang=en-US",
            ])
            .arg(format!("--user-data-dir={}", profile.root().display()))
            .env("HOME", profile.root())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Chromium");
        let input = process.stdin.take().expect("a pipe");
        let output = BufReader::new(process.stdout.take().expect("a pipe"));
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for message in output.split(0) {
                let message = message
                    .ok()
                    .and_then(|text| serde_json::from_slice(&text).ok());
                if message.is_none_or(|message| sender.send(message).is_err()) {
                    return;
                }
            }
        });
        let mut chromium = Self {
            process,
            input,
            messages,
            session: String::new(),
            last_id: 0,
            problems: Vec::new(),
            _profile: profile,
        };
        let target = chromium.command("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = chromium.command("Target.attachToTarget", attach);
        chromium.session = text(&attached["sessionId"]);
        for domain in ["Page", "Runtime", "Log"] {
            chromium.command(&format!("{domain}.enable"), json!({}));
        }
        chromium
    }

    /// Sends a command, and returns its result. Panics if it fails.
    pub fn command(&mut self, method: &str, parameters: Value) -> Value {
        self.try_command(method, parameters)
            .unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    fn try_command(&mut self, method: &str, parameters: Value) -> Result<Value, String> {
        self.last_id += 1;
        let mut message = json!({"id": self.last_id, "method": method, "params": parameters});
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.input.write_all(&bytes).expect("a running Chromium");
        let end = Instant::now() + DEADLINE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let received = self.messages.recv_timeout(left);
            let received = received.unwrap_or_else(|error| panic!("{method}: {error}"));
            if received["id"] == self.last_id {
                return match received.get("error") {
                    Some(error) => Err(error.to_string()),
                    None => Ok(received["result"].clone()),
                };
            }
            self.note_problem(&received);
        }
    }

    /// Remembers what a page complains about.
    fn note_problem(&mut self, event: &Value) {
        let parameters = &event["params"];
        match event["method"].as_str() {
            Some("Runtime.exceptionThrown" | "Page.javascriptDialogOpening") => {
                self.problems.push(parameters.to_string());
            }
            Some("Log.entryAdded") if parameters["entry"]["level"] == "error" => {
                self.problems.push(parameters["entry"].to_string());
            }
            _ => {}
        }
    }

    /// Opens an address, and waits until the page is complete.
    pub fn open(&mut self, url: &str) {
        let opened = self.command("Page.navigate", json!({"url": url}));
        assert!(opened.get("errorText").is_none(), "{url}: {opened}");
        self.wait_for("true");
    }

    /// Evaluates an expression as if the user had just pressed a key.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        self.try_evaluate(expression)
            .unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    fn try_evaluate(&mut self, expression: &str) -> Result<Value, String> {
        let parameters = json!({
            "expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true,
        });
        let result = self.try_command("Runtime.evaluate", parameters)?;
        match result.get("exceptionDetails") {
            Some(details) => Err(details.to_string()),
            None => Ok(result["result"]["value"].clone()),
        }
    }

    /// Waits until the page is complete and an expression is true. An error counts as false: a page may
    /// be loading.
    pub fn wait_for(&mut self, expression: &str) {
        let condition = format!("document.readyState === 'complete' && ({expression})");
        let end = Instant::now() + DEADLINE;
        loop {
            let found = self.try_evaluate(&condition);
            if found.as_ref().is_ok_and(|value| *value == json!(true)) {
                return;
            }
            if Instant::now() > end {
                let shown = self.evaluate("location.href + '\\n' + document.body.innerText");
                panic!("{expression} is {found:?} at {}", text(&shown));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the page shows a text.
    pub fn wait_for_text(&mut self, shown: &str) {
        self.wait_for(&format!(
            "document.body.innerText.includes({})",
            json!(shown)
        ));
    }

    /// Clicks the element that a selector finds.
    pub fn click(&mut self, selector: &str) {
        self.evaluate(&format!(
            "document.querySelector({}).click()",
            json!(selector)
        ));
    }

    /// Clicks the link or button with a text.
    pub fn click_text(&mut self, shown: &str) {
        let find = format!(
            "[...document.querySelectorAll('a, button, summary')].find(e => e.innerText.trim() === {}).click()",
            json!(shown)
        );
        self.evaluate(&find);
    }

    /// Types a text into the field that a selector finds.
    pub fn type_into(&mut self, selector: &str, typed: &str) {
        self.evaluate(&format!(
            "document.querySelector({}).focus()",
            json!(selector)
        ));
        self.command("Input.insertText", json!({"text": typed}));
    }

    /// Presses the tab key.
    pub fn press_tab(&mut self) {
        for kind in ["rawKeyDown", "keyUp"] {
            let key =
                json!({"type": kind, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9});
            self.command("Input.dispatchKeyEvent", key);
        }
    }

    /// Sets the size of the window in CSS pixels.
    pub fn resize(&mut self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 2, "mobile": width < 600});
        self.command("Emulation.setDeviceMetricsOverride", size);
    }

    /// Makes the system seem to prefer `light` or `dark`.
    pub fn prefer(&mut self, scheme: &str) {
        let feature = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.command("Emulation.setEmulatedMedia", feature);
    }

    /// Makes the browser ask for these languages.
    pub fn accept_language(&mut self, languages: &str) {
        let agent = self.evaluate("navigator.userAgent");
        let parameters = json!({"userAgent": agent, "acceptLanguage": languages});
        self.command("Network.setUserAgentOverride", parameters);
    }

    /// Saves a picture of the whole page in the target folder.
    pub fn save_picture(&mut self, name: &str) {
        let size = self.command("Page.getLayoutMetrics", json!({}))["cssContentSize"].clone();
        let clip =
            json!({"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1});
        let parameters = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let picture = self.command("Page.captureScreenshot", parameters);
        let bytes = base64::engine::general_purpose::STANDARD.decode(text(&picture["data"]));
        let folder = pictures();
        std::fs::create_dir_all(&folder).expect("a folder for pictures");
        std::fs::write(folder.join(format!("{name}.png")), bytes.expect("Base64")).expect("a file");
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // Its other processes end with it; a kill would leave them for a moment.
        let _ = self
            .input
            .write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        let process = &mut self.process;
        if !std::thread::panicking() {
            wait_until("Chromium to end", || process.try_wait().ok().flatten());
        }
        let _ = process.kill();
        let _ = process.wait();
    }
}

/// The folder with the pictures of all tests.
fn pictures() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_imgsync"))
        .ancestors()
        .nth(2)
        .expect("the target folder")
        .join("page-screenshots")
}

/// Returns a JSON string as text.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
