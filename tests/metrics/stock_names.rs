//! Dashboards for the stock registry work with the server.

use super::{send_requests, series, start};
use crate::support::prelude::*;

#[test]
fn requests_have_the_names_labels_and_buckets_of_the_stock_registry() {
    if !programs_available(&["docker-registry"]) {
        return;
    }
    let scratch = Scratch::new();
    let (server, debug) = start(&scratch);
    send_requests(server.address());
    let ours = series(&http::get(debug, "/metrics").text());

    // The stock registry does not tell the port that it chose for this address.
    let debug_port = ReservedPort::new();
    let stock_debug = debug_port.address();
    let http_config = format!(", debug: {{addr: '{stock_debug}', prometheus: {{enabled: true}}}}");
    let stock = StockRegistry::start_configured(&scratch.folder("stock"), "", &http_config, "");
    send_requests(stock.address());
    let theirs = series(&http::get(stock_debug, "/metrics").text());

    let is_compared = |name: &&String| name.starts_with("registry_http_");
    let compared: Vec<_> = theirs.iter().filter(is_compared).collect();
    assert!(compared.len() > 100, "{compared:?}");
    let missing: Vec<_> = compared
        .into_iter()
        .filter(|name| !ours.contains(&normalized(name)))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}\n{ours:#?}");
}

/// Returns a time series with the upper bound of its bucket as a whole number: Go writes large ones
/// with an exponent.
fn normalized(series: &str) -> String {
    let Some((start, rest)) = series.split_once("le=\"") else {
        return series.to_owned();
    };
    let (bound, end) = rest.split_once('"').unwrap();
    match bound.parse::<f64>() {
        Ok(number) if number.is_finite() => format!("{start}le=\"{number}\"{end}"),
        _ => series.to_owned(),
    }
}
