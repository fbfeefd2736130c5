//! Formats the table.

use std::time::Duration;

/// A row: its name, and the value of one server.
pub(super) type Row = (String, String);

pub(super) fn row(name: String, value: String) -> Row {
    (name, value)
}

/// Formats a duration as seconds or milliseconds.
pub(super) fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 0.1 {
        format!("{:.1} ms", seconds * 1000.0)
    } else {
        format!("{seconds:.2} s")
    }
}

/// Formats bytes as MiB.
pub(super) fn mebibytes(bytes: u64) -> String {
    let mebibytes = bytes as f64 / 1048576.0;
    if mebibytes < 1.0 {
        format!("{mebibytes:.3} MiB")
    } else {
        format!("{mebibytes:.0} MiB")
    }
}

/// Returns the Markdown lines of rows that all servers have in the same order.
pub(super) fn lines(servers: &[Vec<Row>]) -> Vec<String> {
    let names = servers.first().into_iter().flatten().map(|(name, _)| name);
    let line = |(number, name): (usize, &String)| {
        let value = |rows: &Vec<Row>| rows.get(number).map_or("", |(_, value)| value).to_owned();
        let values: Vec<String> = servers.iter().map(value).collect();
        format!("| {name} | {} |", values.join(" | "))
    };
    names.enumerate().map(line).collect()
}
