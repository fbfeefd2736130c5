//! The log on standard error: one line per event, as text or JSON. Start reading at [`start`].

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

/// The target of access log lines. They do not depend on the log level, as in the stock registry.
pub(crate) const ACCESS_LOG_TARGET: &str = "access";

/// A handle to change the filter of the running log.
#[derive(Debug)]
pub struct LogHandle(reload::Handle<Targets, Registry>);

impl LogHandle {
    /// Applies the level and the access log switch. The format of lines does not change.
    pub fn apply(&self, settings: &LogConfig) {
        if let Err(error) = self.0.reload(targets(settings)) {
            tracing::error!(%error, "cannot change the log level");
        }
    }
}

/// Starts the log.
///
/// # Errors
/// When a log has been started before.
pub fn start(settings: &LogConfig) -> Result<LogHandle, String> {
    let (filter, handle) = reload::Layer::new(targets(settings));
    let formatter = LogLineFormatter {
        formatter: settings.formatter,
        fields: settings.fields.clone(),
    };
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .event_format(formatter);
    tracing_subscriber::registry()
        .with(filter)
        .with(layer)
        .try_init()
        .map_err(|error| error.to_string())?;
    Ok(LogHandle(handle))
}

/// Returns the filter of events.
fn targets(settings: &LogConfig) -> Targets {
    let level = match settings.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let access = if settings.is_access_log_enabled {
        LevelFilter::INFO
    } else {
        LevelFilter::OFF
    };
    Targets::new()
        .with_default(level.min(LevelFilter::INFO))
        .with_target(env!("CARGO_CRATE_NAME"), level)
        .with_target(ACCESS_LOG_TARGET, access)
}

/// Formats events as lines of text or JSON.
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
        let mut fields = EventFields::default();
        event.record(&mut fields);
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let line = match self.formatter {
            LogFormat::Text => self.format_text(&time, event.metadata().level(), &fields, &writer),
            LogFormat::Json => self.format_json(&time, event.metadata().level(), fields),
        };
        writeln!(writer, "{line}")
    }
}

impl LogLineFormatter {
    fn format_text(
        &self,
        time: &str,
        level: &tracing::Level,
        event: &EventFields,
        writer: &Writer<'_>,
    ) -> String {
        let color = match *level {
            tracing::Level::ERROR => 31,
            tracing::Level::WARN => 33,
            tracing::Level::INFO => 32,
            _ => 34,
        };
        let level = if writer.has_ansi_escapes() {
            format!("\x1b[{color}m{level:>5}\x1b[0m")
        } else {
            format!("{level:>5}")
        };
        // Text from clients in a message must not start a new line.
        let message = if event.message.contains(char::is_control) {
            event.message.escape_debug().to_string()
        } else {
            event.message.clone()
        };
        let mut line = format!("{time} {level} {message}");
        let values = event
            .values
            .iter()
            .map(|(name, value)| (*name, format_value(value)));
        let configured = self.fields.iter();
        let configured =
            configured.map(|(name, value)| (&**name, format_value(&value.clone().into())));
        for (name, value) in values.chain(configured) {
            line += &format!(" {name}={value}");
        }
        line
    }

    /// Formats an event as JSON, with the field names of the stock registry.
    fn format_json(&self, time: &str, level: &tracing::Level, event: EventFields) -> String {
        let mut object = Map::new();
        object.insert("time".to_owned(), time.into());
        object.insert("level".to_owned(), level.as_str().to_lowercase().into());
        object.insert("msg".to_owned(), event.message.into());
        let configured = self
            .fields
            .iter()
            .map(|(name, value)| (name.clone(), value.clone().into()));
        object.extend(configured);
        let values = event.values.into_iter();
        object.extend(values.map(|(name, value)| (name.to_owned(), value)));
        Value::Object(object).to_string()
    }
}

/// Formats a value in a line of text, in quotes unless it is one word.
fn format_value(value: &Value) -> String {
    match value {
        Value::String(text) => {
            let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"';
            if !text.is_empty() && text.bytes().all(is_plain) {
                text.clone()
            } else {
                format!("{text:?}")
            }
        }
        other => other.to_string(),
    }
}

/// The message and the fields of an event.
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

    fn formatter(formatter: LogFormat) -> LogLineFormatter {
        LogLineFormatter {
            formatter,
            fields: vec![("service".to_owned(), "the registry".to_owned())],
        }
    }

    fn event() -> EventFields {
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
    fn an_event_is_one_line() {
        let mut text = String::new();
        let line = formatter(LogFormat::Text).format_text(
            "now",
            &tracing::Level::INFO,
            &event(),
            &Writer::new(&mut text),
        );
        let expected = "now  INFO two\\nlines path=\"/v2/a b\\n\\\"\" status=200 plain=word \
            none=\"\" service=\"the registry\"";
        assert_eq!(line, expected);
        let json = formatter(LogFormat::Json).format_json("now", &tracing::Level::WARN, event());
        let expected = "{\"time\":\"now\",\"level\":\"warn\",\"msg\":\"two\\nlines\",\
            \"service\":\"the registry\",\"path\":\"/v2/a b\\n\\\"\",\"status\":200,\
            \"plain\":\"word\",\"none\":\"\"}";
        assert_eq!(json, expected);
    }
}
