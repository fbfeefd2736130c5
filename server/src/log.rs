//! The log, on standard error: one line an event, as text or JSON.

use std::fmt;
use std::io::{self, IsTerminal as _};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogConfig, LogFormat, LogLevel};

/// Where the lines about requests belong: they are written or not whatever the level is, as in
/// the stock registry.
pub(crate) const ACCESS_LOG_TARGET: &str = "access";

/// A log that is written, to change what of it is.
#[derive(Debug)]
pub struct LogHandle(reload::Handle<Targets, Registry>);

impl LogHandle {
    /// Takes up another level, and whether requests have lines. What lines look like stays.
    pub fn apply(&self, settings: &LogConfig) {
        if let Err(error) = self.0.reload(targets(settings)) {
            tracing::error!(%error, "the log stays as it was");
        }
    }
}

/// Begins to write the log.
///
/// # Errors
/// It was begun before.
pub fn start(settings: &LogConfig) -> Result<LogHandle, String> {
    let (ours, handle) = reload::Layer::new(targets(settings));
    let lines = LogLineFormatter {
        formatter: settings.formatter,
        fields: settings.fields.clone(),
    };
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .event_format(lines);
    tracing_subscriber::registry()
        .with(ours)
        .with(layer)
        .try_init()
        .map_err(|error| error.to_string())?;
    Ok(LogHandle(handle))
}

/// Which events are written.
fn targets(settings: &LogConfig) -> Targets {
    let level = match settings.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let access = match settings.is_access_log_enabled {
        true => LevelFilter::INFO,
        false => LevelFilter::OFF,
    };
    Targets::new()
        .with_default(level.min(LevelFilter::INFO))
        .with_target(env!("CARGO_CRATE_NAME"), level)
        .with_target(ACCESS_LOG_TARGET, access)
}

/// How events become lines.
struct LogLineFormatter {
    formatter: LogFormat,
    fields: Vec<(String, String)>,
}

impl<S, N> FormatEvent<S, N> for LogLineFormatter
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut said = EventFields::default();
        event.record(&mut said);
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let line = match self.formatter {
            LogFormat::Text => self.text(&time, event.metadata().level(), &said, &writer),
            LogFormat::Json => self.json(&time, event.metadata().level(), said),
        };
        writeln!(writer, "{line}")
    }
}

impl LogLineFormatter {
    fn text(
        &self,
        time: &str,
        level: &tracing::Level,
        said: &EventFields,
        writer: &Writer<'_>,
    ) -> String {
        let shown = match (writer.has_ansi_escapes(), *level) {
            (false, level) => format!("{level:>5}"),
            (true, tracing::Level::ERROR) => "\x1b[31mERROR\x1b[0m".to_owned(),
            (true, tracing::Level::WARN) => "\x1b[33m WARN\x1b[0m".to_owned(),
            (true, tracing::Level::INFO) => "\x1b[32m INFO\x1b[0m".to_owned(),
            (true, level) => format!("\x1b[34m{level:>5}\x1b[0m"),
        };
        // What a message quotes from outside must not make a line of its own.
        let message = match said.message.contains(char::is_control) {
            true => said.message.escape_debug().to_string(),
            false => said.message.clone(),
        };
        let mut line = format!("{time} {shown} {message}");
        let values = said
            .values
            .iter()
            .map(|(name, value)| (*name, format_value(value)));
        let fixed = self.fields.iter();
        let fixed = fixed.map(|(name, value)| (&**name, format_value(&value.clone().into())));
        for (name, value) in values.chain(fixed) {
            line += &format!(" {name}={value}");
        }
        line
    }

    /// The names are those of the stock registry's JSON.
    fn json(&self, time: &str, level: &tracing::Level, said: EventFields) -> String {
        let mut object = Map::new();
        object.insert("time".to_owned(), time.into());
        object.insert("level".to_owned(), level.as_str().to_lowercase().into());
        object.insert("msg".to_owned(), said.message.into());
        let fixed = self
            .fields
            .iter()
            .map(|(name, value)| (name.clone(), value.clone().into()));
        object.extend(fixed);
        let values = said.values.into_iter();
        object.extend(values.map(|(name, value)| (name.to_owned(), value)));
        Value::Object(object).to_string()
    }
}

/// A value in a line of text: quoted unless it is one plain word.
fn format_value(value: &Value) -> String {
    match value {
        Value::String(text) => {
            let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"';
            match !text.is_empty() && text.bytes().all(is_plain) {
                true => text.clone(),
                false => format!("{text:?}"),
            }
        }
        other => other.to_string(),
    }
}

/// What an event says.
#[derive(Default)]
struct EventFields {
    message: String,
    values: Vec<(&'static str, Value)>,
}

impl EventFields {
    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("message", value) => self.message = value.to_string(),
            (name, value) => self.values.push((name, value)),
        }
    }
}

impl Visit for EventFields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(formatter: LogFormat) -> LogLineFormatter {
        LogLineFormatter {
            formatter,
            fields: vec![("service".to_owned(), "the registry".to_owned())],
        }
    }

    fn said() -> EventFields {
        EventFields {
            message: "two\nlines".to_owned(),
            values: vec![
                ("path", "/v2/a b\n\"".into()),
                ("status", 200.into()),
                ("plain", "word".into()),
                ("none", "".into()),
            ],
        }
    }

    #[test]
    fn a_line_stays_a_line() {
        let mut text = String::new();
        let line = lines(LogFormat::Text).text(
            "now",
            &tracing::Level::INFO,
            &said(),
            &Writer::new(&mut text),
        );
        let expected = "now  INFO two\\nlines path=\"/v2/a b\\n\\\"\" status=200 plain=word \
            none=\"\" service=\"the registry\"";
        assert_eq!(line, expected);
        let json = lines(LogFormat::Json).json("now", &tracing::Level::WARN, said());
        let expected = "{\"time\":\"now\",\"level\":\"warn\",\"msg\":\"two\\nlines\",\
            \"service\":\"the registry\",\"path\":\"/v2/a b\\n\\\"\",\"status\":200,\
            \"plain\":\"word\",\"none\":\"\"}";
        assert_eq!(json, expected);
    }
}
