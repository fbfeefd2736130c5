//! Counts requests, and renders the metrics of the server in the Prometheus text format.
//!
//! Names and labels are those of the stock registry where it has the metric; all others begin with
//! `imgsync_`. The values of labels are fixed words, names from the configuration, and the names of
//! the largest repositories, so the number of time series is bounded. This module must not read the
//! disk. Start reading at [`render`].

mod cache;
mod events;
mod families;
mod handler;
mod requests;
mod storage;

pub(crate) use self::handler::{OTHER_HANDLER, handler_of};
pub(crate) use self::requests::{RequestInFlight, RequestMetrics, RequestOutcome};

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{Encoder, TextEncoder};

use crate::registry::CollectionRecord;
use crate::status::ServerState;

/// The media type of the Prometheus text format.
pub(crate) use prometheus::TEXT_FORMAT as METRICS_CONTENT_TYPE;

/// Renders all metrics. `last_collection` is `None` if no garbage was collected yet.
///
/// # Errors
/// Returns the error of the encoder, which means that a metric has no name or no value.
pub(crate) fn render(
    requests: &RequestMetrics,
    server: &ServerState,
    last_collection: Option<&CollectionRecord>,
) -> Result<String, prometheus::Error> {
    let mut families = requests.gather();
    families.extend(cache::families(&server.upstreams.cache_figures()));
    families.extend(events::families(&server.events.status()));
    families.extend(storage::families(
        server.storage_meter.latest().as_deref(),
        server.collection_schedule.next(),
        last_collection,
    ));
    families.extend(ProcessCollector::for_self().collect());
    // A metric without a time series is not rendered.
    families.retain(|family| !family.get_metric().is_empty());
    let mut text = Vec::new();
    TextEncoder::new().encode(&families, &mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
