//! Runs the tool for Windows under wine, with the home folder of a test as the user's profile.
//!
//! `tests/targets.sh` builds the program, and sets the variables.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The variable with the path of `imgsync.exe`.
const PROGRAM: &str = "IMGSYNC_TESTS_WINDOWS";
/// The variable with a folder of wine (`WINEPREFIX`), which is copied for each home folder.
const TEMPLATE: &str = "IMGSYNC_TESTS_WINE";
const LOADER: &str = "/usr/lib/wine/wine64";
const SERVER: &str = "/usr/lib/wine/wineserver64";
/// The folder of wine below the home folder of a test.
const PREFIX: &str = ".wine";

/// Returns the path of `imgsync.exe`, if the tests run the program for Windows.
pub fn program() -> Option<PathBuf> {
    std::env::var_os(PROGRAM).map(PathBuf::from)
}

/// Returns the path of another program that is built beside `imgsync.exe`.
pub fn helper() -> PathBuf {
    let program = program().expect("the variables of tests/targets.sh");
    program.with_file_name("windows_helper.exe")
}

/// Returns a command that runs a program for Windows in an empty environment.
pub fn command(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(LOADER);
    command.arg(program).env_clear();
    let prefix = prepare_prefix(home);
    keep_server(&prefix);
    command.env("WINEPREFIX", prefix);
    command.env("WINEDEBUG", "-all");
    // Names of files and arguments are converted from this locale.
    command.env("LC_ALL", "C.UTF-8");
    command
}

/// Starts wine's server for a folder of wine, unless it runs, and keeps it for a while after each program.
/// Otherwise it ends with a program, and the next one may connect to it at that moment.
fn keep_server(prefix: &Path) {
    let mut server = Command::new(SERVER);
    let server = server.arg("--persistent=20").env("WINEPREFIX", prefix);
    // The server may run already.
    let _ = server.stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// Ends wine's server for a home folder, which can keep the sockets of a killed program open for
/// seconds. Windows closes them at once.
pub fn stop_server(home: &Path) {
    let mut server = Command::new(SERVER);
    let server = server.arg("--kill").env("WINEPREFIX", home.join(PREFIX));
    // The server may have ended.
    let _ = server.status();
}

/// Returns the path of a file as a program for Windows spells it, on the drive of the root folder.
pub fn path(file: &Path) -> String {
    format!("Z:{}", file.to_str().expect("UTF-8").replace('/', "\\"))
}

/// Returns the path of the profile of the user as Windows spells it, which is the home folder of a test.
pub fn profile() -> String {
    format!("C:\\users\\{}", user())
}

/// Returns the name of the user, for whom wine has created a profile beside that of all users.
fn user() -> String {
    let profiles = std::fs::read_dir(template().join("drive_c/users")).expect("profiles");
    let profiles = profiles.map(|entry| entry.expect("a profile").file_name());
    let mut users = profiles.filter(|name| name != "Public");
    let user = users.next().expect("a profile of the user");
    user.into_string().expect("UTF-8")
}

fn template() -> PathBuf {
    std::env::var_os(TEMPLATE).expect(TEMPLATE).into()
}

/// Creates the folder of wine for a home folder, once: a registry of its own, the system of the
/// template, and the home folder as the profile of the user.
fn prepare_prefix(home: &Path) -> PathBuf {
    let prefix = home.join(PREFIX);
    if prefix.exists() {
        return prefix;
    }
    let template = template();
    let users = prefix.join("drive_c/users");
    std::fs::create_dir_all(&users).expect("a folder");
    std::fs::create_dir(prefix.join("dosdevices")).expect("a folder");
    for name in ["system.reg", "user.reg", "userdef.reg", ".update-timestamp"] {
        std::fs::copy(template.join(name), prefix.join(name)).expect(name);
    }
    for (target, link) in [
        (Path::new("../drive_c"), prefix.join("dosdevices/c:")),
        (Path::new("/"), prefix.join("dosdevices/z:")),
        (
            &template.join("drive_c/windows"),
            prefix.join("drive_c/windows"),
        ),
        (home, users.join(user())),
        (Path::new("tmp"), home.join("Temp")),
    ] {
        symlink(target, link).expect("a link");
    }
    prefix
}
